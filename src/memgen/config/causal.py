"""Parameters of the lab that replaces parts of a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from memgen.config.base import Count, Multiple, PositiveShare, Rising, StageParameters


class PatchingParameters(StageParameters):
    """12: parts moved from one prompt's run to another's, neurons set to their mean, MLP units."""

    n_pairs: Count = Field(
        100,
        description="flip pairs, at most, of train keys and of test keys (evenly over the keys)",
    )
    n_best: Count = Field(
        5, description="heads, attention and MLP layers, best on train keys, confirmed on test keys"
    )
    n_sources: Count = Field(3, description="draws of another prompt as a source")
    n_prompts: Count = Field(
        100, description="test prompts a direction, at most, for necessity and MLP units"
    )
    n_random: Count = Field(20, description="draws of random neurons and of random units")
    n_side_effect_prompts: Count = Field(100, description="free and keyed prompts for side effects")
    unit_alphas: Annotated[list[Multiple], Field(min_length=1), Rising] = Field(
        [1.0, 2.0, 4.0, 8.0], description="grid of multiples of the units' NMD"
    )
    unit_top_ns: Annotated[list[PositiveShare], Field(min_length=1), Rising] = Field(
        [0.02, 0.1, 0.3], description="grid of shares of all layer x unit coordinates"
    )
