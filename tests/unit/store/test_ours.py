"""`make` reads no setting but those on its command line, takes every path, and removes only what is ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checkout import AWKWARD, checkout, make, plant_python, real_python
from memgen.errors import ArtifactError
from memgen.store import ours
from memgen.store.files import lock_file

#: the arguments of every call, one JSON list a line
RECORD = (
    f'exec "{sys.executable}" -I -c \'import json, os, sys;'
    ' open(os.environ["CALLS"], "a").write(json.dumps(sys.argv[1:]) + "\\n")\' "$@"'
)
STUDIED = (
    "labs",
    "check",
    "book",
    "verify",
    "pdf",
    "exercises",
    "test",
    "quick",
    "scale",
    "arms",
    "model",
)


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A checkout whose Python notes what it is called with; graphviz's programs read, and draw nothing."""
    folder = checkout(tmp_path_factory.mktemp("recorded") / "house")
    plant_python(folder, RECORD)
    for program in ("tred", "dot"):  # a machine that runs the tests need not have them
        path = folder / "graphviz" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\ncat > /dev/null\n")
        path.chmod(0o755)
    return folder


def calls(house: Path, tmp_path: Path, *arguments: str, **environment: str) -> list[list[str]]:
    """What Python is called with by `make ARGUMENTS...`."""
    noted = tmp_path / "calls"
    path = os.pathsep.join([str(house / "graphviz"), os.environ["PATH"]])
    done = make(house, *arguments, CALLS=str(noted), PATH=path, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in noted.read_text().splitlines()]


def said(done: subprocess.CompletedProcess) -> str:
    """The one line that a command which fails leaves on stderr."""
    assert done.returncode != 0, done.stdout
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]


# -- what `make` is told ------------------------------------------------------------------------------
EXPORTED = dict.fromkeys(
    "PYTHON VENV TASK_FILE PRESET TASKS SEEDS TRACKS RUNS SET NUMERICS PROFILE JOBS"
    " OUT LABS LAB TASK SEED TRACK MODEL ACCEPT WHEELHOUSE".split(),
    "exported",
) | dict.fromkeys(
    "BIN READY PIP FROM WHEELS OURS MEMGEN PRESS STUDY CHOSEN q each".split(), "exported"
)


@pytest.mark.parametrize("target", STUDIED)
def test_an_exported_variable_changes_nothing(house, tmp_path, target):
    plain = calls(house, tmp_path, target)
    (tmp_path / "calls").unlink()
    assert calls(house, tmp_path, target, **EXPORTED) == plain and plain


def test_a_shell_tells_python_and_pip_nothing_but_where_packages_come_from(tmp_path):
    house, noted = checkout(tmp_path / "house"), tmp_path / "environment"
    plant_python(house, 'env > "$CALLS"')
    index = {"PIP_EXTRA_INDEX_URL": "https://mirror.example/simple", "PIP_CERT": "/etc/own.pem"}
    kept = index | {"MEMGEN_THREADS": "2"}
    foreign = dict.fromkeys(
        "PIP_TARGET PIP_USER PIP_PREFIX PIP_CONSTRAINT PIP_DRY_RUN PYTHONHOME PYTHONOPTIMIZE PYTHONINSPECT"
        " PYTHONWARNINGS PYTHONSTARTUP PYTEST_ADDOPTS MEMGEN_ROOT MEMGEN_CLEAN".split(),
        "/foreign",
    )
    done = make(house, "check", CALLS=str(noted), **kept, **foreign)
    assert done.returncode == 0, done.stderr
    told = dict(line.partition("=")[::2] for line in noted.read_text().splitlines())
    assert told.items() >= kept.items() and not set(foreign) & set(told)
    assert told["PYTHONSAFEPATH"] == "1" and told["PYTHONPATH"] == f"{house}/src"


