"""Parameters of the labs that hold rivals against each other."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from memgen.config.base import MOST, Count, CountFrom0, Distinct, StageParameters

#: methods that steer or edit, as `memgen.rivals.roster` has them (a test compares the two)
MethodName = Literal[
    "nmd",
    "caa",
    "caa_all",
    "probe_direction",
    "pca_center",
    "pca_diff",
    "optimised",
    "optimised_retained",
    "iti",
    "liref",
    "cna",
    "austeer",
    "dms",
    "gss",
    "soft_prompt",
    "kfac",
    "kfac_free",
    "svd",
    "balanced_subnet",
    "ipr",
    "knowledge_neurons",
    "slimming",
    "hard_concrete",
    "unlearning",
    "fine_tuning",
    "fine_tuning_kept",
    "untouched",
    "random_directions",
    "ipr_reversed",
    "patching",
]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)
#: what fits into the time of a lab; `make rivals` runs all of them
QUICK: list[MethodName] = [
    "nmd",
    "caa",
    "optimised_retained",
    "untouched",
    "random_directions",
]


class ScoreboardParameters(StageParameters):
    """13: which methods are compared, how much each may look, and what it may cost."""

    methods: Annotated[list[MethodName], Distinct] = Field(
        QUICK, description="methods that are compared ([]: all that there are)"
    )
    n_prompts: Count = Field(
        300, description="prompts a direction, at most, on validation and on test keys"
    )
    n_tuning_prompts: CountFrom0 = Field(
        0, description="prompts a direction, at most, on validation keys (0: as n_prompts says)"
    )
    n_free_validation: Count = Field(
        500, description="free prompts, at most, on which a candidate's losses are counted"
    )
    collateral_limit: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.01, description="share of the free prompts that the kept candidate may lose"
    )
    n_side_effect_prompts: Count = Field(
        200, description="free and keyed prompts for side effects, test keys"
    )
    n_candidates: Annotated[int, Field(ge=1, le=50)] = Field(
        50, description="candidates of a method in a direction, at most, tried on validation keys"
    )
    n_fit_pairs: Annotated[int, Field(ge=2, le=MOST)] = Field(
        600, description="pairs of train keys, at most, whose states are read"
    )
    n_fit_prompts: Count = Field(
        400, description="prompts of train keys, at most, of each kind and behaviour"
    )
    fit_steps: Count = Field(32, description="steps of a method that learns by gradients")
    fit_batch_size: Count = Field(32, description="prompts in one such step")
