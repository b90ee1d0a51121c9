"""How an exercise notebook opens a finished run."""

from __future__ import annotations

import pytest

from memgen.errors import ArtifactError, ParameterError
from memgen.pipeline.exercise import open_exercise


def test_a_run_that_is_not_there_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(
        ArtifactError,
        match=(
            r"04_differentiation is missing.*make labs TASKS=inference SEEDS=3 PRESET=smoke"
            r" RUNS=\S+` first$"
        ),
    ):
        open_exercise("04_differentiation", "inference", 3, "smoke", tmp_path)
    (tmp_path / "smoke" / "cipher-tagged" / "seed0" / "01_dataset_design").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"choose a run that is there \(cipher-tagged seed0\)"):
        open_exercise("08_synthesis", "inference", 3, "smoke", tmp_path)
    for wrong in (
        {"stage": "04_x"},
        {"seed": "6"},
        {"seed": -1},
        {"seed": True},
        {"preset": "desktop"},
    ):
        with pytest.raises(ParameterError):
            open_exercise(
                **{"stage": "04_differentiation", "task": "inference", "seed": 6, "runs": tmp_path}
                | wrong
            )