def test_a_pip_that_installed_elsewhere_is_said(tmp_path):
    """`target` or `user` in a pip.conf: then nothing is in the environment, and pip says nothing."""
    with pytest.raises(ArtifactError, match="did not install into .*pip config list"):
        ours.installed(filled(tmp_path / ".venv", "pyvenv.cfg"))


def test_every_setting_of_the_makefile_is_one_that_is_guarded():
    text = (ours.ROOT / "Makefile").read_text("utf8")
    settings = text.partition("SETTINGS := ")[2].partition("\n")[0].split()
    lines = text.partition("\nPYTHON ")[2].partition("\n\n")[0].splitlines()
    assert {"PYTHON", *(line.split()[0] for line in lines[1:])} == set(settings)
    assert "?=" not in text


#: what `make` is told, and words that its line must hold
BAD_SETTINGS = [
    (("check", "OUT="), ["OUT is empty"]),
    (("model", "MODEL="), ["MODEL is empty"]),
    (("clean", "OUT=a$b"), ["OUT", "dollar"]),
    (("clean-runs", "RUNS=a\nb"), ["RUNS", "line break"]),
    (("-e", "clean"), ["OUT", "environment"]),
    (("setup", "VENV=a b"), ["VENV", "space"]),
    (("setup", "VENV=a:b"), ["VENV", ":"]),
    (("setup", "VENV=a'b"), ["VENV", "'"]),
    (("book", "TASK_FILE=a.csv", "TASKS=b"), ["TASK_FILE", "TASKS"]),
    (("lab", "TASK_FILE=a.csv", "TASK=b"), ["TASK_FILE", "TASK"]),
    (("check", "TASK_FILE=a$b.csv"), ["TASK_FILE", "dollar"]),
]


@pytest.mark.parametrize("arguments, words", BAD_SETTINGS)
def test_what_make_cannot_take_is_refused_by_name(house, arguments, words):
    done = make(house, *arguments, OUT="exported")
    line = done.stderr.strip()
    assert done.returncode == 2 and len(line.splitlines()) == 1
    assert all(word in line for word in words), line


def test_a_model_is_asked_for_with_what_was_accepted_and_from_where(house, tmp_path):
    plain = ["-m", "memgen.pipeline.cli", "model", "smollm2-135m-instruct"]
    assert calls(house, tmp_path, "model") == [plain]
    (tmp_path / "calls").unlink()
    given = ("MODEL=a 'b", "ACCEPT=the terms", "WHEELHOUSE=my wheels")
    asked = ["--accept", "the terms", "--wheelhouse", "my wheels"]
    assert calls(house, tmp_path, "model", *given) == [[*plain[:-1], "a 'b", *asked]]


def test_a_wheelhouse_that_is_not_there_is_named(tmp_path):
    house = checkout(tmp_path / "house")
    done = make(house, "setup", "WHEELHOUSE=no where")
    assert done.returncode == 2 and "WHEELHOUSE=no where is no folder" in done.stderr
    assert not (house / ".venv").exists()


def test_a_set_up_from_a_wheelhouse_asks_no_index(tmp_path):
    house, wheels = checkout(tmp_path / "house"), tmp_path / AWKWARD.replace("$", "")
    plant_environment(house, house)  # pip, which is none here, would have made it so
    (house / ".venv" / ".ready").unlink()
    wheels.mkdir()
    found = calls(house, tmp_path, "setup", f"WHEELHOUSE={wheels}")
    installs = [call[call.index("--isolated") :] for call in found if "install" in call]
    assert len(installs) == 3
    for call in installs:
        assert call[1:4] == ["--no-index", "--find-links", str(wheels)]


def test_make_elsewhere_is_refused(house, tmp_path):
    done = make(tmp_path, "-f", str(house / "Makefile"), "clean")
    assert done.returncode == 2 and "run make in the repository's folder" in done.stderr


