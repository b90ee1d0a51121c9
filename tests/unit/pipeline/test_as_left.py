"""A lab is executed again if anything that it is made of, or that it left, is another; and only then."""

from __future__ import annotations

import os

import pytest

from memgen.pipeline import as_left
from memgen.pipeline.job import run_lab
from memgen.presets import stage_parameters

NAME = "03_pairs"
GIVEN = {"task": "inference", "preset": "smoke", "seed": 6}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab that a run has left; `is_left()`: is it, by what is there now?"""

    class Made:
        module, read = tmp_path / "pairs.py", tmp_path / "runs" / "02_training"
        folder, notebook = tmp_path / "runs" / NAME, tmp_path / "runs" / f"{NAME}.ipynb"
        given = dict(GIVEN)

        def made(self):
            return as_left.made_of(NAME, stage_parameters(NAME, self.given), self.given)

        def is_left(self):
            return as_left.is_as_left(self.folder, self.notebook, self.made())

    made = Made()
    monkeypatch.setattr(as_left, "lab_files", lambda name: [made.module])
    monkeypatch.setattr(as_left, "read_folders", lambda name, p: [made.read])
    made.module.write_text("x = 1\n")
    (made.folder / "arrays").mkdir(parents=True)
    for path in (made.notebook, made.folder / "result.json", made.folder / "arrays" / "a.bin"):
        path.write_text("left")
    made.read.with_suffix(".stamp").write_text("digest")
    as_left.note(made.folder, made.notebook, made.made())
    return made


def test_a_lab_as_it_was_left_is_known_wherever_its_runs_lie(lab):
    assert lab.is_left()
    lab.given["runs"] = "elsewhere"
    assert lab.is_left()
    lab.read.with_suffix(".stamp").write_text("digest")  # it ran again, and the same came out
    assert lab.is_left()


@pytest.mark.parametrize(
    "change",
    [
        lambda lab: lab.module.write_text("x = 2\n"),
        lambda lab: lab.module.unlink(),
        lambda lab: lab.read.with_suffix(".stamp").write_text("another outcome"),
        lambda lab: lab.read.with_suffix(".stamp").unlink(),
        lambda lab: lab.given.update(seed=7),
        lambda lab: lab.given.update(n_rephrasings=9),
        lambda lab: (lab.folder / "result.json").write_text("shorter"),
        lambda lab: os.utime(lab.folder / "arrays" / "a.bin"),
        lambda lab: (lab.folder / "arrays" / "b.bin").write_text("one more"),
        lambda lab: lab.notebook.unlink(),
        lambda lab: os.utime(lab.notebook),
        lambda lab: lab.folder.with_name(f".{NAME}.left.json").write_text("{"),
    ],
)
def test_whatever_changes_is_seen(lab, change):
    change(lab)
    assert not lab.is_left()


def test_what_numbers_hang_on_beside_the_repository_is_seen(lab, monkeypatch):
    monkeypatch.setattr(as_left, "versions", lambda: {"torch": "another"})
    assert not lab.is_left()


def test_a_lab_on_a_model_from_elsewhere_is_always_executed():
    given = {"task": "inference", "preset": "smoke", "seed": 6, "base_model": "a/model"}
    p = stage_parameters("02_training", given | {"track": "lora"})
    assert as_left.made_of("02_training", p, given) == ""


def test_a_lab_of_a_study_is_executed_once(tmp_path, capfd):
    """The real one: its notebook stays as it is, its stamp is written anew, which Snakemake asks for."""
    given = GIVEN | {"runs": str(tmp_path)}
    run_lab("01_dataset_design", given)
    (notebook,) = tmp_path.glob("smoke/inference/seed6/01_dataset_design.ipynb")
    stamp, executed = notebook.with_suffix(".stamp"), notebook.read_bytes()
    digest = stamp.read_text()
    stamp.unlink()  # so does Snakemake, before a job
    capfd.readouterr()
    run_lab("01_dataset_design", given)
    assert "nothing that this lab is made of has changed" in capfd.readouterr().out
    assert notebook.read_bytes() == executed and stamp.read_text() == digest
    run_lab("01_dataset_design", given | {"seed": 7})
    assert "nothing" not in capfd.readouterr().out
