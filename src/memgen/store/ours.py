"""Folders that this project made: marked where they are made, and nothing else is ever removed.

    python -m memgen.store.ours clean-book _build      what `make clean` runs
    python -m memgen.store.ours clean-runs data/runs   what `make clean-runs` runs
    python -m memgen.store.ours environment .venv      the other folder that an environment was made for
    python -m memgen.store.ours renew .venv            remove such an environment
    python -m memgen.store.ours installed .venv        is this checkout's package installed there?

It needs the standard library alone: `make` asks before there is an environment, and the one that is
there may be another checkout's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from memgen.errors import ArtifactError, ParameterError, StudyError

ROOT = Path(__file__).resolve().parents[3]
#: the file in a folder that says that this project made it
MARK = ".made-by-memgen"
TEXT = (
    "Made by Think or Remember: `make clean` and `make clean-runs` may remove what it wrote here.\n"
)
#: what a book's folder holds; `press.build` and `press.pdf` write nothing else there
BOOK = (
    *("html", "html.unfinished", "source", "source.unfinished", "source.json", "jupyter_execute"),
    *(".doctrees", ".doctrees.unfinished", ".figures", ".slides", "think-or-remember.pdf"),
)
#: the file by which a book of ours is known that was built before there was a mark
STAMP = "html/.inputs.sha256"
#: of a book: the places, sizes and times of all files that it was built from
STATE = "html/.state.sha256"


def expanded(path: str | Path) -> Path:
    """The path, `~` and `~name` at its beginning as homes. `ParameterError`: nobody's of that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ParameterError(
            f"{path}: {Path(path).parts[0]} is nobody's home here; write the folder's whole path"
        ) from None


# -- marking ------------------------------------------------------------------------------------------
def claim_runs(home: Path) -> None:
    """Make a study's folder `<runs>/<preset>`; it is marked if nothing was there before."""
    home.mkdir(parents=True, exist_ok=True)
    if not any(home.iterdir()):
        (home / MARK).write_text(TEXT, encoding="utf8")


def claim_book(out: Path) -> None:
    """Make and mark a folder for a book, which overwrites what has the names in BOOK.

    Raises `ArtifactError` where such names are there already and no book of this project's.
    """
    out.mkdir(parents=True, exist_ok=True)
    if (out / MARK).is_file():
        return
    there = [name for name in BOOK if os.path.lexists(out / name)]
    if there and not (out / STAMP).is_file() and not _inside(out, "_build"):
        raise ArtifactError(
            f"{out} holds {', '.join(there)}, which this project did not make and a book would"
            " overwrite; choose another folder with OUT=..."
        )
    (out / MARK).write_text(TEXT, encoding="utf8")


# -- removing -----------------------------------------------------------------------------------------
def clean_book(out: Path) -> str:
    """Remove a built book; returns what was done, as a sentence. `ArtifactError`: it is not ours."""
    if nothing := _nothing_to_remove(out):
        return nothing
    if _inside(out, "_build"):
        shutil.rmtree(out)
        return f"removed {out}"
    if not (out / MARK).is_file():
        raise ArtifactError(
            f"{out} was not made by this project, so nothing in it was removed; a book of ours lies"
            f" in _build, or where {MARK} says so"
        )
    for name in (*BOOK, MARK):
        _remove(out / name)
    return _rest(out)


def clean_runs(runs: Path) -> str:
    """Remove the studies in a folder; returns what was done. `ArtifactError`: not ours, or at work."""
    if nothing := _nothing_to_remove(runs):
        return nothing
    studies = [path for path in sorted(runs.iterdir()) if path.is_dir() and not path.is_symlink()]
    own = _inside(runs, "data/runs")
    marked = [path for path in studies if (path / MARK).is_file()]
    if not own and not marked:
        raise ArtifactError(
            f"{runs} holds no study that this project marked as its own, so nothing in it was"
            " removed; remove by hand what you do not need"
        )
    inside = [path for one in studies for path in sorted(one.iterdir()) if path.is_dir()]
    for study in [runs, *studies, *inside]:  # those of another model lie a folder deeper
        if _at_work(study):
            raise ArtifactError(f"another run is working in {study}; stop it first")
    if own:
        shutil.rmtree(runs)
        return f"removed {runs}"
    for study in marked:
        shutil.rmtree(study)
    return _rest(runs)


