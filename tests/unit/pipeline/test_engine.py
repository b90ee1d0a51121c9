"""Where a study runs: a profile's name, what its jobs ask for, and what becomes of them."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, ParameterError
from memgen.pipeline import engine, runner, slurm_jobs
from memgen.pipeline.cli import main
from memgen.pipeline.engine import Demands, Engine, job_name, record_demands
from memgen.pipeline.keeper import KILLED
from memgen.pipeline.plan import Plan
from memgen.pipeline.report import FAILED, FAILURES, FINISHED, Report
from memgen.stages import BASE, LABS
from memgen.store.artifacts import Stage

SLURM = yaml.safe_load((engine.PROFILES / "slurm" / "config.yaml").read_text("utf8"))


@pytest.fixture
def profiles(tmp_path, monkeypatch) -> Path:
    """A folder for profiles of this test's."""
    monkeypatch.setattr(engine, "PROFILES", tmp_path)
    return tmp_path


def profile(profiles: Path, text: str) -> None:
    (profiles / "mine").mkdir()
    (profiles / "mine" / "config.yaml").write_text(text)


def program(folder: Path, name: str, text: str) -> None:
    """A shell script that stands for a program."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


# -- profiles ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["pbs", "", "../profiles/slurm", "slurm/config.yaml"])
def test_an_unknown_profile_is_refused_by_name_and_the_known_ones_are_listed(name, capsys):
    words = ["check", "--preset", "smoke", "--tasks", "inference", "--seeds", "0"]
    assert main([*words, "--profile", name]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"profile={name!r} is unknown; choose one of none, slurm")


def test_without_a_profile_labs_run_here_and_no_profile_of_the_users_is_read(tmp_path):
    here = Engine.of("none")
    assert not here.elsewhere and not here.slurm
    none = ["--profile", "none", "--workflow-profile", "none"]
    assert here.arguments(tmp_path) == none
    command = runner._snakemake(tmp_path, 3, here)
    assert command[command.index("--cores") + 1] == "3"


@pytest.mark.parametrize(
    "text, said",
    [
        ("jobs: 3", "names no executor"),
        ("just words", "names no executor"),
        ("executor: abacus", "needs the package snakemake-executor-plugin-abacus"),
    ],
)
def test_a_profile_that_cannot_work_is_refused(profiles, text, said):
    profile(profiles, text)
    with pytest.raises(ParameterError, match=said):
        Engine.of("mine")


def test_slurm_has_to_be_there_and_to_answer(profiles, tmp_path, monkeypatch):
    profile(profiles, "executor: slurm")
    monkeypatch.setattr(engine, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParameterError, match="sbatch is not on this machine"):
        Engine.of("mine")
    for name in slurm_jobs.COMMANDS:
        program(tmp_path, name, "exit 1")
    with pytest.raises(ParameterError, match="Slurm does not answer"):
        Engine.of("mine")
    program(tmp_path, "sinfo", "echo main")
    cluster = Engine.of("mine")
    assert cluster.elsewhere and cluster.slurm
    words = cluster.arguments(tmp_path)
    assert words[1] == str(profiles / "mine" / "config.yaml")
    assert words[-2:] == ["--slurm-jobname-prefix", job_name(tmp_path)]


def test_jobs_are_known_by_the_folder_of_their_study(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert job_name(tmp_path / "link") == job_name(tmp_path) != job_name(tmp_path / "other")
    assert len(job_name(tmp_path)) <= 50  # the plugin takes no more


def test_the_profile_of_the_repository_groups_the_labs_and_asks_the_controller():
    grouped = dict(pair.split("=") for pair in SLURM["groups"])
    rules = {row.short for row in LABS.values()} | {"base", "shared_base"}
    assert set(grouped) == rules - {"training"}  # its time is the study's, and it may want a GPU
    assert SLURM["executor"] == "slurm" and SLURM["slurm-status-command"] == "squeue"
    # below MinJobAge / 3, or the plugin asks an accounting database that need not be there
    assert SLURM["slurm-init-seconds-before-status-checks"] * 3 <= 120


@pytest.mark.slow
@pytest.mark.skipif(
    not find_spec("snakemake_executor_plugin_slurm"), reason="Slurm's plugin is not installed"
)
def test_snakemake_takes_the_profile_and_plans_few_jobs(tmp_path):
    plan = Plan("smoke", ["inference", "cipher-tagged"], [0, 1], str(tmp_path))
    plan.home.mkdir(parents=True)
    (plan.home / "study.json").write_text(plan.to_json())
    cluster = Engine(engine.PROFILES / "slurm" / "config.yaml", "slurm")
    command = [*runner._snakemake(plan.home, 2, cluster), "--dry-run", "--quiet", "rules"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# -- what a job asks for -------------------------------------------------------------------------------
def test_a_job_asks_for_more_than_jobs_of_its_kind_have_used():
    recorded = json.loads(engine.DEMANDS.read_text())["laptop"]["stages"]
    assert set(recorded) == {BASE, *LABS}
    demands = Demands.of(Plan("laptop", ["inference"], [23]))
    for stage, one in recorded.items():
        asked = demands.resources(stage)
        assert asked["runtime"] * 60 > 2 * one["seconds"]
        assert asked["mem_mb"] > one["mebibytes"] + 500 and "gpu" not in asked
    unknown = Demands({}, frozenset()).resources("12_patching")  # by the guess in the table
    assert unknown["runtime"] * 60 > 2 * LABS["12_patching"].seconds and unknown["mem_mb"] > 1500


def test_what_trains_on_a_gpu_asks_for_one_and_nothing_else_does():
    plan = Plan("smoke", ["inference"], [0], settings={"device": "cuda"})
    demands = Demands.of(plan)
    wanting = {stage for stage in (BASE, *LABS) if "gpu" in demands.resources(stage)}
    assert wanting == {BASE, "02_training"}


def test_demands_are_recorded_from_the_manifests_of_a_study(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "DEMANDS", tmp_path / "demands.json")
    with pytest.raises(ArtifactError, match="holds no finished stage"):
        record_demands("smoke", str(tmp_path))
    for seed in (0, 1):
        stage = Stage(tmp_path / "smoke" / "inference" / f"seed{seed}" / "03_pairs", {})
        stage.begin()
        stage._started -= 100 * (seed + 1)
        stage.finish({})
    (tmp_path / "smoke" / "other" / "03_pairs").mkdir(parents=True)
    record_demands("smoke", str(tmp_path))
    (found,) = json.loads(engine.DEMANDS.read_text())["smoke"]["stages"].values()
    assert found["n"] == 2 and 200 <= found["seconds"] <= 205 and found["mebibytes"] > 10


# -- jobs in Slurm ---------------------------------------------------------------------------------------
@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    """A file that stands for Slurm's queue, `number name state` a line."""
    queue = tmp_path / "queue"
    program(
        tmp_path,
        "squeue",
        f"""case "$*" in *" -j "*) echo "CANCELLED (node2)";; *) cut -d' ' -f1,2 {queue};; esac""",
    )
    program(tmp_path, "scancel", f'for n in "$@"; do sed -i "/^$n /d" {queue}; done')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return queue


