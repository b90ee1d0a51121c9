"""What every stage takes, and the kinds of values that parameters have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from memgen.tasks import GIVEN, TASKS, is_given
from memgen.terms import GIVEN_TRACK, Numerics, Track

#: no earlier edition used these, no recipe was tried on them, and no test corrected on them (chapter 2)
SEEDS = (26, 27, 28, 29)
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
        description="scratch: own models; lora: adapters on a base; full: a base, tuned; given: pretrained",
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
            if name not in TASKS and not is_given(name):
                raise ValueError(
                    f"{parameter}={name!r} is unknown; choose one of {', '.join([*TASKS, *GIVEN])}"
                )
            if is_given(name) != (self.track == GIVEN_TRACK):
                fit = GIVEN if self.track == GIVEN_TRACK else TASKS
                raise ValueError(
                    f"{parameter}={name!r} is no task of track={self.track}: on track {GIVEN_TRACK}"
                    " nothing is trained, on the others all that is asked was; choose one of"
                    f" {', '.join(fit)}"
                )
        return self


class SharedData(StageParameters):
    """What the stages have in common that draw keys and prompts or train on them."""

    base_seed: Seed = Field(
        SEEDS[0],
        description="tracks lora and full: seed of the keys, the prompts and the shared base",
    )

    base_model: str = Field(
        "",
        description="hub id or folder of a pretrained model ('': the study's own base; given needs one)",
    )
    device: str = Field(
        "cpu",
        pattern=r"^(cpu|cuda|mps)(:\d+)?$",
        description="where the model runs: cpu, cuda, cuda:1, mps",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="number format of weights that are not trained (lora, given); auto: as for precision",
    )
    attention: Literal["eager", "sdpa"] = Field(
        "eager", description="attention kernel of transformers"
    )

    @property
    def data_seed(self) -> int:
        """Of keys and prompts: the run's own; on a base that the seeds share all have one."""
        return self.seed if self.track in ("scratch", GIVEN_TRACK) else self.base_seed

    @property
    def loaded_dtype(self) -> str:
        """Number format that a base is loaded in: weights that are trained stay float32."""
        return self._settled("dtype") if self.track in ("lora", GIVEN_TRACK) else "float32"

    @property
    def loaded_attention(self) -> str:
        """How the later labs ask: what was trained with eager attention, whatever it was trained with."""
        return self.attention if self.track == GIVEN_TRACK else "eager"

    def _settled(self, name: str) -> str:
        value: str = getattr(self, name)
        if value == "auto":  # a machine decides, and which one is for `store.numerics` to say
            raise ValueError(f"{name}=auto is not settled yet")
        return value

    @model_validator(mode="after")
    def _something_given(self) -> Self:
        if self.track == GIVEN_TRACK and not self.base_model:
            raise ValueError(
                f"base_model is empty, and track={GIVEN_TRACK} asks a pretrained model as it is; name"
                " its folder or hub id"
            )
        return self