@pytest.mark.parametrize("target", [*STUDIED[:6], "rulegraph"])
def test_awkward_paths_reach_python_whole(house, tmp_path, target):
    name = AWKWARD.replace("$", "") + " ' \\"
    found = calls(house, tmp_path, target, f"RUNS=runs {name}", f"OUT=out {name}", "TASKS=a b")
    words = {word for call in found for word in call}
    expected = {
        "book": {f"runs {name}", f"runs {name}/laptop", f"out {name}", "a", "b"},
        "pdf": {f"out {name}/html"},
        "exercises": {f"out {name}/exercises"},
        "rulegraph": {f"out {name}"},
        "verify": {f"runs {name}", "a", "b"},
    }.get(target, {f"runs {name}", "a", "b"})
    assert expected <= words


@pytest.mark.parametrize("target", ["book", "check", "lab"])
def test_a_table_of_prompts_is_the_task_of_a_pretrained_model(house, tmp_path, target):
    file = "tables " + AWKWARD.replace("$", "") + "/my ' own.csv"
    found = calls(house, tmp_path, target, f"TASK_FILE={file}")
    for call in [call for call in found if "--task-file" in call]:
        assert call[call.index("--task-file") + 1] == file
        assert not {"--tasks", "--task", "laptop", "scratch", "lora"} & set(call)
        assert {"given", "26"} <= set(call) and not {"27"} & set(call)
    assert any("--preset" in call and "real" in call for call in found)
    assert sum("--task-file" in call for call in found) == (2 if target == "book" else 1)


def test_nothing_in_a_setting_is_run_by_the_shell(house, tmp_path):
    trap = f"x;touch {tmp_path}/trap;`touch {tmp_path}/trap`"
    given = ("PRESET", "TASKS", "SEEDS", "TRACKS", "RUNS", "SET", "NUMERICS", "JOBS", "OUT", "LABS")
    calls(house, tmp_path, "book", "check", "lab", f"TASK_FILE={trap}")
    calls(house, tmp_path, "book", "pdf", "test", "scale", *(f"{name}={trap}" for name in given))
    assert not (tmp_path / "trap").exists()


@pytest.mark.slow
def test_a_study_is_checked_in_a_checkout_with_an_awkward_name(tmp_path):
    house = checkout(tmp_path / AWKWARD)
    real_python(house)
    runs = f"RUNS={tmp_path}/{AWKWARD.replace('$', '')}"
    done = make(house, "check", "PRESET=smoke", "TASKS=inference", "SEEDS=0", runs)
    assert (done.returncode, done.stdout) == (0, "parameters are fine\n"), done.stderr
    assert "is not there" in make(house, "clean").stdout


