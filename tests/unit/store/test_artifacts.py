"""Artifacts: a stage is finished whole or not at all, damage is found and named, one run at a time,
a full disk is said.
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, StudyError
from memgen.store import artifacts, fingerprint
from memgen.store.artifacts import MANIFEST, RESULT, Stage, verify
from memgen.store.files import write_json, write_sealed
from memgen.store.fingerprint import code_fingerprint, source_files


def make(folder: Path, parameters=None, inputs=(), result=None, timings=None, data="abc") -> Stage:
    """A finished stage with one data file."""
    stage = Stage(folder, parameters or {"task": "inference", "n": 1}, inputs)
    partial = stage.begin()
    (partial / "data.txt").write_text(data)
    stage.finish(result or {"rate": 0.5}, timings)
    return stage


def process(code: str, *arguments) -> subprocess.Popen:
    """A Python of its own, with this package on its path."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- finished whole or not at all ------------------------------------------------------------------
def test_a_finished_stage_says_so_and_lists_its_outputs(tmp_path):
    stage = make(tmp_path / "01_a", result={"rate": np.float32(0.5), "list": np.arange(2)})
    assert stage.finished() and not stage.partial.exists()
    manifest = verify(stage.folder)
    assert set(manifest["outputs"]) == {"data.txt", RESULT}
    assert manifest["parameters"] == {"task": "inference", "n": 1}
    assert {
        "versions",
        "wall_seconds",
        "cpu_seconds",
        "peak_memory_bytes",
        "machine",
        "code",
    } <= set(manifest)
    assert manifest["peak_memory_bytes"] > 1e6
    assert 0 <= manifest["cpu_seconds"] < 60
    assert json.loads((stage.folder / RESULT).read_text())["list"] == [0, 1]


def test_processor_seconds_are_those_of_the_stage_alone(tmp_path):
    """Work before it does not count, work in it does, and so does that of a process it waited for."""

    def work(seconds):
        began = time.process_time()
        while time.process_time() - began < seconds:
            pass

    work(0.3)
    stage = Stage(tmp_path / "01_a", {"n": 1})
    stage.begin()
    work(0.2)
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    stage.finish({})
    seconds = verify(stage.folder)["cpu_seconds"]
    assert seconds >= 0.2
    assert seconds > 0.22, "the process that was waited for is missing"


def test_a_half_written_stage_is_never_finished(tmp_path):
    stage = Stage(tmp_path / "01_a", {"n": 1})
    (stage.begin() / "data.txt").write_text("half")
    stage.release()
    assert not Stage(tmp_path / "01_a", {"n": 1}).finished()
    with pytest.raises(ArtifactError, match="01_a.*missing or unfinished"):
        verify(stage.folder)


@pytest.mark.parametrize("name", [RESULT, MANIFEST])
def test_a_crash_while_finishing_leaves_the_older_result(tmp_path, monkeypatch, name):
    make(tmp_path / "01_a", {"n": 1}, data="old")
    later = Stage(tmp_path / "01_a", {"n": 2})
    (later.begin() / "data.txt").write_text("new")

    def crashing(write):
        def crash(path, value):
            if path.name == name:
                raise RuntimeError("crash")
            write(path, value)

        return crash

    for write in (write_json, write_sealed):
        monkeypatch.setattr(artifacts, write.__name__, crashing(write))
    with pytest.raises(RuntimeError, match="crash"):
        later.finish({"rate": 1.0})
    monkeypatch.undo()
    later.release()
    assert not later.finished() and Stage(tmp_path / "01_a", {"n": 1}).finished()
    assert (tmp_path / "01_a" / "data.txt").read_text() == "old"


def test_what_an_interrupted_run_left_is_kept_only_for_the_same_parameters(tmp_path):
    def left(keep, **parameters):
        stage = Stage(tmp_path / "02_b", parameters)
        partial = stage.begin(keep_partial=keep)
        names = {path.name for path in partial.iterdir()} - {"started.json"}
        (partial / "state").write_text("x")
        stage.release()
        return names

    assert left(True, n=1) == set()
    assert left(True, n=1) == {"state"}
    assert left(True, n=2) == set()  # other parameters: start again
    assert left(False, n=2) == set()  # not asked for


def test_write_json_never_shows_half_a_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    for bad in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, {"a": bad})
    assert json.loads(path.read_text()) == {"a": 1}


# -- what makes a stage stale ----------------------------------------------------------------------
def test_other_parameters_inputs_or_code_make_it_stale(tmp_path, monkeypatch):
    first = make(tmp_path / "01_a")
    parameters = {"task": "inference", "n": 1, "runs": "here"}
    make(tmp_path / "02_b", parameters, [first.folder])

    def second(**changes):
        return Stage(tmp_path / "02_b", parameters | changes, [first.folder])

    assert second().finished()
    assert second(runs="there").finished()  # where the runs are kept changes no number
    assert not second(n=2).finished()
    assert not second(m=2).finished()
    assert not Stage(tmp_path / "02_b", parameters, []).finished()
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "code_fingerprint", lambda *modules: "other code")
        assert not second().finished()
    make(tmp_path / "01_a", result={"rate": 0.7})
    assert not second().finished()


