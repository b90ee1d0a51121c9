"""A file system or a home that lacks something: a run goes on, or says in one true sentence what it needs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from checkout import checkout, make, real_python
from lacking import refuse_locks
from memgen.errors import ArtifactError, ParameterError
from memgen.pipeline import report, runner
from memgen.pipeline.cli import main
from memgen.pipeline.keeper import Spec, keep
from memgen.pipeline.report import Report
from memgen.pipeline.surroundings import refuse_unfit, surroundings
from memgen.store import files, ours
from running import ROOT

ASKED = ["--preset", "smoke", "--tasks", "inference", "--seeds", "0"]


def said(capsys) -> str:
    """The one line on standard error."""
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def in_own_mounts(*commands: str) -> subprocess.CompletedProcess:
    """Run shell commands that see mounts of their own."""
    alone = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, "true"], capture_output=True).returncode
    ):
        pytest.skip("this system lets nobody mount a disk of memory (unshare --mount)")
    return subprocess.run(
        [*alone, "sh", "-c", " && ".join(commands)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )


# -- where results go --------------------------------------------------------------------------------
def test_a_link_that_leads_nowhere_is_named(capsys, tmp_path):
    (tmp_path / "runs").symlink_to("nowhere")
    for given in ("runs", "runs/below"):
        assert main(["check", *ASKED, "--runs", str(tmp_path / given)]) == 1
        assert f"{tmp_path}/runs is a link that leads nowhere" in said(capsys)


def test_links_in_a_circle_are_named(capsys, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert main(["check", *ASKED, "--runs", str(tmp_path / "a")]) == 1
    assert f"{tmp_path}/a is a link that leads nowhere" in said(capsys)


def test_the_folder_of_somebody_else_is_refused_before_anything_runs(tmp_path):
    """A disk that is mounted for reading; the same question is asked about permissions."""
    disk = tmp_path / "disk"
    disk.mkdir()
    asked = ["check", *ASKED, "--runs", f"{disk}/runs"]
    program = f"""from memgen.pipeline.cli import main
assert main({asked}) == 1 and main({[*asked, "--elsewhere"]}) == 0"""
    mount = f"mount -t tmpfs -o ro,size=1m tmpfs {disk}"
    done = in_own_mounts(mount, f"{sys.executable} -c {shlex.quote(program)}")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert f"{disk} cannot be written to; choose another folder with RUNS=..." in line


@pytest.mark.parametrize("command", [["check", *ASKED], ["lab", "01_dataset_design"]])
def test_a_home_of_nobody_is_named(capsys, command):
    assert main([*command, "--runs", "~nosuchuser/runs"]) == 1
    assert "~nosuchuser is nobody's home here" in said(capsys)
    assert ours.main(["clean-runs", "~nosuchuser/runs"]) == 1
    assert "~nosuchuser is nobody's home here" in said(capsys)


def test_a_study_behind_a_link_is_the_study(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    home = tmp_path / "runs" / "smoke"
    ours.claim_runs(home)
    with files.lock_file(home / ".study.lock"):
        assert files.lock_file(tmp_path / "disk" / "smoke" / ".study.lock") is None
    with pytest.raises(ArtifactError, match=f"is a link to {tmp_path}/disk: nothing was removed"):
        ours.clean_runs(tmp_path / "runs")


# -- full disks --------------------------------------------------------------------------------------
FILLED = """
import contextlib, sys
from pathlib import Path
from memgen.errors import StudyError
from memgen.pipeline import runner
from memgen.pipeline.plan import Plan
from memgen.store.files import is_full, write_whole
disk, what = Path(sys.argv[1]), sys.argv[2]
home = disk / "runs" / "smoke"
plan = Plan("smoke", ["inference"], [0], str(disk / "runs"))
def fill():
    with contextlib.suppress(OSError), open(disk / "filler", "ab", buffering=0) as file:
        while file.write(b"0" * 4096): pass
def failing(*_):
    fill()
    return 1
runner._wait = failing
if what == "before it begins":
    runner.claim_runs(home)
    fill()
assert is_full(disk) == (what == "before it begins")
try:
    runner.run_labs(plan, 1)
except StudyError as error:
    print(type(error).__name__, error)