def test_jobs_of_this_study_are_cancelled_and_no_others(queue):
    queue.write_text("3 memgen-a_run\n4 memgen-b_run\n11 memgen-a_again\n12 wrap\n")
    assert slurm_jobs.cancel("memgen-a", 5) == []
    assert queue.read_text() == "4 memgen-b_run\n12 wrap\n"


def test_jobs_that_do_not_end_are_named(queue, capsys):
    program(queue.parent, "scancel", "exit 0")
    home = queue.parent / "home"
    queue.write_text(f"3 {job_name(home)}_run\n")
    runner._end_jobs(home, 0)
    assert "`scancel 3` asks it again" in capsys.readouterr().err


def test_the_keeper_cancels_last_also_when_its_starter_is_killed(queue, tmp_path):
    """The next run waits for the lock that the keeper holds until then."""
    from memgen.pipeline.keeper import Spec

    queue.write_text("3 memgen-a_run\n")
    last = [sys.executable, "-I", "-S", slurm_jobs.__file__, "memgen-a"]
    spec = Spec(["sleep", "60"], [], "", 2, [], last)
    with subprocess.Popen(spec.keeper(), stdin=subprocess.PIPE) as keeper:
        keeper.stdin.close()  # as the kernel does for one that is killed
        keeper.wait(20)
    assert queue.read_text() == ""