def test_timings_do_not_change_the_digest_of_an_input(tmp_path):
    first = make(tmp_path / "01_a", timings={"seconds": 1.0})
    second = make(tmp_path / "02_b", inputs=[first.folder])
    make(tmp_path / "01_a", timings={"seconds": 99.0})
    assert second.finished()
    make(tmp_path / "01_a", data="abcd")
    assert not second.finished()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of four modules, `write(name, text)` to change one, `mark(*modules)` its
    fingerprint.
    """
    folder = tmp_path / "house"
    (folder / "tasks").mkdir(parents=True)
    monkeypatch.setattr(fingerprint, "PACKAGE", folder)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (folder / f"{name}.py").write_text(text)

    def mark(*modules):
        fingerprint.import_graph.cache_clear()
        return code_fingerprint(*modules)

    write("__init__", "")
    write(
        "a",
        "from .b import x\nfrom house.c import y\n\ndef f():\n    from .tasks import T\n    return"
        " 1  # one\n",
    )
    write("b", "x = 1\n")
    write("c", "y = 1\n")
    write("d", "z = 1\n")
    write("tasks/__init__", "from .one import T\n")
    write("tasks/one", "T = 1\n")
    yield write, mark
    fingerprint.import_graph.cache_clear()


def test_the_code_fingerprint_ignores_comments_and_layout(package):
    write, mark = package
    before = mark("a")
    write("b", "# a comment\n\nx  =  1   # and another\n")
    assert mark("a") == before


@pytest.mark.parametrize("module", ["a", "b", "c", "tasks.one"])
def test_the_code_fingerprint_sees_changes_in_all_that_is_imported(package, module):
    write, mark = package
    before = mark("a")
    name = module.replace(".", "/")
    text = (fingerprint.PACKAGE / f"{name}.py").read_text()
    write(name, text.replace("1", "2"))
    assert mark("a") != before


def test_the_code_fingerprint_ignores_what_is_not_imported(package):
    write, mark = package
    before = mark("a")
    write("d", "z = 2\n")
    assert mark("a") == before


def test_a_table_beside_a_module_is_part_of_its_code(package):
    _, mark = package
    before = mark("a")
    (fingerprint.PACKAGE / "d.csv").write_text("z,1\n")  # beside a module that is not imported
    assert mark("a") == before
    table = fingerprint.PACKAGE / "b.csv"
    table.write_text("x,1\n")
    with_table = mark("a")
    assert with_table != before and table in source_files("a")
    table.write_text("x,2\n")
    assert mark("a") not in (before, with_table)


def test_every_import_inside_the_real_package_is_followed():
    names = {
        path.relative_to(fingerprint.PACKAGE).as_posix()
        for path in source_files("labs.intervention")
    }
    assert {
        "labs/intervention.py",
        "steering/engine.py",
        "models/hooks.py",
        "models/sites.py",
        "neurons/nmd.py",
        "tasks/answers.py",
        "tasks/arithmetic.py",
        "tasks/base.py",
    } <= names
    assert not [name for name in names if name.startswith(("figures/", "pipeline/", "claims/"))]
    assert "sites" in {path.stem for path in source_files("models.hooks")}
    assert "intervals" in {path.stem for path in source_files("labs.prediction")}


def test_the_graph_of_imports_is_cheap():
    """Every process of a study makes it; it is not kept between them, so it is never out of date.

    Held against parsing the package's files ten times, so that a slow machine is slow in both.
    """
    fingerprint.import_graph.cache_clear()
    texts = [path.read_text() for path in fingerprint.PACKAGE.rglob("*.py")]
    times = [time.process_time()]
    code_fingerprint("labs.intervention")
    times.append(time.process_time())
    for text in 10 * texts:
        ast.parse(text)
    times.append(time.process_time())
    assert times[1] - times[0] < times[2] - times[1]


# -- damage ----------------------------------------------------------------------------------------
def alter(path):
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["data.txt", RESULT])
@pytest.mark.parametrize("damage", [alter, truncate, Path.unlink])
def test_a_damaged_input_is_named_and_a_damaged_output_made_again(tmp_path, damage, name):
    first = make(tmp_path / "01_a")
    second = make(tmp_path / "02_b", inputs=[first.folder])
    assert second.finished()
    damage(first.folder / name)
    assert not first.finished()
    for use in (second.finished, second.begin):
        with pytest.raises(ArtifactError) as error:
            use()
        assert str(first.folder / name) in str(error.value) and "run lab 01_a again" in str(
            error.value
        )
    assert (second.folder / "data.txt").read_text() == "abc"  # what was finished is still there


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_text("{"), lambda path: path.write_bytes(b"\xff"), Path.unlink],
)
def test_a_damaged_manifest(tmp_path, damage):
    first = make(tmp_path / "01_a")
    second = Stage(tmp_path / "02_b", {}, [first.folder])
    damage(first.folder / MANIFEST)
    assert not first.finished()
    with pytest.raises(ArtifactError, match="01_a"):
        second.begin()


def test_a_missing_input_says_which_lab_to_run(tmp_path):
    with pytest.raises(ArtifactError, match="run lab 01_a of this task and seed first"):
        Stage(tmp_path / "02_b", {}, [tmp_path / "01_a"]).begin()


# -- one run at a time -----------------------------------------------------------------------------
def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path):
    holder = process(
        """
        import sys, time
        from pathlib import Path
        from memgen.store.artifacts import Stage
        stage = Stage(Path(sys.argv[1]), {})
        stage.begin()
        print("held", flush=True)
        time.sleep(60)
        """,
        tmp_path / "01_a",
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError, match="another run is working in .*01_a"):
            Stage(tmp_path / "01_a", {}).begin()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    stage = make(tmp_path / "01_a", {})
    assert stage.finished()


def test_the_lock_ends_with_the_stage(tmp_path):
    make(tmp_path / "01_a")
    one, two = Stage(tmp_path / "01_a", {"n": 3}), Stage(tmp_path / "01_a", {"n": 3})
    one.begin()
    with pytest.raises(ArtifactError, match="another run"):
        two.begin()
    one.release()
    two.begin()
    two.release()


# -- a full disk -----------------------------------------------------------------------------------
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named(tmp_path):
    (tmp_path / "a.json.tmp").symlink_to("/dev/full")
    with pytest.raises(ArtifactError, match="disk is full.*a.json.*run the same command again"):
        write_json(tmp_path / "a.json", {"a": 1})
    assert not (tmp_path / "a.json").exists()


def test_other_disk_errors_are_not_called_full(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_json(tmp_path / "missing" / "a.json", {})


def test_a_stage_on_a_disk_that_runs_full(tmp_path):
    """A real file system of 256 KiB, in a mount namespace that ends with the process."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=256k memgen-test "$0"'
    try:
        subprocess.run([*namespace, mount, str(tmp_path)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system cannot be mounted here")
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        import numpy as np, pandas as pd
        from safetensors.numpy import save_file
        from memgen.store.artifacts import Stage
        from memgen.store.files import guard_disk
        from memgen.errors import ArtifactError
        home = Path(sys.argv[1])
        first = Stage(home / "01_a", {})
        (first.begin() / "data.txt").write_text("abc")
        first.finish({})
        noise = np.random.default_rng(0).normal(size=100_000)
        for write in (lambda path: save_file({"x": noise}, path),
                      lambda path: pd.DataFrame({"x": noise}).to_parquet(path),
                      lambda path: path.write_bytes(noise.tobytes())):
            second = Stage(home / "02_b", {}, [home / "01_a"])
            try:
                with guard_disk(second.partial):
                    write(second.begin() / "big")
            except ArtifactError as error:
                print("said:", error)
            second.release()
            print(first.finished(), second.finished())
        """)
    done = subprocess.run(
        [*namespace, f'{mount} && exec "$1" -c "$2" "$0"', str(tmp_path), sys.executable, code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6 and lines[1::2] == ["True False"] * 3
    assert all(
        re.match("said: the disk is full: could not write .*02_b", line) for line in lines[::2]
    )


# -- no code in data -------------------------------------------------------------------------------
def test_no_pickle_and_no_foreign_code():
    """Neither in the package nor in the labs: data are safetensors, parquet and JSON; models are
    loaded without running their code.
    """
    forbidden = re.compile(
        r"\bpickle\b|\bjoblib\b|\bdill\b|allow_pickle\s*=\s*True|trust_remote_code\s*=\s*True|"
        r"weights_only\s*=\s*False|torch\.save\(|torch\.load\((?![^)]*weights_only=True)|"
        r"yaml\.(unsafe_)?load\(|\b(eval|exec)\("
    )
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    assert len(files) > 20
    found = []
    for path in files:
        text = path.read_text()
        if path.suffix == ".py":
            text = re.sub(r'""".*?"""', "", text, flags=re.S)
        found += [
            f"{path.name}: {match.group()}"
            for match in forbidden.finditer(text)
            if not text[: match.start()].endswith("model.")
        ]
    assert not found


def test_every_error_of_the_study_is_a_study_error():
    assert issubclass(ArtifactError, StudyError)
