"""How a lab's notebook opens its run: validated parameters, what earlier stages left, one result."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from memgen.config.base import StageParameters
from memgen.errors import ArtifactError, EndedError, InapplicableError
from memgen.pipeline.parameters_cell import given_parameters
from memgen.presets import stage_parameters
from memgen.stages import LABS, TRAINING
from memgen.store import numerics
from memgen.store.artifacts import Result, Stage, verify
from memgen.store.folders import input_folders, is_retrain, lab_folder
from memgen.store.left_out import reason_of, there
from memgen.store.products import use_onednn
from memgen.store.reader import FinishedRun, FinishedStage


class Lab:
    """One lab run: its `parameters`, the `run` with what earlier stages left, and its own `stage`."""

    def __init__(self, name: str, parameters: StageParameters):
        numerics.require(parameters.numerics)
        if parameters.numerics == "portable":
            use_onednn()
        parameters = numerics.settled(parameters)
        self.name, self.parameters = name, parameters
        folder = lab_folder(name, parameters)
        self.run = FinishedRun(folder.parent)
        # a lab that spans the runs goes on without those that cannot be asked
        inputs = there(input_folders(name, parameters))
        self.stage = Stage(folder, parameters.model_dump(), inputs, LABS[name].code)

    # -- computing once ---------------------------------------------------------------------------
    def keep(self, compute: Callable[..., Result]) -> dict:
        """Compute this stage unless it is there already, unchanged; returns its `result.json`.

        The code of `compute` is the stage's; its argument, if any, a folder kept if interrupted.
        """
        resumes = bool(inspect.signature(compute).parameters)
        self.stage.compute = compute
        self.__dict__.pop("finished", None)
        if not self.finished:
            with self.computing(keep_partial=resumes) as folder:
                began = time.monotonic()
                result = compute(folder) if resumes else compute()
                result.write(folder)
                seconds = {"seconds": round(time.monotonic() - began, 1)} | result.seconds
                self.finish(result.numbers, seconds)
        return self.result

    @cached_property
    def finished(self) -> bool:
        """True if this stage is already there, unchanged; says so."""
        done = self.stage.finished()
        if done:
            print(
                f"{self.name}: already computed with these parameters, inputs and code; reading it"
                " from the run folder"
            )
        return done

    @contextlib.contextmanager
    def computing(self, keep_partial: bool = False) -> Iterator[Path]:
        """The folder to write to inside the block; `finish` puts it in place, whole."""
        folder = self.stage.begin(keep_partial)
        try:
            yield folder
        except KeyboardInterrupt:
            raise EndedError(
                f"{self.name} was interrupted; finished stages are kept, and the same command"
                " goes on"
            ) from None
        finally:
            self.stage.release()

    def finish(self, result: dict, timings: dict | None = None) -> None:
        """Write `result.json` and the manifest, and put the folder in place."""
        self.stage.finish(result, timings)
        self.__dict__.pop("finished", None)
        _count_figures(self.stage)

    # -- reading ----------------------------------------------------------------------------------
    @property
    def kept(self) -> FinishedStage:
        """What this stage left."""
        return FinishedStage(self.stage.folder)

    @property
    def result(self) -> dict:
        """This stage's `result.json`."""
        return self.kept.result

    def table(self, name: str) -> pd.DataFrame:
        """A table that this stage left."""
        return self.kept.table(name)

    def arrays(self, name: str) -> dict[str, Any]:
        """Arrays that this stage left."""
        return self.kept.arrays(name)

    def input(self, stage: str) -> FinishedStage:
        """An earlier stage of this run. Errors: `ArtifactError` if this lab does not read it."""
        if self.run[stage].folder not in self.stage.input_folders:
            raise ArtifactError(f"lab {self.name} does not read stage {stage}")
        return self.run[stage]

    # -- what most labs need ----------------------------------------------------------------------
    def task(self, tokenizer=None):
        """The task with the keys of its data set; its answers have room in the tokens of `tokenizer`."""
        if self.name == "01_dataset_design":
            return self.parameters.make_task()
        return self.run.task(tokenizer)

    def dataset(self) -> pd.DataFrame:
        """Every instance of the data set, one row each."""
        return self.run.dataset()

    def answered(self) -> pd.DataFrame:
        """Every conflict prompt and rephrasing with the model's answer and behaviour."""
        return self.run.answered()

    def model(self):
        """`(model, tokenizer)` of this run, where and in the format that it was trained in."""
        from memgen.models.load import load_trained  # it loads torch, which some labs do without

        return load_trained(self.run["02_training"])

    def show_parameters(self):
        """Every parameter of this lab with its value and meaning, as a table for the page."""
        fields = LABS[self.name].parameters.model_fields
        rows = [
            (name, str(value), fields[name].description)
            for name, value in self.parameters.model_dump().items()
            if name != "runs"
        ]
        return pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).style.hide(
            axis="index"
        )


def open_lab(name: str, namespace: dict[str, Any]) -> Lab:
    """Validate what the parameters cell gave this lab, and open its run folder.

    `namespace`: the notebook's `globals()`; what other cells or a user's startup files put there
    does not count. `ParameterError`: a name that the stage does not take, a value out of range.
    """
    given = given_parameters(namespace, LABS[name].parameters.model_fields)
    lab = Lab(name, stage_parameters(name, given))
    if LABS[name].level == "run":
        require_applicable(name, lab.parameters)
    for folder in lab.stage.input_folders:
        verify(folder)
    quiet()
    return lab


def require_applicable(name: str, parameters: StageParameters) -> None:
    """Raise `InapplicableError` if an earlier lab of this run was left out, or the gate was missed."""
    for folder in input_folders(name, parameters):
        if is_retrain(folder):
            continue  # a retrain that cannot be asked is left out of the lab, and not the lab of the study
        if reason := reason_of(folder):
            raise InapplicableError(reason)
        stage = FinishedStage(folder)
        asked = LABS[name].gated and stage.name == TRAINING and stage.exists
        if asked and (miss := stage.result["miss"]):
            raise InapplicableError(miss)


def _count_figures(stage: Stage) -> None:
    """After every cell from here on, the stage's manifest says what its figures have taken so far."""
    ipython = sys.modules.get("IPython")  # loaded where a notebook runs, and nowhere else needed
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        return

    def count(_: Any) -> None:
        with contextlib.suppress(ArtifactError, OSError):  # a count is not worth a lab
            stage.count_figures()

    for earlier in list(shell.events.callbacks["post_run_cell"]):
        if getattr(earlier, "counts_figures", False):  # of the lab that was run before this one
            shell.events.unregister("post_run_cell", earlier)
    count.counts_figures = True  # type: ignore[attr-defined]
    shell.events.register("post_run_cell", count)


def quiet() -> None:
    """No library chatter on the page; marks such as `<mem>` in a table are text, not tags."""
    pd.set_option("styler.format.escape", "html")
    warnings.filterwarnings("ignore", message=".*IProgress.*")
