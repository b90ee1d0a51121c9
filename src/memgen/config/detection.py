"""Parameters of the lab that tells memory from rule, with and without a look inside."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from memgen.config.base import MOST, Count, PositiveShare, Rising, StageParameters


class DetectionParameters(StageParameters):
    """14: detectors of the behaviour, before the answer is written and after it."""

    n_prompts: Annotated[int, Field(ge=2, le=MOST)] = Field(
        600, description="prompts at most, of train keys and of test keys (evenly over the keys)"
    )
    n_perturbations: Count = Field(
        4, description="further prompts of each kind, at most, that a prompt is changed into"
    )
    n_samples: Count = Field(50, description="answers sampled per prompt (CDD)")
    temperature: Annotated[float, Field(ge=0.01, le=100), Field(allow_inf_nan=False)] = Field(
        0.8, description="temperature of these samples"
    )
    min_k: Annotated[list[PositiveShare], Field(min_length=1), Rising] = Field(
        [0.1, 0.2, 0.3, 0.5],
        description="shares of the least likely tokens that Min-k % tries (train keys choose)",
    )
    n_resamples: Count = Field(1000, description="bootstrap resamples over keys")
