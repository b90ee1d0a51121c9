"""What a killed run left behind stops no other: its lock, its temporary folder."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, EndedError, StudyError
from memgen.pipeline import cli, runner, sweep
from memgen.pipeline.engine import Engine
from memgen.store.files import lock_file, read_lock


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    return process.pid


def signed(file, **changed) -> None:
    """Write into a lock that is held that another process took it."""
    said = read_lock(Path(file.name))
    file.seek(0)
    file.truncate()
    file.write(json.dumps({**said, **changed}))
    file.flush()


def test_a_lock_that_outlives_its_process_for_a_moment_is_waited_for(tmp_path, dead):
    """The keeper of a killed run still ends what is left of it."""
    held = lock_file(tmp_path / ".study.lock")
    signed(held, pid=dead)
    threading.Timer(0.5, held.close).start()
    with runner._take(tmp_path / ".study.lock"):
        assert held.closed


def test_who_holds_a_lock_on_another_machine_is_named_and_not_waited_for(tmp_path, dead):
    with lock_file(tmp_path / ".study.lock") as held:
        signed(held, pid=dead, host="elsewhere")
        with pytest.raises(ArtifactError, match=f": process {dead} on elsewhere; wait"):
            runner._take(tmp_path / ".study.lock")


def test_a_lock_of_which_nobody_says_who_holds_it_is_refused_all_the_same(tmp_path):
    with lock_file(tmp_path / ".study.lock") as held:
        held.truncate(0)
        with pytest.raises(ArtifactError, match=f"working in {tmp_path}; wait"):
            runner._take(tmp_path / ".study.lock")


def left_behind(tmp_path, name: str, of: str | None) -> bool:
    """Does a run of the study in `home` remove the folder that its lock names, said to be of `of`?"""
    home, folder = tmp_path / "home", tmp_path / name
    for made in (home, folder):
        made.mkdir()
    (folder / "file").write_text("text")
    if of is not None:
        (folder / "study").write_text(of.format(home))
    with lock_file(home / ".study.lock") as held:
        signed(held, folder=str(folder))
    runner._take(home / ".study.lock").close()
    return not folder.exists()


@pytest.mark.parametrize(
    "name, of, removed",
    [
        ("memgen-1", "{}", True),
        ("memgen-1", None, False),
        ("memgen-1", "/another/study", False),
        ("results", "{}", False),
    ],
)
def test_the_next_run_removes_the_temporary_folder_of_a_killed_one(tmp_path, name, of, removed):
    assert left_behind(tmp_path, name, of) == removed


def test_a_run_that_fails_at_once_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(runner.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with lock_file(tmp_path / ".study.lock") as held:
        code = runner._wait([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, held, "native")
    assert code == 3 and not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("ends", [EndedError("killed"), KeyboardInterrupt(signal.SIGTERM)])
def test_several_studies_end_with_the_one_that_is_ended(monkeypatch, ends):
    """A study that fails is a result, and the next one runs; one that is killed is not."""
    ran = []

    def run(plan, jobs):
        ran.append(plan)
        raise StudyError("failed") if plan == "first" else ends

    monkeypatch.setattr(sweep, "run_labs", run)
    with pytest.raises(type(ends)):
        sweep.run_plans({name: name for name in ("first", "second", "third")}, 1)
    assert ran == ["first", "second"]


@pytest.mark.parametrize("number, given", [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_the_exit_status_says_which_signal_it_was(monkeypatch, capsys, number, given):
    def run(plan, jobs, engine):
        raise KeyboardInterrupt(number) if given else KeyboardInterrupt

    monkeypatch.setattr(cli, "run_labs", run)
    monkeypatch.setattr(cli, "environment", lambda numerics: {})  # this process goes on
    arguments = ["labs", "--preset", "smoke", "--tasks", "inference", "--seeds", "0"]
    assert cli.main(arguments) == 128 + number
    assert f"interrupted; {runner.GOES_ON}" in capsys.readouterr().err


def test_snakemakes_copy_of_an_earlier_snakefile_is_not_used(tmp_path):
    copy = runner._sources(tmp_path) / "file" / "Snakefile"
    copy.parent.mkdir(parents=True)
    copy.write_text("rule all:")
    with lock_file(tmp_path / ".study.lock") as held:
        runner._wait([sys.executable, "-c", ""], tmp_path, held, "native")
    assert not copy.exists() and str(runner._sources(tmp_path)) in runner._snakemake(
        tmp_path, 1, Engine()
    )


@pytest.mark.parametrize("ours", [True, False])
def test_finished_jobs_leave_no_timers(tmp_path, ours):
    """With Snakemake's own limit each of them leaves one, which goes on until the study ends."""
    block = re.search(r"^onstart:\n(?: +.*\n)+", (ROOT / "Snakefile").read_text(), re.M)[0]
    (tmp_path / "Snakefile").write_text(
        (block if ours else "")
        + "rule all:\n    input: expand('{n}', n=range(12))\n"
        + "rule one:\n    output: '{n}'\n    shell: 'touch {output}'\n"
        + "onsuccess:\n    import threading; print('threads', threading.active_count())\n"
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", str(tmp_path)]
    command += ["--snakefile", str(tmp_path / "Snakefile"), "--profile", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    threads = int(re.search(r"^threads (\d+)", done.stdout, re.M)[1])
    assert threads == 1 if ours else threads > 5
