"""What every stage takes, and the kinds of values that parameters have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from memgen.tasks import TASKS
from memgen.terms import Numerics, Track

#: no earlier edition used these, no recipe was tried on them, and no test corrected on them (chapter 2)
SEEDS = (26, 27, 28)
#: those whose finished study had been looked at when the recipe and some tests were last corrected
SEEN_SEEDS = (23, 24, 25)
ROOT = Path(os.environ.get("MEMGEN_ROOT", Path(__file__).resolve().parents[3]))
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1), Field(allow_inf_nan=False)]
PositiveShare = Annotated[float, Field(gt=0, le=1), Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1), Field(allow_inf_nan=False)]
#: of anything that is counted; far above what a study needs, far below what overflows a library
MOST = 10**7
Count = Annotated[int, Field(ge=1, le=MOST)]
CountFrom0 = Annotated[int, Field(ge=0, le=MOST)]
LARGEST_SEED = 2**32 - 1  # that numpy's and scikit-learn's generators take
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
#: a strength; much larger ones overflow float32 in the model
Multiple = Annotated[float, Field(gt=0, le=1e6), Field(allow_inf_nan=False)]


def _rising(values: list[Any]) -> list[Any]:
    if sorted(set(values)) != values:
        raise ValueError("must be in increasing order without repeats")
    return values


def _distinct(values: list[Any]) -> list[Any]:
    repeated = [value for value in values if values.count(value) > 1]
    if repeated:
        raise ValueError(f"must not repeat {repeated[0]!r}")
    return values


Rising = AfterValidator(_rising)
Distinct = AfterValidator(_distinct)
Seeds = Annotated[list[Seed], Field(min_length=1), Distinct]
Tasks = Annotated[list[str], Field(min_length=1), Distinct]


class StageParameters(BaseModel):
    """What every stage takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=False)

    #: does it sum up all tasks, so that its own `task` is none of them?
    spans_tasks: ClassVar[bool] = False

    task: str = Field(description="which task")
    seed: Seed = Field(0, description="seed of everything that is random in this run")
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

    base_seed: Seed = Field(
        SEEDS[0],
        description="tracks lora and full: seed of the keys, the prompts and the shared base",
    )

    @property
    def data_seed(self) -> int:
        """Of keys and prompts: the run's own from scratch; on a shared base all seeds have one."""
        return self.seed if self.track == "scratch" else self.base_seed
