"""The first two lines of every lab: validated parameters, and the run folder they belong to."""

from __future__ import annotations

import contextlib
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from . import artifacts
from .artifacts import Stage, read_json
from .config import STAGES, StageParameters, stage_parameters
from .errors import ArtifactError, ParameterError
from .paths import run_folder

#: which stages (of the same task and seed) a stage reads, and which modules its numbers come from
STAGE_INPUTS: dict[str, tuple[str, ...]] = {
    "01_dataset_design": (),
    "02_training": ("01_dataset_design",),
    "03_pairs": ("01_dataset_design", "02_training"),
    "04_differentiation": ("01_dataset_design", "02_training", "03_pairs"),
    "05_prediction": ("02_training", "03_pairs"),
    "06_intervention": ("01_dataset_design", "02_training", "03_pairs", "04_differentiation"),
    "09_confounds": ("01_dataset_design", "02_training", "03_pairs"),
    "10_ablations": (
        "01_dataset_design",
        "02_training",
        "03_pairs",
        "04_differentiation",
        "06_intervention",
    ),
    "11_open_points": (
        "01_dataset_design",
        "02_training",
        "03_pairs",
        "04_differentiation",
        "06_intervention",
    ),
}
STAGE_MODULES: dict[str, tuple[str, ...]] = {
    "00_base": ("bases",),
    "01_dataset_design": ("tasks",),
    "02_training": ("bases",),
    "03_pairs": ("pairs", "models"),
    "04_differentiation": ("readout", "inheritance"),
    "05_prediction": ("readout",),
    "06_intervention": ("intervention",),
    "07_transfer": ("transfer",),
    "08_synthesis": ("claims",),
    "09_confounds": ("confounds",),
    "10_ablations": ("ablations",),
    "11_open_points": ("open_points",),
}

_names_before: set[str] = set()


def begin(namespace: dict[str, Any]) -> None:
    """Remember which names exist before the parameters cell, so that all later ones are known to be
    parameters.
    """
    _names_before.clear()
    _names_before.update(namespace)


class Lab:
    """One lab run: `parameters`, `stage` (its folder), and what the earlier stages left."""

    def __init__(self, name: str, parameters: StageParameters):
        self.name, self.parameters = name, parameters
        p = parameters
        span = "all" if name in ("07_transfer", "08_synthesis") else p.seed
        self.folder = run_folder(p.runs, p.preset, p.task, span, getattr(p, "retrain", 0), p.track)
        self.stage = Stage(self.folder / name, p.model_dump(), self._inputs(), STAGE_MODULES[name])

    def _inputs(self) -> list[Path]:
        p = self.parameters
        if self.name == "07_transfer":
            from .transfer import input_folders

            return input_folders(p)
        if self.name == "08_synthesis":
            from .claims import input_folders

            return input_folders(p)
        if getattr(p, "retrain", 0):  # a retrain shares the data set of the run that it repeats
            return [self._dataset()]
        return [self.folder / name for name in STAGE_INPUTS[self.name]]

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

    def input(self, stage: str) -> Path:
        """Folder of an earlier stage of this run."""
        for folder in self.stage.input_folders:
            if folder.name == stage:
                return folder
        raise ArtifactError(f"lab {self.name} does not read stage {stage}")

    @contextlib.contextmanager
    def computing(self, keep_partial: bool = False):
        """`with lab.computing() as folder:` write there; on success call `lab.finish(result)`
        inside the block.
        """
        folder = self.stage.begin(keep_partial)
        try:
            yield folder
        except KeyboardInterrupt:
            raise ArtifactError(
                f"{self.name} was interrupted; finished stages are kept, and the same command"
                " goes on"
            ) from None
        finally:
            self.stage.release()

    def finish(self, result: dict, timings: dict | None = None) -> None:
        self.stage.finish(result, timings)
        self.__dict__.pop("finished", None)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table among this stage's outputs."""
        with artifacts.guard_disk(self.stage.partial):
            frame.to_parquet(self.stage.partial / f"{name}.parquet", index=False)

    def read_table(self, name: str, stage: str | None = None) -> pd.DataFrame:
        folder = self.input(stage) if stage else self.stage.folder
        return pd.read_parquet(folder / f"{name}.parquet")

    def arrays(self, name: str, values: dict[str, Any]) -> None:
        """Write numpy arrays among this stage's outputs (safetensors)."""
        import numpy as np
        from safetensors.numpy import save_file

        with artifacts.guard_disk(self.stage.partial):
            save_file(
                {k: np.ascontiguousarray(v) for k, v in values.items()},
                self.stage.partial / f"{name}.safetensors",
            )

    def read_arrays(self, name: str, stage: str | None = None) -> dict[str, Any]:
        from safetensors.numpy import load_file

        folder = self.input(stage) if stage else self.stage.folder
        return load_file(folder / f"{name}.safetensors")

    @property
    def result(self) -> dict:
        """This stage's `result.json`."""
        return read_json(self.stage.folder / artifacts.RESULT)

    # -- what most labs need ----------------------------------------------------------------------
    def task(self, tokenizer=None):
        """The task of this run, with the keys of its data set; its answers have room in the tokens
        of `tokenizer`.
        """
        from .tasks import make_task

        p = self.parameters
        if self.name != "01_dataset_design":
            p = STAGES["01_dataset_design"](
                **read_json(self._dataset() / artifacts.MANIFEST)["parameters"]
            )
        task = make_task(p.task, p.n_keys, p.data_seed)
        return task.fit(tokenizer, self.dataset()) if tokenizer else task

    def dataset(self) -> pd.DataFrame:
        return pd.read_parquet(self._dataset() / "instances.parquet")

    def _dataset(self) -> Path:
        p = self.parameters
        return run_folder(p.runs, p.preset, p.task, p.seed, track=p.track) / "01_dataset_design"

    def model(self):
        """`(model, tokenizer)` of this run, where and in the format that it was trained in."""
        from .models import load_trained

        return load_trained(self.folder / "02_training")

    def show_parameters(self):
        """Every parameter of this lab with its value and meaning, as a table for the page."""
        fields = STAGES[self.name].model_fields
        rows = [
            (name, str(value), fields[name].description)
            for name, value in self.parameters.model_dump().items()
            if name != "runs"
        ]
        return pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).style.hide(
            axis="index"
        )


def open_lab(name: str, namespace: dict[str, Any]) -> Lab:
    """Collect the parameters of a lab from its notebook's names, validate them, and open its run
    folder.

    Call `begin(globals())` in the cell before the parameters. Raises `ParameterError` for a name
    that the stage does not take.
    """
    if not _names_before:
        raise ParameterError("call begin(globals()) in the first cell, before the parameters cell")
    hidden = {"In", "Out", "exit", "quit", "get_ipython", "open"}
    given = {
        k: v
        for k, v in namespace.items()
        if k not in _names_before and not k.startswith("_") and k not in hidden
    }
    lab = Lab(name, stage_parameters(name, given))
    for folder in lab.stage.input_folders:
        artifacts.verify(folder)
    _quiet()
    return lab


def _quiet() -> None:
    """One thread a lab (two labs run side by side, and numbers must not depend on it), and no
    library chatter on the page.
    """
    import os
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore", message=".*IProgress.*")
