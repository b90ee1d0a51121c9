"""The arms of training: what is collected of runs that ended, and how chapter 2 shows it."""

from __future__ import annotations

import pytest

from memgen.errors import ArtifactError
from memgen.pipeline.arms import ARMS, collect, write
from memgen.store.files import write_json
from press.arms import Arms, arms

GOOD = {"memory_rate": 0.5, "rule_rate": 0.4, "other_rate": 0.1, "free_accuracy": 0.95}
GOOD |= {"keyed_accuracy": 0.9, "step": 50, "n_conflict": 40, "n_test_keys": 14}


@pytest.fixture
def runs(tmp_path):
    """One task: an arm with a run that passes and one that does not, one far from any."""
    for arm, seed, result in (
        ("arm-untaught", 6, GOOD),
        ("arm-untaught", 7, GOOD | {"rule_rate": 0.1}),
        ("arm-taught", 6, GOOD | {"memory_rate": 0.0, "rule_rate": 0.9}),
    ):
        home = tmp_path / "runs" / arm / "inference" / f"seed{seed}"
        (home / "02_training").mkdir(parents=True)
        write_json(home / "02_training" / "result.json", result)
        about = {"machine": {"cores": 2, "processor": "x"}, "versions": {}, "parameters": {}}
        write_json(home / "02_training" / "manifest.json", about)
    (tmp_path / "runs" / "arm-gate" / "inference" / "seed6").mkdir(parents=True)  # interrupted
    return tmp_path / "runs"


def test_every_run_that_ended_is_a_row_and_passes_or_not(runs):
    table = collect(str(runs))
    assert list(zip(table.arm, table.seed, table.passed)) == [
        ("arm-untaught", 6, True),
        ("arm-untaught", 7, False),
        ("arm-taught", 6, False),
    ]
    with pytest.raises(ArtifactError, match="make arms"):
        collect(str(runs / "nowhere"))


def test_chapter_2_shows_them(runs, tmp_path):
    assert arms(tmp_path, tmp_path) == Arms()  # before they were made
    (tmp_path / "figures").mkdir()
    write(str(runs), tmp_path / "data" / "reference" / "arms")
    found = arms(tmp_path, tmp_path)
    assert (tmp_path / "figures" / "arms.png").is_file()
    assert [(row["name"], str(row["passed"])) for row in found.rows] == [
        (ARMS["arm-untaught"], "1 of 2"),
        (ARMS["arm-taught"], "0 of 1"),
    ]
    assert found.rows[1]["memory_rate"] == 0
    assert found.rows[0]["rule_rate"] == pytest.approx(0.25)
    assert found.command == 'make arms SEEDS="6 7"' and found.machine == "2 cores of x"
    assert "1 of 2 passed" in found.alt and found.seeds == 2
