"""Parameters of the lab that holds directions against each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from memgen.config.base import MOST, Count, CountFrom0, Multiple, Rising, StageParameters


class CorrelatesParameters(StageParameters):
    """15: directions that differ, that are read and that act, at single layers."""

    n_prompts: Count = Field(
        80, description="prompts a direction, at most, on validation and on test keys"
    )
    n_side_effect_prompts: Count = Field(
        100, description="free prompts for side effects, test keys"
    )
    doses: Annotated[list[Multiple], Field(min_length=1), Rising] = Field(
        [0.125, 0.25, 0.5, 1.0, 2.0],
        description="lengths of a shift that are tried, in mean lengths of the layer's states",
    )
    n_random: Count = Field(4, description="random directions that a shift is held against")
    n_null: Annotated[int, Field(ge=20, le=MOST)] = Field(
        2000, description="random directions, drawn as the states vary, for cosines by chance"
    )
    n_fit_pairs: Annotated[int, Field(ge=2, le=MOST)] = Field(
        600, description="pairs of train keys, at most, whose states are read"
    )
    n_fit_prompts: Count = Field(
        200, description="prompts of train keys, at most, of each kind and behaviour"
    )
    fit_steps: Count = Field(24, description="steps of a vector that is fitted by gradient")
    fit_batch_size: Count = Field(24, description="prompts in one such step")
    n_retrains: CountFrom0 = Field(
        1, description="retrains that its vectors are tried on (a study has them of its first seed)"
    )
