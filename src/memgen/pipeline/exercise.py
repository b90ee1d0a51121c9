"""Teaching material: exercises with solutions and self-checks, and short quizzes.

    python -m memgen.teaching student 04_differentiation OUT.ipynb    the notebook with gaps
    python -m memgen.teaching students FOLDER                         all of them
    python -m memgen.teaching check [NAME or PATH ...]                are notebooks and quizzes well-formed? (default: all)
    python -m memgen.teaching run [NAME or PATH ...] [--task --seed --preset --runs]    execute the solutions

`notebooks/exercises/NN_stage.ipynb` holds the solutions and is the only source: the student's
notebook and the page of the book are derived from it. The tags of its cells say what they are
(`TAGS`), and the lines between `# BEGIN SOLUTION` and `# END SOLUTION` are the student's to write.
A quiz is `book/quizzes/NN_stage.yaml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memgen.errors import ArtifactError, ParameterError
from memgen.models.load import load_trained
from memgen.pipeline.notebook import quiet
from memgen.presets import preset_path
from memgen.stages import PARAMETER_CLASSES
from memgen.store.artifacts import MANIFEST, RESULT, verify
from memgen.store.files import read_json
from memgen.store.folders import run_folder
from memgen.store.reader import FinishedStage
from memgen.tasks import make_task

PARAMETERS = {"task": "arithmetic-tagged", "seed": 6, "preset": "laptop", "runs": "data/runs"}


class Exercise:
    """A finished run to read from, as a lab reads it; nothing can be written through it."""

    def __init__(self, stage: str, task: str, seed: int, preset: str, runs: str | Path):
        self.stage, self.task_name, self.seed, self.preset, self.runs = (
            stage,
            task,
            seed,
            preset,
            runs,
        )
        self._checked: set[Path] = set()

    def folder(self, stage: str | None = None) -> Path:
        """The folder of a finished stage (default: the one that the exercises are about), its files
        unchanged since they were written.

        Raises `ArtifactError`, one sentence that says what to run.
        """
        stage = stage or self.stage
        if stage not in PARAMETER_CLASSES:
            raise ParameterError(
                f"stage={stage!r} is unknown; choose one of {', '.join(PARAMETER_CLASSES)}"
            )
        task = "study" if stage == "08_synthesis" else self.task_name
        span = "all" if stage in ("07_transfer", "08_synthesis") else self.seed
        folder = run_folder(self.runs, self.preset, task, span) / stage
        if not (folder / MANIFEST).is_file():
            raise ArtifactError(
                f"{folder} is missing or unfinished: run `make labs TASKS={self.task_name}"
                f" SEEDS={self.seed} PRESET={self.preset} RUNS={self.runs}` first{self._there()}"
            )
        if folder not in self._checked:
            verify(folder)
            self._checked.add(folder)
        return folder

    def read_table(self, name: str, stage: str | None = None):
        """A table that a stage left, as a data frame."""
        import pandas as pd

        return pd.read_parquet(self._file(name, "parquet", stage))

    def read_arrays(self, name: str, stage: str | None = None) -> dict[str, Any]:
        """Numpy arrays that a stage left, by name."""
        from safetensors.numpy import load_file

        return load_file(self._file(name, "safetensors", stage))

    def read_result(self, stage: str | None = None) -> dict:
        """`result.json` of a stage."""
        return read_json(self.folder(stage) / RESULT)

    def read_parameters(self, stage: str | None = None) -> dict:
        """The parameters that a stage ran with."""
        return read_json(self.folder(stage) / MANIFEST)["parameters"]

    def dataset(self):
        """Every instance of the data set, one row each."""
        return self.read_table("instances", "01_dataset_design")

    def task(self, tokenizer=None):
        """The task of this run, with the keys of its data set; its answers have room in the tokens
        of `tokenizer`.
        """

        p = PARAMETER_CLASSES["01_dataset_design"](**self.read_parameters("01_dataset_design"))
        task = make_task(p.task, p.n_keys, p.data_seed)
        return task.fit(tokenizer, self.dataset()) if tokenizer else task

    def model(self):
        """`(model, tokenizer)` of this run."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        return load_trained(FinishedStage(self.folder("02_training")))

    def rng(self, k: int = 0):
        """A generator of random numbers that depends on the run's seed and `k` alone."""
        import numpy as np

        return np.random.default_rng([self.seed, k])

    def _file(self, name: str, kind: str, stage: str | None) -> Path:
        folder = self.folder(stage)
        path = folder / f"{name}.{kind}"
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in folder.glob(f"*.{kind}"))) or "none"
            raise ArtifactError(f"{folder} has no {name}.{kind}; of this kind it has {there}")
        return path

    def _there(self) -> str:
        """Which tasks and seeds of this preset can be chosen instead, as the end of a sentence."""
        study = run_folder(self.runs, self.preset, self.task_name, self.seed).parents[1]
        found = sorted(
            f"{path.parents[1].name} {path.parent.name}"
            for path in study.glob("*/seed*/01_dataset_design")
            if "-retrain" not in path.parent.name
        )
        return f", or choose a run that is there ({', '.join(found)})" if found else ""


def open_exercise(
    stage: str, task: str, seed: int, preset: str = "laptop", runs: str | Path = "data/runs"
) -> Exercise:
    """The finished run that the exercises of a chapter read. Raises `ParameterError` or
    `ArtifactError`, one sentence each.
    """

    quiet()
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ParameterError(f"seed={seed!r} must be a whole number, at least 0")
    preset_path(preset)
    exercise = Exercise(stage, task, seed, preset, runs)
    exercise.folder()
    return exercise
