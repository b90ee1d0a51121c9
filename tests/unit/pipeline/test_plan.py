"""The command line: bad input ends at once with one sentence; the plan orders every lab after what
it reads.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from memgen.config.base import ROOT, SEEDS
from memgen.errors import ParameterError
from memgen.pipeline.cli import _setting
from memgen.pipeline.notebook import Lab
from memgen.pipeline.plan import Job, Plan, per_run
from memgen.pipeline.runner import _time_left
from memgen.presets import stage_parameters
from memgen.tasks import TASK_NAMES


def memgen(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`python -m memgen.study ...` as a user's shell runs it."""
    return subprocess.run(
        [sys.executable, "-m", "memgen.study", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
    )


# -- bad input -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--tasks", "inferense"], ["task='inferense'", *TASK_NAMES]),
        (["--preset", "lapdog"], ["preset='lapdog'", "laptop", "smoke"]),
        (["--set", "n_embed=64"], ["'n_embed'", "n_embd"]),
        (["--set", "site=ln_3"], ["site='ln_3'", "resid_post"]),
        (["--set", "top_ns=[0.1,1.5]"], ["top_ns", "1.5"]),
        (["--set", "alphas=[.nan]"], ["alphas", "nan"]),
        (["--set", "alphas=[.inf]"], ["alphas", "inf"]),
        (["--set", "n_layer=0"], ["n_layer=0"]),
        (["--set", "n_embd=30", "n_head=4"], ["n_embd=30", "n_head=4"]),
        (["--set", "n_keys=60"], ["n_keys=60", "50"]),
        (["--seeds", "one"], ["--seeds", "'one'"]),
    ],
)
def test_bad_input_ends_at_once_with_one_line(arguments, said):
    done = memgen("check", "--preset", "smoke", *arguments)
    assert done.returncode != 0 and done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert all(word in lines[0] for word in said), lines[0]


def check(capsys, *arguments: str) -> str:
    """The same without a process of its own: what is said on stderr, for a command that fails."""
    from memgen.pipeline.cli import main

    assert main(["check", "--preset", "smoke", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--seeds", "-1"], "seeds=[-1]"),
        (["--seeds", "0", "0"], "repeat"),
        (["--tasks", "inference", "inference"], "repeat"),
        (["--jobs", "0"], "--jobs"),
        (["--preset"], "--preset"),
        (["--more"], "--more"),
        (["--set", "n_embd"], "'n_embd' is not a setting"),
        (["--set", "top_ns=[0.1"], "'top_ns=[0.1' is not a setting"),
        (["--set", "lr=fast"], "lr='fast'"),
        (["--set", "seed=3"], "'seed'"),
        (["--set", "task=inference"], "'task'"),
        (["--set", "retrain=1"], "'retrain'"),
        (["--set", "runs=elsewhere"], "'runs'"),
        (["--set", "track=lora"], "'track'"),
        (["--tracks", "loras"], "track='loras' is unknown; choose one of scratch, lora, full"),
        (["--tracks", "lora", "lora"], "tracks must not repeat"),
        (["--set", "base_model=gpt2"], "base_model='gpt2' needs track=lora or track=full"),
        (
            ["--tracks", "lora", "--set", "accumulate=3", "batch_size=64"],
            "batch_size=64 is not divisible by accumulate=3",
        ),
        (["--tracks", "lora", "--set", "device=gpu"], "device='gpu'"),
        (["--tracks", "lora", "--set", "lora_rank=0"], "lora_rank=0"),
    ],
)
def test_other_bad_input(capsys, arguments, said):
    assert said in check(capsys, *arguments)


def test_no_command_is_one_line(capsys):
    from memgen.pipeline.cli import main

    assert main([]) == 1
    assert "command" in capsys.readouterr().err


def test_good_input_is_silent():
    done = memgen(
        "check",
        "--preset",
        "smoke",
        "--tasks",
        "inference",
        "--seeds",
        "3",
        "--set",
        "lr=1e-3",
        "top_ns=[0.1,0.2]",
        "site=ln_2",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "text, value",
    [
        ("a=1", 1),
        ("a=1e-3", 0.001),
        ("a=0.5", 0.5),
        ("a=ln_2", "ln_2"),
        ("a=[1, 2.5]", [1, 2.5]),
        ("a=x=y", "x=y"),
    ],
)
def test_settings_are_read_as_numbers_words_and_lists(text, value):
    assert _setting(text) == ("a", value) and type(_setting(text)[1]) is type(value)


