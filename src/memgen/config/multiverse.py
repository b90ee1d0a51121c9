"""Parameters of the lab that asks how much of a finding hangs on how it was measured."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from memgen.config.base import (
    MOST,
    Count,
    Multiple,
    PositiveShare,
    Rising,
    StageParameters,
)


class MultiverseParameters(StageParameters):
    """16: which specifications are tried, on how many prompts."""

    n_prompts: Count = Field(
        40, description="prompts a direction, at most, of validation keys and as many of test keys"
    )
    curve_alphas: Annotated[list[Multiple], Field(min_length=1), Rising] = Field(
        [0.5, 1.0, 2.0, 4.0], description="multiples of NMD that a specification can take"
    )
    curve_top_ns: Annotated[list[PositiveShare], Field(min_length=1), Rising] = Field(
        [0.1, 0.3], description="shares of the coordinates that a specification can take"
    )
    fixed_alpha: Multiple = Field(
        2.0, description="the multiple of specifications that choose none on validation keys"
    )
    n_deals: Count = Field(
        3, description="ways to deal the keys: the book's own, and others drawn at random"
    )
    n_free_validation: Count = Field(
        100, description="free prompts, at most, on which losses are counted"
    )
    collateral_limit: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.01, description="share of the free prompts that a kept cell may lose"
    )
    n_probe_prompts: Annotated[int, Field(ge=2, le=MOST)] = Field(
        400, description="prompts of probes, at most, of train keys and of test keys"
    )
    n_halvings: Count = Field(100, description="halvings of the train keys, to find neurons twice")
    n_slope_prompts: Count = Field(150, description="test prompts a direction whose dose is varied")
    n_draws: Count = Field(3, description="random controls of these slopes")
    n_side_effect_prompts: Count = Field(
        200, description="prompts of each kind that should stay as they are, at most"
    )
    n_resamples: Count = Field(500, description="bootstrap resamples over keys")

    @model_validator(mode="after")
    def _of_the_grid(self) -> Self:
        if self.fixed_alpha not in self.curve_alphas:
            raise ValueError(
                f"fixed_alpha={self.fixed_alpha} is not among curve_alphas={self.curve_alphas}; choose"
                " one of them"
            )
        return self