(disk / "filler").unlink()
write_whole(home / "study.json", plan.to_json())
"""


@pytest.mark.parametrize("what", ["before it begins", "Snakemake itself fails"])
def test_a_full_disk_is_said_where_nothing_could_be_written(tmp_path, what):
    disk, program = tmp_path / "disk", tmp_path / "program.py"
    disk.mkdir()
    program.write_text(FILLED)
    mount = f"mount -t tmpfs -o size=2m tmpfs {disk}"
    done = in_own_mounts(mount, f"{sys.executable} {program} {disk} '{what}'")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    assert line.startswith("ArtifactError the disk is full: could not write"), line
    assert str(disk) in line and "Free some space" in line


def test_a_lab_that_could_not_write_why_it_failed_ran_out_of_disk(monkeypatch, tmp_path):
    """It has not been killed, and the others may have finished by then."""
    ended = []
    monkeypatch.setattr(report, "_end", lambda: ended.append(True))
    for full, word in ((True, "the disk is full: could not write"), (False, "ended from outside")):
        monkeypatch.setattr(report, "is_full", lambda path: full)
        Report(tmp_path)._failed("inference/seed0/01_dataset_design.stamp")
        assert word in (tmp_path / report.FAILURES).read_text().splitlines()[-1]
    assert ended == [True]


def test_the_disk_that_is_full_is_the_one_that_is_named(monkeypatch, tmp_path):
    full = {str(tmp_path / "tmp")}
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(files, "is_full", lambda path: str(path) in full)
    assert f"could not write {tmp_path / 'tmp'}." in files.disk_full(tmp_path / "runs")
    full.add(str(tmp_path / "runs"))
    assert f"could not write {tmp_path / 'runs'}." in files.disk_full(tmp_path / "runs")


# -- temporary files ---------------------------------------------------------------------------------
def test_without_a_folder_for_temporary_files_it_says_so(monkeypatch, tmp_path):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(runner.tempfile, "gettempdir", none)
    with files.lock_file(tmp_path / ".study.lock") as lock:
        with pytest.raises(ArtifactError, match="no folder for temporary files.*TMPDIR"):
            runner._wait(["true"], tmp_path, lock, "native")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no server")
def test_where_no_server_can_listen_every_process_imports_for_itself(tmp_path):
    """A socket's path has at most 107 bytes, and clusters have long names for temporary folders."""
    for name, listens in (("short", True), ("long" * 30, False)):
        folder = tmp_path / name
        folder.mkdir()
        server, environment = runner.warm_server(folder)
        assert bool(server) == listens == (runner.warm.SOCKET in environment)
        assert [path.name for path in folder.iterdir() if path.is_socket()] == []
        lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
        spec = Spec([sys.executable, "-c", "raise SystemExit(3)"], [], "", lock, [])
        with open(tmp_path / "log", "w") as log:
            assert keep(spec, log, {**os.environ, **environment}) == 3


# -- who one is, and what one has set ----------------------------------------------------------------
def test_who_has_no_name_is_called_by_a_number(tmp_path):
    found = surroundings(tmp_path, found={"PATH": "/bin"})
    assert found["LOGNAME"] == str(os.getuid())
    assert surroundings(tmp_path, found={"USER": "ada"})["LOGNAME"] == "ada"


BAD_VARIABLES = [
    *(("MEMGEN_THREADS", value) for value in ("0", "-1", "many", "", "1.5", "²")),
    *(("MEMGEN_HF_HOME", value) for value in ("hub", "~/hub", "/no/such/folder")),
]


@pytest.mark.parametrize("name, value", BAD_VARIABLES)
def test_a_variable_of_ours_that_says_nothing_usable_is_named(monkeypatch, capsys, name, value):
    with pytest.raises(ParameterError, match=name):
        refuse_unfit({name: value})
    monkeypatch.setenv(name, value)
    for command in (["check", *ASKED], ["labs", *ASKED], ["lab", "01_dataset_design"]):
        assert main(command) == 1
        assert f"{name}={value!r}" in said(capsys)


def test_what_machines_say_is_taken(tmp_path):
    refuse_unfit({})
    refuse_unfit({"MEMGEN_THREADS": "8", "MEMGEN_HF_HOME": str(tmp_path)})


def test_a_kernel_in_the_folder_of_the_command_is_not_taken(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kernels").mkdir()
    assert surroundings(tmp_path / "home", found={})["JUPYTER_PATH"] == str(
        tmp_path / "home/.tools"
    )


#: what lies in the repository's folder, and would be a module of another name
SHADOWS = (
    "random.py",
    "json.py",
    "sitecustomize.py",
    "usercustomize.py",
    "conftest.py",
    "torch.py",
)
#: what a shell exports, and would change or end every Python that it starts
EXPORTED = {
    "PYTHONHOME": "/nonexistent",
    "PYTHONWARNINGS": "error",
    "PYTHONINSPECT": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPLATLIBDIR": "nowhere",
    "PYTHONSTARTUP": "random.py",
    "PYTHONSAFEPATH": "",
    "MEMGEN_ROOT": "/nonexistent",
    "MEMGEN_CLEAN": "1",
    "MEMGEN_WARM": "/nonexistent/socket",
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "C",
}


@pytest.mark.slow
def test_one_lab_runs_on_a_machine_that_lacks_much(tmp_path):
    """No locks, no home, no folders of the desktop, no short temporary folder; a repository with files
    that are called like modules, and a shell that exports what ends Python. All at once.
    """
    house = checkout(tmp_path / "house")
    real_python(house)
    for name in SHADOWS:
        (house / name).write_text("raise SystemExit('foreign')\n")
    (house / "kernels").mkdir()
    runs, temporary = tmp_path / "runs", tmp_path / ("temporary" * 12)
    temporary.mkdir()
    (tmp_path / "disk").mkdir()
    runs.symlink_to("disk")
    homes = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
    lacking = dict.fromkeys(homes, "/proc/nonexistent") | {"TMPDIR": str(temporary)}
    asked = ["TASK=inference", "SEED=6", "PRESET=smoke", "SET=n_free=200", f"RUNS={runs}"]

    def hard():
        os.umask(0o077)
        refuse_locks()

    done = make(house, "lab", *asked, preexec_fn=hard, **EXPORTED, **lacking)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert (tmp_path / "disk/smoke/inference/seed6/01_dataset_design/result.json").is_file()
    assert "without locks" in done.stdout + done.stderr and "foreign" not in done.stderr
    assert not list(temporary.iterdir())