def test_jobs_take_no_temporary_folder_of_this_machine_along(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/here/alone")
    found = runner._for_other_machines(tmp_path)
    assert "TMPDIR" not in found and found["TEMP"] == str(tmp_path)
    assert found["PATH"] == os.environ["PATH"]


# -- what is said of a job of several labs -----------------------------------------------------------------
def test_of_a_job_of_several_labs_those_are_named_that_did_not_end(queue, tmp_path, capsys):
    """The first had ended, the second failed, the third was running, the fourth had not begun."""
    report = Report(tmp_path)
    report.emit(record("resources_info", nodes=50))
    stamps = [f"task/seed0/{name}.stamp" for name in list(LABS)[2:6]]
    (tmp_path / "task" / "seed0").mkdir(parents=True)
    for i, stamp in enumerate(stamps):
        (tmp_path / stamp).with_suffix(".log").write_text("of an earlier run")
        report.emit(
            record("job_info", jobid=i, rule_name=LABS[Path(stamp).stem].short, output=[stamp])
        )
    assert not list(tmp_path.rglob("*.log"))
    for stamp, text in zip(stamps, (f"text{FINISHED}\n", f"text{FAILED}its reason", "text")):
        (tmp_path / stamp).with_suffix(".log").write_text(text)
    infos = [{"jobid": i, "output": [stamp]} for i, stamp in enumerate(stamps)]
    report.emit(record("group_error", job_error_info=infos, external_jobid="7"))
    for info in infos:  # Snakemake says it again, job by job
        report.emit(record("job_error", **info))
    first, second = (tmp_path / FAILURES).read_text().splitlines()
    assert first.startswith("04_differentiation, task, seed0: its reason (log")
    assert second.startswith(
        "05_prediction, task, seed0: ended from outside: Slurm's job 7 is CANCELLED (node2) (log"
    )
    said = capsys.readouterr().out
    assert [line.split("  ")[3] for line in said.splitlines()] == ["done", "FAILED", "FAILED", "-"]
    assert "left" not in said


def test_a_job_that_is_cancelled_before_a_lab_began_is_named_by_its_first(queue, tmp_path):
    report = Report(tmp_path)
    report.emit(record("resources_info", nodes=50))
    infos = [
        {"jobid": i, "output": [f"task/seed0/{n}.stamp"]} for i, n in enumerate(list(LABS)[2:4])
    ]
    report.emit(record("group_error", job_error_info=infos, external_jobid="7"))
    said = (tmp_path / FAILURES).read_text()
    assert said.startswith("03_pairs, task, seed0: ended from outside: Slurm's job 7 is CANCELLED")


def record(event: str, **words) -> logging.LogRecord:
    return logging.makeLogRecord({"event": event, **words})


def test_the_page_names_what_the_profile_holds():
    page = (ROOT / "book" / "cluster.md").read_text("utf8")
    for name in ("profiles/slurm/config.yaml", "profiles/demands.json", "PROFILE=slurm"):
        assert name in page


@pytest.mark.slow
def test_the_snakemake_of_a_job_ends_at_once_when_it_is_told_to(tmp_path):
    """A rule whose shell heeds no SIGTERM: Snakemake alone would wait for it."""
    (tmp_path / "Snakefile").write_text(
        "from snakemake.logging import logger\n"
        "from memgen.pipeline.report import EndAtOnce, Report\n"
        "logger.addHandler(Report('.') if workflow.is_main_process else EndAtOnce())\n"
        "rule one:\n    output: 'one'\n    shell: 'touch begun; trap \"\" TERM; sleep 20 & wait; sleep 20'\n"
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--mode", "remote"]
    command += ["--target-jobs", "one:", "--profile", "none", "--workflow-profile", "none"]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.1)
        process.terminate()
        assert process.wait(8) == KILLED
    finally:
        os.killpg(process.pid, signal.SIGKILL)
