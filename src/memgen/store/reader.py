"""The one reader of finished stages: what a lab left, for every later lab, the ledger and the book."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from memgen.config.base import StageParameters
from memgen.errors import ArtifactError
from memgen.stages import BASE, LABS
from memgen.store.artifacts import (
    MANIFEST,
    RESULT,
    check_files,
    read_manifest,
    result_digest,
    verify,
)
from memgen.store.files import read_json
from memgen.store.folders import RETRAIN, run_folder
from memgen.store.left_out import reason_in
from memgen.tasks import GivenTask, Task


class FinishedStage:
    """One finished stage: `result`, `manifest`, `parameters`, and the tables and arrays beside.

    Nothing is read before it is asked for, and nothing that its manifest does not vouch for.
    `ArtifactError` names a missing or damaged file and its lab.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.name = self.folder.name

    @cached_property
    def result(self) -> dict[str, Any]:
        """`result.json`: the stage's key numbers."""
        self._check(RESULT)
        found: dict[str, Any] = read_json(self.folder / RESULT)
        return found

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.folder)

    @cached_property
    def parameters(self) -> Any:
        """What the lab ran with, validated: an instance of its class in the table of labs."""
        return LABS[self.name].parameters(**self.manifest["parameters"])

    @property
    def exists(self) -> bool:
        return (self.folder / RESULT).is_file()

    @property
    def manifested(self) -> bool:
        return (self.folder / MANIFEST).is_file()

    @property
    def digest(self) -> str:
        """SHA-256 over all outputs but the timings."""
        return result_digest(self.folder)

    def verify(self) -> FinishedStage:
        """Itself, every file found as its manifest says."""
        verify(self.folder)
        return self

    def has(self, name: str) -> bool:
        """Did the stage leave such a file or folder?"""
        return (self.folder / name).exists()

    def path(self, name: str) -> Path:
        """A file or folder of this stage, which has to be there."""
        path = self.folder / name
        if not path.exists():
            there = ", ".join(sorted(p.name for p in self.folder.glob("*"))) or "nothing"
            raise ArtifactError(
                f"{path} is missing; {self.folder} holds {there}. Run lab {self.name} of this task and"
                " seed again"
            )
        self._check(name)
        return path

    def _check(self, name: str) -> None:
        """What is read is what the stage wrote: a file, or a folder with all that is in it."""
        if self.manifested:
            check_files(self.folder, self.manifest, name)

    def table(self, name: str) -> pd.DataFrame:
        """A table, one row per case."""
        return pd.read_parquet(self.path(f"{name}.parquet"))

    def arrays(self, name: str) -> dict[str, Any]:
        """Numpy arrays by name."""
        path = self.path(f"{name}.safetensors")
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(
                f"{path} cannot be read ({error}); delete its folder and run that lab again"
            ) from None


def finished_stages(home: Path) -> list[FinishedStage]:
    """Every finished stage in a study's folder: of labs and of bases, on all tracks."""
    folders = sorted(path.parent for path in Path(home).rglob(MANIFEST))
    return [FinishedStage(folder) for folder in folders if folder.name in {BASE, *LABS}]


class FinishedRun:
    """The finished stages of one run of a task: `run["06_intervention"].result`."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._stages: dict[str, FinishedStage] = {}

    @classmethod
    def of(
        cls, p: StageParameters, task: str | None = None, seed: int | str | None = None
    ) -> FinishedRun:
        """The run of these parameters, or that of another task or seed of the same study."""
        seed = p.seed if seed is None else seed
        return cls(run_folder(p.runs, p.preset, task or p.task, seed, track=p.track))

    def __getitem__(self, stage: str) -> FinishedStage:
        if stage not in self._stages:
            self._stages[stage] = FinishedStage(self.folder / stage)
        return self._stages[stage]

    @property
    def complete(self) -> bool:
        """Was no lab of this run left out?"""
        return reason_in(self.folder) is None

    @cached_property
    def data(self) -> FinishedStage:
        """The data set's stage. A retrain shares that of the run that it repeats."""
        return FinishedStage(
            self.folder.with_name(self.folder.name.partition(RETRAIN)[0]) / "01_dataset_design"
        )

    def dataset(self) -> pd.DataFrame:
        """Every instance of the data set, one row each."""
        return self.data.table("instances")

    def answered(self) -> pd.DataFrame:
        """Every conflict prompt and rephrasing with the model's answer and behaviour."""
        return self["03_pairs"].table("answered")

    def task(self, tokenizer: Any = None) -> Task:
        """The task with the keys of its data set; its answers have room in the tokens of `tokenizer`."""
        task: Task = self.data.parameters.make_task()
        if isinstance(task, GivenTask):  # a pretrained model was asked for its keys
            task.keep(self.data.result["known"])
        return task.fit(tokenizer, self.dataset()) if tokenizer else task
