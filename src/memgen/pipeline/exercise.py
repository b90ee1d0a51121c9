"""How an exercise notebook opens a finished run: to read what its labs left, never to write."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers.utils.logging import disable_progress_bar

from memgen.errors import ArtifactError, ParameterError
from memgen.models.load import load_trained
from memgen.pipeline.notebook import quiet
from memgen.pipeline.real import TARGET
from memgen.presets import preset_path
from memgen.stages import LABS
from memgen.store.files import read_json
from memgen.store.folders import is_retrain, run_folder, study_folder
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.terms import STUDY, WHOLE


@dataclass
class Exercise:
    """A finished run, read as a lab reads it; `lab`: read where no `stage` is named."""

    lab: str
    task_name: str
    seed: int
    preset: str
    runs: str | Path
    checked: dict[str, FinishedStage] = field(default_factory=dict)

    def stage(self, name: str | None = None) -> FinishedStage:
        """A finished stage, unchanged; unknown: `ParameterError`, to be run: `ArtifactError`."""
        name = name or self.lab
        if name not in LABS:
            raise ParameterError(f"stage={name!r} is unknown; choose one of {', '.join(LABS)}")
        if name not in self.checked:
            found = self._run(LABS[name].level)[name]
            if not found.exists:
                raise ArtifactError(
                    f"{found.folder} is missing or unfinished: run `make labs TASKS={self.task_name}"
                    f" SEEDS={self.seed} PRESET={self.preset} RUNS={self.runs}` first{self._there()}"
                )
            self.checked[name] = found.verify()
        return self.checked[name]

    def read_table(self, name: str, stage: str | None = None) -> pd.DataFrame:
        """A table that a stage left, as a data frame."""
        return self.stage(stage).table(name)

    def read_arrays(self, name: str, stage: str | None = None) -> dict[str, Any]:
        """Numpy arrays that a stage left, by name."""
        return self.stage(stage).arrays(name)

    def read_result(self, stage: str | None = None) -> dict:
        """`result.json` of a stage."""
        return self.stage(stage).result

    def read_parameters(self, stage: str | None = None) -> dict:
        """The parameters that a stage ran with."""
        return self.stage(stage).manifest["parameters"]

    def dataset(self) -> pd.DataFrame:
        """Every instance of the data set, one row each."""
        return self.read_table("instances", "01_dataset_design")

    def task(self, tokenizer=None):
        """This run's task with the keys of its data; answers have room in `tokenizer`'s tokens."""
        self.stage("01_dataset_design")
        return self._run("run").task(tokenizer)

    def model(self):
        """`(model, tokenizer)` of this run."""
        disable_progress_bar()
        return load_trained(self.stage("02_training"))

    def rng(self, k: int = 0) -> np.random.Generator:
        """A generator of random numbers that depends on the run's seed and `k` alone."""
        return np.random.default_rng([self.seed, k])

    def _run(self, level: str) -> FinishedRun:
        """Where a lab of a level writes."""
        task = STUDY if level == "study" else self.task_name
        span = self.seed if level == "run" else WHOLE
        return FinishedRun(run_folder(self.runs, self.preset, task, span))

    def _there(self) -> str:
        """Which tasks and seeds of this preset can be chosen instead, as the end of a sentence."""
        found = sorted(
            f"{path.parents[1].name} {path.parent.name}"
            for path in study_folder(self.runs, self.preset).glob("*/seed*/01_dataset_design")
            if not is_retrain(path)
        )
        return f", or choose a run that is there ({', '.join(found)})" if found else ""


def open_exercise(
    stage: str, task: str, seed: int, preset: str = "laptop", runs: str | Path = "data/runs"
) -> Exercise:
    """The run that a chapter's exercises read; raises `ParameterError` or `ArtifactError`."""
    quiet()
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ParameterError(f"seed={seed!r} must be a whole number, at least 0")
    preset_path(preset)
    exercise = Exercise(stage, task, seed, preset, runs)
    exercise.stage()
    return exercise


def open_asked(model: str) -> dict[str, Any]:
    """What is committed of a pretrained model that was asked as it is; `ArtifactError`: nothing is."""
    path = TARGET / f"{model}.json"
    if not path.is_file():
        asked = (one.stem for one in TARGET.glob("*.json") if not one.stem.endswith("-lora"))
        there = ", ".join(sorted(asked)) or "none"
        raise ArtifactError(
            f"{path} is missing: run `make real MODEL={model}`, or choose a model that is there"
            f" ({there})"
        )
    return dict(read_json(path))