def test_memgen_root_is_honoured(tmp_path):
    presets = tmp_path / "notebooks" / "presets"
    presets.mkdir(parents=True)
    (presets / "own.yaml").write_text("all: {n_layer: 0}\n")
    there = str(tmp_path)
    assert "n_layer=0" in memgen("check", "--preset", "own", MEMGEN_ROOT=there).stderr
    (presets / "own.yaml").write_text("all: {n_layer: 1}\n")
    assert memgen("check", "--preset", "own", MEMGEN_ROOT=there).returncode == 0
    said = memgen("check", "--preset", "smoke", MEMGEN_ROOT=there).stderr
    assert "preset='smoke' is unknown; choose one of own" in said


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    """The first run's lock is held here; it is the lock of the operating system, so it would end
    with its process.
    """
    (tmp_path / "smoke").mkdir()
    with open(tmp_path / "smoke" / ".study.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        done = memgen(
            "labs",
            "--preset",
            "smoke",
            "--tasks",
            "inference",
            "--seeds",
            "0",
            "--runs",
            str(tmp_path),
        )
    assert (
        done.returncode != 0
        and "another run is working in" in done.stderr
        and str(tmp_path) in done.stderr
    )
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_single_job_without_a_plan_says_what_to_do():
    done = memgen(
        "lab", "01_dataset_design", "--task", "inference", "--run", "seed0", MEMGEN_PLAN=""
    )
    assert done.returncode != 0 and "make lab" in done.stderr and "Traceback" not in done.stderr


# -- the plan --------------------------------------------------------------------------------------
PLANS = {
    "smoke": Plan(preset="smoke"),
    "laptop": Plan(preset="laptop"),
    "one task, one seed": Plan(preset="smoke", tasks=["inference"], seeds=[4]),
    "adapters as well": Plan(
        preset="smoke",
        tasks=["inference", "cipher-tagged"],
        seeds=[4, 6],
        tracks=["scratch", "lora"],
    ),
    "no base, two retrains": Plan(
        preset="smoke",
        tasks=["cipher-matched", "inference"],
        seeds=[1, 0],
        settings={"base_steps": 0, "n_retrains": 2},
    ),
}
each_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


@each_plan
def test_the_plan_has_an_order_that_covers_every_job(plan):
    jobs = {plan.stamp(job): job for job in plan.jobs()}
    assert len(jobs) == len(plan.jobs())
    needs = {stamp: set(plan.needs(job)) for stamp, job in jobs.items()}
    assert all(
        wanted <= set(jobs) for wanted in needs.values()
    )  # nothing is needed that nobody makes
    order = list(TopologicalSorter(needs).static_order())  # raises if there is a circle
    assert set(order) == set(jobs)
    last = {stamp for stamp, job in jobs.items() if job.stage == "08_synthesis"}
    assert (
        len(last) == len(plan.tracks)
        and set().union(*(needs[stamp] for stamp in last)) == set(order) - last
    )


@each_plan
def test_every_lab_runs_after_all_that_it_reads(plan):
    jobs = {plan.stamp(job): job for job in plan.jobs()}
    for stamp, job in jobs.items():
        if job.stage == "00_base":
            continue
        before, waiting = set(), list(plan.needs(job))
        while waiting:
            need = waiting.pop()
            if need not in before:
                before.add(need)
                waiting += plan.needs(jobs[need])
        lab = Lab(job.stage, stage_parameters(job.stage, plan.parameters(job)))
        assert lab.stage.folder == stamp.with_suffix("")
        assert {folder.with_suffix(".stamp") for folder in lab.stage.input_folders} <= before
        if job.stage == "02_training" and lab.parameters.base_steps:
            assert any(path.name == "00_base.stamp" for path in before)