def _nothing_to_remove(folder: Path) -> str:
    if folder.is_symlink():
        raise ArtifactError(
            f"{folder} is a link to {os.path.realpath(folder)}: nothing was removed; remove by hand"
            " what lies there"
        )
    if not folder.exists():
        return f"{folder} is not there: nothing to remove"
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is no folder: nothing was removed")
    return ""


def _inside(folder: Path, own: str) -> bool:
    """Is it this repository's folder `own`, or in it, links followed?"""
    home = ROOT / own
    return folder.resolve() == home or home in folder.resolve().parents


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rest(folder: Path) -> str:
    """Remove a folder that is empty now, and say what is left in one that is not."""
    left = sorted(path.name for path in folder.iterdir())
    if left:
        return f"removed what this project made in {folder}; kept {', '.join(left)}"
    folder.rmdir()
    return f"removed {folder}"


def _at_work(study: Path) -> bool:
    """Does a run hold the lock of this study?"""
    with contextlib.suppress(ImportError, FileNotFoundError):
        import fcntl  # there is none on Windows

        with open(study / ".study.lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:  # a file system without locks
                return False
    return False


# -- the virtual environment --------------------------------------------------------------------------
def made_for(environment: Path) -> Path | None:
    """The other folder that an environment in this checkout was made for; None: made for this one.

    A folder that was copied or moved brings its environment along: the scripts in it start the
    other folder's Python, and the package that it has installed is the other folder's.
    """
    if ROOT not in environment.resolve().parents:
        return None  # one that several checkouts may share, chosen with VENV=
    scripts = _scripts_of(environment)
    if scripts and os.path.realpath(scripts) != os.path.realpath(environment):
        return scripts.parent
    package = _package_of(environment)
    if package and os.path.realpath(package) != str(ROOT):
        return package
    return None


def _scripts_of(environment: Path) -> Path | None:
    """The environment whose Python the script `pip` in this one starts, by its first two lines."""
    with contextlib.suppress(OSError, IndexError):
        head = (environment / "bin" / "pip").read_text("utf8", errors="replace").splitlines()[:2]
        found = re.match(r"(?:#!|'''exec' )\"?(/.*)/bin/python", head["/bin/sh" in head[0]])
        return Path(found[1]) if found else None
    return None


def _package_of(environment: Path) -> Path | None:
    """The folder that the package was installed from."""
    for about in environment.glob("lib/python*/site-packages/memgen-*.dist-info/direct_url.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return Path(unquote(urlsplit(json.loads(about.read_text("utf8"))["url"]).path))
    return None


def renew(environment: Path) -> str:
    """Remove an environment that was made for another folder; returns a sentence, or nothing to say."""
    other = made_for(environment)
    if other is None:
        return ""
    if environment.is_symlink() or not (environment / "pyvenv.cfg").is_file():
        raise ArtifactError(f"{environment} is no virtual environment of ours; remove it by hand")
    shutil.rmtree(environment)
    return f"set-up: {environment} was made for {other}; it is made anew for this folder"


def installed(environment: Path) -> str:
    """Nothing to say if this checkout's package is installed there. `ArtifactError`: it is not."""
    package = _package_of(environment)
    if package is None or os.path.realpath(package) != str(ROOT):
        raise ArtifactError(
            f"pip did not install into {environment}: its settings lead elsewhere (target, prefix,"
            " root or user in a pip.conf, see `pip config list`); run PIP_CONFIG_FILE=/dev/null make"
            " setup, or remove that setting"
        )
    return ""


def main(arguments: list[str]) -> int:
    """One of the commands above, on one folder; returns the exit status."""
    does = {
        "clean-book": clean_book,
        "clean-runs": clean_runs,
        "environment": lambda folder: str(made_for(folder) or ""),
        "renew": renew,
        "installed": installed,
    }
    name, folder = arguments
    try:
        said = does[name](expanded(folder))
    except (StudyError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if said:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