# -- what is removed ----------------------------------------------------------------------------------
def filled(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def names(folder: Path) -> set[str]:
    """Files below a folder, without what Python keeps of modules it has read."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


def test_the_folders_of_the_repository_are_removed(house):
    filled(house, "_build/html/index.html", "_build/lab.ipynb", "data/runs/laptop/study.json")
    assert make(house, "clean").stdout == "removed _build\n"
    assert make(house, "clean-runs").stdout == "removed data/runs\n"
    assert not (house / "_build").exists() and not (house / "data/runs").exists()
    filled(house, "_build/other/html/index.html", "_build/html/index.html")
    assert make(house, "clean", "OUT=_build/other").stdout == "removed _build/other\n"
    assert names(house / "_build") == {"html/index.html"}


@pytest.mark.parametrize("target, setting", [("clean", "OUT"), ("clean-runs", "RUNS")])
@pytest.mark.parametrize(
    "where", ["{tmp}/theirs", ".", "src", "_build/../src", "{house}", "/", "~"]
)
def test_nothing_else_is_removed(house, tmp_path, target, setting, where):
    filled(tmp_path, "theirs/laptop/precious", "theirs/html/precious", "theirs/source/precious")
    filled(house, "_build/html/index.html")
    before = names(tmp_path), names(house / "src")
    folder = where.format(tmp=tmp_path, house=house)
    line = said(make(house, target, f"{setting}={folder}", HOME=str(tmp_path)))
    assert "nothing" in line and "removed" in line
    assert (names(tmp_path), names(house / "src")) == before


@pytest.mark.parametrize("target", ["clean", "clean-runs"])
def test_an_exported_folder_is_not_removed(house, tmp_path, target):
    filled(tmp_path, "theirs/precious")
    assert make(house, target, OUT=f"{tmp_path}/theirs", RUNS=f"{tmp_path}/theirs").returncode == 0
    assert names(tmp_path) == {"theirs/precious"}


def test_two_words_are_one_folder(house, tmp_path):
    filled(house, "data/my/precious", "runs/precious")
    assert "is not there" in make(house, "clean-runs", "RUNS=data/my runs").stdout
    assert names(house / "data/my") == names(house / "runs") == {"precious"}
    shutil.rmtree(house / "runs")


def test_a_link_keeps_what_it_leads_to(house, tmp_path):
    filled(tmp_path, "theirs/html/precious")
    shutil.rmtree(house / "_build", ignore_errors=True)
    (house / "_build").symlink_to(tmp_path / "theirs")
    try:
        line = said(make(house, "clean"))
        assert "is a link to" in line and str(tmp_path / "theirs") in line
        assert "nothing" in said(make(house, "clean", "OUT=_build/html"))
    finally:
        (house / "_build").unlink()
    assert names(tmp_path) == {"theirs/html/precious"}


def test_a_book_elsewhere_is_removed_and_its_neighbours_stay(tmp_path):
    out = tmp_path / "out"
    ours.claim_book(out)
    filled(out, "html/index.html", "source/index.md", ".figures/a.webp", "notes.txt")
    assert ours.clean_book(out) == f"removed what this project made in {out}; kept notes.txt"
    assert names(out) == {"notes.txt"}
    with pytest.raises(ArtifactError, match="was not made by this project"):
        ours.clean_book(out)
    ours.claim_book(out)  # the neighbours are in nobody's way
    (out / "notes.txt").unlink()
    assert ours.clean_book(out) == f"removed {out}" and not out.exists()


@pytest.mark.parametrize("name", ["html/index.html", "source/thesis.tex", ".figures/a"])
def test_a_book_overwrites_no_folder_of_somebody_else(tmp_path, name):
    filled(tmp_path, name)
    with pytest.raises(ArtifactError, match=r"did not make.*OUT="):
        ours.claim_book(tmp_path)
    assert names(tmp_path) == {name}


def test_a_book_from_before_the_mark_is_known_by_its_stamp(tmp_path):
    ours.claim_book(filled(tmp_path, ours.STAMP, "source/index.md"))
    assert (tmp_path / ours.MARK).is_file()


def test_studies_elsewhere_are_removed_and_their_neighbours_stay(tmp_path):
    runs = filled(tmp_path / "runs", "photos/precious", "mixed/precious")
    for preset in ("laptop", "mixed"):
        ours.claim_runs(runs / preset)
    filled(runs, "laptop/inference/seed0/01_dataset_design/result.json", "mixed/study.json")
    assert ours.clean_runs(runs) == (
        f"removed what this project made in {runs}; kept mixed, photos"
    )
    assert names(runs) == {"photos/precious", "mixed/precious", "mixed/study.json"}


@pytest.mark.parametrize("study", ["laptop", "another-model/real"])
def test_a_study_at_work_is_not_removed(tmp_path, study):
    ours.claim_runs(tmp_path / "laptop")
    ours.claim_runs(tmp_path / study)
    with (
        lock_file(tmp_path / study / ".study.lock"),
        pytest.raises(ArtifactError, match="another run is working"),
    ):
        ours.clean_runs(tmp_path)
    assert "removed" in ours.clean_runs(tmp_path)


# -- a checkout that was copied or moved --------------------------------------------------------------
def plant_environment(house: Path, made_for: Path) -> None:
    """What pip leaves in an environment that it was told to make for a folder."""
    environment = house / ".venv"
    shutil.rmtree(environment, ignore_errors=True)
    plant_python(house, RECORD)
    start = f"{made_for}/.venv/bin/python3.11"
    first = f'#!/bin/sh\n\'\'\'exec\' "{start}" "$0" "$@"' if " " in start else f"#!{start}"
    about = json.dumps({"url": made_for.as_uri(), "dir_info": {"editable": True}})
    installed = "lib/python3.11/site-packages/memgen-0.1.0.dist-info/direct_url.json"
    filled(environment, "pyvenv.cfg", installed)
    (environment / "bin" / "pip").write_text(f"{first}\nimport pip\n")
    (environment / installed).write_text(about)


@pytest.fixture
def python(tmp_path) -> str:
    """A Python whose `-m venv` takes no time: the environment it makes notes what it is called with, and
    has the package of the folder that it is called in.
    """
    about = "lib/python3.11/site-packages/memgen-0.1.0.dist-info"
    planted, script = tmp_path / "planted", tmp_path / "python"
    plant_python(planted, RECORD)
    script.write_text(
        f"""#!/bin/sh
if [ "$2" = venv ]; then
  mkdir -p "$3/bin" "$3/{about}" && cp {planted}/.venv/bin/python "$3/bin/python"
  echo "{{\\"url\\": \\"file://$PWD\\"}}" > "$3/{about}/direct_url.json"
else exec {sys.executable} "$@"; fi
"""
    )
    script.chmod(0o755)
    return f"PYTHON={script}"


@pytest.mark.parametrize("moved, target", [(False, "setup"), (True, "check")])
def test_a_copied_or_moved_checkout_gets_an_environment_of_its_own(
    house, tmp_path, python, moved, target
):
    original, copy = tmp_path / "the 'original'", tmp_path / "a copy"
    shutil.copytree(house, original, ignore=shutil.ignore_patterns(".venv"))
    plant_environment(original, original)
    assert "set-up" not in make(original, "setup", python).stdout
    (shutil.move if moved else shutil.copytree)(original, copy)
    noted = tmp_path / "calls"
    done = make(copy, target, python, CALLS=str(noted))
    assert done.returncode == 0, done.stderr
    assert f"set-up: .venv was made for {original}; it is made anew for this folder" in done.stdout
    assert '"install"' in noted.read_text() and not (copy / ".venv/pyvenv.cfg").exists()
    assert moved or (original / ".venv/pyvenv.cfg").is_file()
    assert "set-up" not in make(copy, "setup", python, CALLS=str(noted)).stdout


def test_a_package_of_another_folder_is_noticed_as_well(house, tmp_path):
    """As after `pip install -e ../other` in an environment that is this checkout's own."""
    copy = tmp_path / "copy"
    shutil.copytree(house, copy, ignore=shutil.ignore_patterns(".venv"))
    plant_environment(copy, tmp_path / "elsewhere")
    (copy / ".venv/bin/pip").write_text(f"#!{copy}/.venv/bin/python3\n")
    found = subprocess.run(
        [sys.executable, "-m", "memgen.store.ours", "environment", ".venv"],
        cwd=copy,
        env={"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == str(tmp_path / "elsewhere")


def test_make_runs_the_package_of_its_own_folder(house, tmp_path):
    """Also with an environment that was chosen elsewhere, and whatever PYTHONPATH is exported."""
    other = checkout(tmp_path / "other")
    (other / "src/memgen/pipeline/cli.py").write_text("print('the other one')\n")
    chosen = tmp_path / "chosen"
    real_python(chosen)
    done = make(other, "check", f"VENV={chosen}/.venv", PYTHONPATH=str(house / "src"))
    assert done.stdout.startswith("the other one"), done.stderr


def test_an_environment_is_removed_only_if_it_is_one_of_this_checkout(tmp_path):
    theirs = filled(tmp_path / "env", "pyvenv.cfg", "bin/pip")
    (theirs / "bin/pip").write_text("#!/old/env/bin/python3\n")
    assert ours.made_for(theirs) is None and ours.renew(theirs) == ""
    assert (theirs / "bin/pip").is_file()