def test_what_is_planned():
    plan = PLANS["no base, two retrains"]
    stages = [job.stage for job in plan.jobs()]
    assert (
        "00_base" not in stages
        and stages.count("07_transfer") == 2
        and stages.count("08_synthesis") == 1
    )
    assert [job.run for job in plan.jobs() if job.retrain] == [
        "seed1-retrain1",
        "seed1-retrain2",
    ] * 2
    assert (
        sum(job.stage == "00_base" for job in PLANS["smoke"].jobs()) == 3 * 3
    )  # three families, three seeds
    job = Job("02_training", "inference", "seed1-retrain2")
    assert (job.seed, job.retrain) == (1, 2) and Job("07_transfer", "inference", "all").seed is None
    assert plan.parameters(job)["retrain"] == 2


def test_adapters_share_one_base_and_have_no_retrains_but_each_other():
    jobs = PLANS["adapters as well"].jobs()
    assert [
        job.run for job in jobs if job.stage == "00_base" and job.task == "shared-base-llama"
    ] == [f"seed{SEEDS[0]}"]
    assert {job.track for job in jobs if job.retrain} == {"scratch"}
    assert (
        sum(job.track == "lora" for job in jobs) == 2 * (2 * 6 + 1) + 1
    )  # tasks, seeds and labs, transfer, synthesis
    given = Plan(preset="smoke", tracks=["lora"], settings={"architecture": "gpt2"})
    assert {job.task for job in given.jobs() if job.stage == "00_base"} == {"shared-base-gpt2"}


def test_a_base_model_that_is_not_there_ends_at_once(capsys):
    said = check(capsys, "--tracks", "lora", "--set", "base_model=nobody/nothing")
    assert "nobody/nothing" in said and "a folder" in said and "hf download" in said


def test_settings_reach_the_labs_that_take_them():
    plan = Plan(
        preset="smoke", tasks=["inference"], seeds=[0], settings={"site": "ln_2", "n_layer": 3}
    )
    given = {job.stage: plan.parameters(job) for job in plan.jobs()}
    assert (
        given["06_intervention"]["site"] == given["04_differentiation"]["site"] == "ln_2"
        and "site" not in given["02_training"]
    )
    assert (
        given["02_training"]["n_layer"] == given["00_base"]["n_layer"] == 3
        and "n_layer" not in given["01_dataset_design"]
    )


@each_plan
def test_a_plan_survives_json(plan):
    again = Plan.from_json(plan.to_json())
    assert again == plan and [again.command(job) for job in again.jobs()] == [
        plan.command(job) for job in plan.jobs()
    ]


def test_sources_exist_and_name_the_notebook_and_the_modules():
    plan = PLANS["one task, one seed"]
    for job in plan.jobs():
        files = plan.sources(job)
        assert all(path.is_file() for path in files)
        assert job.stage == "00_base" or f"{job.stage}.ipynb" in {path.name for path in files}
    assert "sweep.py" in {
        path.name for path in plan.sources(Job("06_intervention", "inference", "seed4"))
    }
    assert [
        stage
        for stage in per_run("scratch")
        if "ledger.py" in {path.name for path in plan.sources(Job(stage, "inference", "seed4"))}
    ] == []
    assert {"ledger.py", "figures_ledger.py"} <= {
        path.name for path in plan.sources(Job("08_synthesis", "study", "all"))
    }


@pytest.mark.parametrize(
    "given",
    [
        {"tasks": []},
        {"seeds": []},
        {"tasks": ["chess"]},
        {"settings": {"chess": 1}},
        {"seeds": [-1]},
    ],
)
def test_a_plan_checks_itself(given):
    with pytest.raises(ParameterError):
        Plan(**{"preset": "smoke"} | given)


def test_the_time_left_goes_by_what_was_timed():
    # one kind was timed and took twice what was expected: so will the others
    assert _time_left({"02_training": 2}, {"02_training": [30.0, 50.0]}, jobs=1) == pytest.approx(
        80
    )
    from memgen.stages import EXPECTED_SECONDS as expected

    left = _time_left({"03_pairs": 3}, {"02_training": [2 * expected["02_training"]]}, jobs=2)
    assert left == pytest.approx(3 * 2 * expected["03_pairs"] / 2)
