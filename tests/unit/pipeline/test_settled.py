"""A study that nothing was changed of is known without Snakemake, and every change is seen."""

from __future__ import annotations

import os

import pytest

from memgen.pipeline import runner, settled
from memgen.pipeline.engine import Engine
from memgen.pipeline.plan import Plan


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """The repository, as far as labs are made of it."""
    root = tmp_path / "root"
    for place in ("src/memgen/labs/pairs.py", "notebooks/03_pairs.ipynb", "Snakefile"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(place)
    monkeypatch.setattr(settled, "ROOT", root)
    return root


@pytest.fixture
def plan(sources, tmp_path):
    """Of a study that a run has just left."""
    plan = Plan("smoke", ["inference"], [6], str(tmp_path / "runs"), labs=["01_dataset_design"])
    lab = plan.home / "inference" / "seed6" / "01_dataset_design"
    lab.mkdir(parents=True)
    (lab / "result.json").write_text("{}")
    lab.with_suffix(".stamp").write_text("digest")
    settled.note(plan, settled.sources_of(plan))
    return plan


def test_a_study_as_a_run_has_left_it_is_settled(plan, sources):
    assert settled.is_settled(plan)
    (plan.home / "study.json").write_text("written by every run")
    (plan.home / "snakemake.log").write_text("so is this")
    (sources / "notebooks" / ".03_pairs.ipynb.swp").write_text("an editor's")
    assert settled.is_settled(plan)


def _same_size_and_time(path):
    about = path.stat()
    path.write_text("x" * about.st_size)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [_same_size_and_time, os.remove, os.utime, lambda p: p.rename(f"{p}x")]
)
@pytest.mark.parametrize(
    "place",
    [
        "root/src/memgen/labs/pairs.py",
        "root/notebooks/03_pairs.ipynb",
        "runs/smoke/inference/seed6/01_dataset_design/result.json",
        "runs/smoke/inference/seed6/01_dataset_design.stamp",
    ],
)
def test_whatever_is_changed_snakemake_is_asked(plan, tmp_path, place, change):
    change(tmp_path / place)
    assert not settled.is_settled(plan)


def test_another_plan_or_a_damaged_note_is_not_settled(plan, tmp_path):
    asked = ("smoke", ["inference"], [6], str(tmp_path / "runs"))
    assert not settled.is_settled(Plan(*asked, labs=["01_dataset_design", "02_training"]))
    (plan.home / settled.NOTED).write_text("{")
    assert not settled.is_settled(plan)


def test_a_source_that_was_edited_during_a_run_is_not_taken_for_what_ran(
    plan, sources, monkeypatch
):
    (sources / "Snakefile").write_text("the next version")
    monkeypatch.setattr(
        runner, "_wait", lambda *_: (sources / "Snakefile").write_text("a later one") * 0
    )
    runner.run_labs(plan, 1, Engine())
    assert not settled.is_settled(plan)


def test_only_what_is_not_settled_starts_snakemake_and_a_failure_settles_nothing(
    plan, sources, monkeypatch, capsys
):
    codes, ran = [1, 0], []
    monkeypatch.setattr(runner, "_wait", lambda *_: ran.append(1) or codes.pop(0))
    runner.run_labs(plan, 1)
    assert not ran and "nothing to run" in capsys.readouterr().out
    (sources / "Snakefile").write_text("the next version")
    with pytest.raises(runner.StudyError):
        runner.run_labs(plan, 1)
    runner.run_labs(plan, 1)
    assert len(ran) == 2
    runner.run_labs(plan, 1)
    assert len(ran) == 2
