"""The command line: bad input ends at once with one sentence."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from memgen.config.base import ROOT
from memgen.config.values import settings
from memgen.pipeline import cli
from memgen.pipeline.cli import main
from memgen.store.files import lock_file
from memgen.tasks import TASK_NAMES

SYNTHESIS = "08_synthesis"


def memgen(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`memgen ...` as a user's shell runs it."""
    return subprocess.run(
        [sys.executable, "-m", "memgen.pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
    )


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
    assert settings([text]) == {"a": value} and type(settings([text])["a"]) is type(value)


@pytest.mark.slow
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
    with lock_file(tmp_path / "smoke" / ".study.lock"):
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
        and f"another run is working in {tmp_path / 'smoke'}: process {os.getpid()};" in done.stderr
    )
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("given", ["seed=3", "[1]", "3", ""])
def test_a_single_job_without_parameters_says_what_to_do(capsys, given):
    assert main(["lab", "01_dataset_design", given]) == 1
    assert "make lab" in capsys.readouterr().err


def test_a_base_model_that_is_not_there_ends_at_once(capsys):
    said = check(capsys, "--tracks", "lora", "--set", "base_model=nobody/nothing")
    assert "nobody/nothing" in said and "a folder" in said and "hf download" in said


def test_a_study_for_another_machine_can_be_checked_here(capsys, tmp_path):
    """The preset `paper` asks for a graphics card; what is wrong for every machine stays refused."""
    asked = ["check", "--preset", "paper", "--tasks", "inference", "--runs", str(tmp_path)]
    there = ["--set", "device=cuda:77"]
    assert main([*asked, *there]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "device='cuda:77' cannot be used here" in line and "make check ELSEWHERE=yes" in line
    assert main([*asked, *there, "--elsewhere"]) == 0
    assert main([*asked, "--elsewhere", "--set", "device=cuda:77", "n_layer=0"]) == 1


def test_some_labs_are_planned_with_all_that_they_read(monkeypatch):
    planned = []
    monkeypatch.setattr(cli, "run_labs", lambda plan, *_: planned.append(plan))
    asked = ["labs", "--preset", "smoke", "--tasks", "inference", "--seeds", "0"]
    assert main([*asked, "--labs", "05_prediction"]) == 0
    (plan,) = planned
    assert plan.labs == ["01_dataset_design", "02_training", "03_pairs", "05_prediction"]
    assert plan.targets() == ["inference/seed0/05_prediction.stamp"]
    assert main([*asked, "--labs", "05_predictions"]) == 1
