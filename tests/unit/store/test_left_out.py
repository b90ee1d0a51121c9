"""Labs that a study goes on without: what their stamps say, and which runs are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from memgen.errors import InapplicableError
from memgen.pipeline.job import run_lab
from memgen.pipeline.notebook import require_applicable
from memgen.presets import stage_parameters
from memgen.store.files import write_json
from memgen.store.folders import lab_folder
from memgen.store.left_out import MARK, reason_in, reason_of, there

WHY = "two pairs are too few"


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """A whole run, one whose lab 06 was left out, and one of which nothing was run."""
    whole, cut, empty = (tmp_path / name for name in ("seed0", "seed1", "seed2"))
    for run in (whole, cut):
        run.mkdir()
        (run / "05_prediction.stamp").write_text("0123abc\n")
    (cut / "06_intervention.stamp").write_text(f"{MARK}{WHY}\n")
    return [whole, cut, empty]


def test_a_run_is_whole_unless_a_lab_of_it_was_left_out(runs):
    whole, cut, empty = runs
    assert reason_of(cut / "06_intervention") == WHY == reason_in(cut)
    assert reason_of(cut / "05_prediction") is None is reason_of(whole / "06_intervention")
    assert reason_in(whole) is None is reason_in(empty)
    assert there([run / "06_intervention" for run in runs]) == [
        whole / "06_intervention",
        empty / "06_intervention",
    ]


@pytest.mark.parametrize("miss", [None, "no checkpoint showed both"])
def test_a_missed_gate_stops_the_labs_that_need_both_behaviours(tmp_path, miss):
    given = {"task": "inference", "seed": 0, "preset": "smoke", "runs": str(tmp_path)}
    training = lab_folder("02_training", stage_parameters("02_training", given))
    training.mkdir(parents=True)
    write_json(training / "result.json", {"miss": miss})
    asked = stage_parameters("05_prediction", given)
    require_applicable("03_pairs", stage_parameters("03_pairs", given))
    if miss:
        with pytest.raises(InapplicableError, match=miss):
            require_applicable("05_prediction", asked)
    else:
        require_applicable("05_prediction", asked)
        (training.parent / "03_pairs.stamp").write_text(MARK + WHY)
        with pytest.raises(InapplicableError, match=WHY):
            require_applicable("05_prediction", asked)


@pytest.mark.slow
def test_a_lab_that_does_not_apply_leaves_its_reason_and_nothing_that_an_earlier_run_left(tmp_path):
    given = {"task": "inference", "seed": 0, "preset": "smoke", "runs": str(tmp_path)}
    folder = lab_folder("05_prediction", stage_parameters("05_prediction", given))
    (folder.parent).mkdir(parents=True)
    (folder.parent / "03_pairs.stamp").write_text(MARK + WHY)
    folder.mkdir()
    (folder / "result.json").write_text("{}")
    folder.with_suffix(".ipynb").write_text("{}")
    run_lab("05_prediction", given)
    assert reason_of(folder) == WHY
    assert not folder.exists() and not folder.with_suffix(".ipynb").exists()
    assert not list(folder.parent.glob("*running*"))
