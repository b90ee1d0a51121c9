"""What every stage takes, and the kinds of values that parameters have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from memgen.tasks import TASKS
from memgen.terms import Numerics, Track

#: no earlier edition used these, and no recipe was tried on them (book, chapter 2)
SEEDS = (23, 24, 25)
ROOT = Path(os.environ.get("MEMGEN_ROOT", Path(__file__).resolve().parents[3]))
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1), Field(allow_inf_nan=False)]
PositiveShare = Annotated[float, Field(gt=0, le=1), Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1), Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class StageParameters(BaseModel):
    """What every stage takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=False)

    #: does it sum up all tasks, so that its own `task` is none of them?
    spans_tasks: ClassVar[bool] = False

    task: str = Field(description="which task")
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="seed of everything that is random in this run"
    )
    preset: str = Field(
        "laptop", description="which file of notebooks/presets the defaults come from"
    )
    runs: str = Field(
        "data/runs",
        description="folder that holds the runs; artifacts go to <runs>/<preset>/<task>/seed<k>",
    )
    track: Track = Field(
        "scratch",
        description="scratch: own models; lora: adapters on one base; full: one base, all tuned",
    )
    numerics: Numerics = Field(
        "native",
        description="native: the fastest kernels of this processor; portable: the same on all (slower)",
    )

    @model_validator(mode="after")
    def _known_task(self) -> Self:
        named = [("tasks", name) for name in getattr(self, "tasks", [])]
        if not self.spans_tasks:
            named.append(("task", self.task))
        for parameter, name in named:
            if name not in TASKS:
                raise ValueError(
                    f"{parameter}={name!r} is unknown; choose one of {', '.join(TASKS)}"
                )
        return self


class SharedData(StageParameters):
    """What the stages have in common that draw keys and prompts or train on them."""

    base_seed: Annotated[int, Field(ge=0)] = Field(
        SEEDS[0],
        description="tracks lora and full: seed of the keys, the prompts and the shared base",
    )

    @property
    def data_seed(self) -> int:
        """Of keys and prompts: the run's own from scratch; on a shared base all seeds have one."""
        return self.seed if self.track == "scratch" else self.base_seed
