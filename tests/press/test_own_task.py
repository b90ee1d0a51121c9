"""The task that *Re-execute* spells out: `check` sees what would break it, and it passes its gate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from checkout import checkout
from memgen import tasks
from memgen.config.training import DatasetParameters
from memgen.errors import ParameterError
from memgen.pipeline import task_check
from memgen.pipeline.task_check import refuse_unspeakable, shared_pieces
from memgen.tasks import TASKS, instances
from memgen.training.base import shared_vocabulary
from running import ROOT

PAGE = (ROOT / "book" / "reexecute.md").read_text(encoding="utf8")
OWN = PAGE.partition("## A task of your own")[2]
(LISTING,) = re.findall(r"^```python\n(.*?)^```$", OWN, re.M | re.S)
(PRESET,) = re.findall(r"^```yaml\n(.*?)^```$", OWN, re.M | re.S)


@pytest.fixture
def reverse(monkeypatch):
    """The class of the listing, registered for one test."""
    names = {"__name__": "memgen.tasks.reverse", "__package__": "memgen.tasks"}
    exec(compile(LISTING, "reexecute.md", "exec"), names)
    monkeypatch.setitem(TASKS, "reverse", names["Reverse"])
    return names["Reverse"]


def asked(**more) -> DatasetParameters:
    sizes = {"n_keys": 20, "n_keyed": 200, "n_conflict_per_key": 10, "contrast_on": "keys"}
    return DatasetParameters(task="reverse", seed=0, **sizes, **more)


def test_the_listing_is_a_task(reverse):
    refuse_unspeakable(asked())
    task = asked().make_task()
    frame = task.generate(n_free=50, n_keyed=200, n_conflict_per_key=10, n_free_eval=10)
    assert frame.prompt.is_unique and set(frame.kind) == {"free", "keyed", "contrast", "conflict"}
    for row in instances(frame):
        (word,) = (
            part for part in re.split(": | ->", row.prompt) if re.fullmatch("[a-z]{3}", part)
        )
        assert row.rule_answer == word[::-1] != row.memory_answer


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda c, m: m.setattr(c, "vocabulary", lambda _: ["a", ": "]), "its vocabulary() lacks"),
        (
            lambda c, m: m.setattr(c, "rephrase", lambda _, rng, one: one),
            "rephrase() fails (TypeError",
        ),
        (lambda c, m: m.setattr(c, "conflict", lambda *_: None), "conflict() gave no prompt"),
        (lambda c, m: m.setattr(c, "free", lambda *_: 1 / 0), "free() fails (ZeroDivisionError"),
    ],
)
def test_a_task_that_cannot_run_is_refused_in_one_sentence(reverse, monkeypatch, damage, said):
    damage(reverse, monkeypatch)
    with pytest.raises(ParameterError) as error:
        refuse_unspeakable(asked())
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_task_that_the_shared_base_cannot_read_is_refused(reverse, monkeypatch):
    with pytest.raises(ParameterError, match="vocabulary of the base that track=lora shares lacks"):
        refuse_unspeakable(asked(track="lora"))
    monkeypatch.setattr(task_check, "TASK_NAMES", (*tasks.TASK_NAMES, "reverse"))
    refuse_unspeakable(asked(track="lora"))


def test_the_studys_own_tasks_are_accepted():
    assert shared_pieces() == shared_vocabulary()
    for name in tasks.TASK_NAMES:
        for track in ("scratch", "lora"):
            refuse_unspeakable(DatasetParameters(task=name, seed=0, track=track))


def copied(folder: Path) -> Path:
    """A copy of the repository with what the page says, as a reader would copy it."""
    house = checkout(folder / "house")
    (house / "src/memgen/tasks/reverse.py").write_text(LISTING)
    (house / "notebooks/presets/mine.yaml").write_text(PRESET)
    listed = house / "src/memgen/tasks/__init__.py"
    text = listed.read_text().replace("CipherMatched)", "CipherMatched, Reverse)", 1)
    listed.write_text(
        text.replace("\nfrom .table", "\nfrom .reverse import Reverse\nfrom .table", 1)
    )
    return house


def labs(house: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(house / "src"), "MEMGEN_ROOT": str(house)}
    command = [
        sys.executable,
        "-m",
        "memgen.pipeline.cli",
        "labs",
        "--tasks",
        "reverse",
        "--jobs",
        "1",
    ]
    command += ["--runs", str(house / "runs"), *arguments]
    done = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_the_listing_runs_in_smoke(tmp_path):
    house = copied(tmp_path)
    labs(house, "--preset", "smoke", "--seeds", "0", "--labs", "03_pairs")
    assert (house / "runs/smoke/reverse/seed0/03_pairs/result.json").is_file()


@pytest.mark.slow
def test_the_listing_passes_its_gate_on_three_seeds(tmp_path):
    house = copied(tmp_path)
    labs(house, "--preset", "mine", "--seeds", "26", "27", "28", "--labs", "02_training")
    results = sorted((house / "runs/mine/reverse").glob("seed*/02_training/result.json"))
    assert len(results) == 3 and all('"passed": true' in path.read_text() for path in results)
