"""Parameters of the stages that question a finished model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from memgen.config.base import (
    MOST,
    SEEDS,
    Count,
    CountFrom0,
    Distinct,
    Multiple,
    PositiveShare,
    Rate,
    Rising,
    Seeds,
    Share,
    StageParameters,
    Tasks,
)
from memgen.tasks import TASK_NAMES
from memgen.terms import Change, Positions, Site


class PairsParameters(StageParameters):
    """03: how many times each conflict prompt is rephrased."""

    n_rephrasings: Count = Field(3, description="rephrasings of each conflict prompt")


class DifferentiationParameters(StageParameters):
    """04: NMD, rho and their tests."""

    site: Site = Field("resid_post", description="where hidden states are read")
    pairs: Change = Field(
        "order",
        description="what the prompts of a pair differ by: order (the same question) or content",
    )
    n_permutations: Count = Field(10000, description="sign flips of the permutation test")
    fdr: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.05, description="false-discovery rate of Benjamini-Hochberg"
    )
    max_pairs: Annotated[int, Field(ge=2, le=MOST)] = Field(
        600, description="pairs used at most (drawn evenly over the keys)"
    )


class PredictionParameters(StageParameters):
    """05: probes before the answer."""

    sites: Annotated[list[Site], Field(min_length=1), Distinct] = Field(
        ["resid_post", "mlp_out", "ln_2"], description="sites to probe"
    )
    max_prompts: Annotated[int, Field(ge=2, le=MOST)] = Field(
        800,
        description="prompts at most, to train the probes and to test them (evenly over the keys)",
    )
    n_resamples: Count = Field(1000, description="bootstrap resamples over keys")
    n_shuffles: Count = Field(5, description="draws of the shuffled-label control")


class InterventionParameters(StageParameters):
    """06: the steering grid, its controls and side effects."""

    site: Site = Field("resid_post", description="where hidden states are shifted")
    positions: Positions = Field(
        "all", description="positions that are shifted: all, or from the last prompt token on"
    )
    alphas: Annotated[list[Multiple], Field(min_length=1), Rising] = Field(
        [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0], description="grid of multiples of NMD"
    )
    top_ns: Annotated[list[PositiveShare], Field(min_length=1), Rising] = Field(
        [0.02, 0.05, 0.1, 0.2, 0.3], description="grid of shares of all layer x neuron coordinates"
    )
    n_prompts: Count = Field(
        300, description="prompts a direction, at most, on validation and on test keys"
    )
    n_tuning_prompts: CountFrom0 = Field(
        0, description="prompts a direction, at most, on validation keys (0: as n_prompts says)"
    )
    collateral_limit: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.01,
        description="share of the free prompts that the kept cell may lose (given: of plain facts, too)",
    )
    n_free_validation: Count = Field(
        500,
        description="free prompts (given: and plain facts), at most, on which losses are counted",
    )
    n_control_draws: Count = Field(20, description="draws of each random control")
    n_control_prompts: Count = Field(
        50, description="prompts, at most, of each of these draws; together they are on all prompts"
    )
    n_dose_prompts: Count = Field(100, description="prompts, at most, of each dose")
    n_random_directions: Count = Field(
        50, description="random directions, the best of which on validation keys is a control"
    )
    layer_alphas: Annotated[list[Multiple], Rising] = Field(
        [], description="multiples of one layer's mean difference, a rival ([]: leave it out)"
    )
    optimised_steps: CountFrom0 = Field(
        0, description="steps that fit a vector by gradient, a rival (0: leave it out)"
    )
    optimised_prompts: Count = Field(
        40,
        description="prompts of train keys, at most, that it is fitted on, and of each kind it may spare",
    )
    n_side_effect_prompts: Count = Field(200, description="free and keyed prompts for side effects")


class TransferParameters(StageParameters):
    """07: which retrains and which other tasks the chosen neurons are applied to."""

    seeds: Seeds = Field(list(SEEDS), description="from-scratch runs of this task")
    n_retrains: CountFrom0 = Field(
        1, description="retrains of the first seed (same base, another order of the data)"
    )
    tasks: Tasks = Field(list(TASK_NAMES), description="tasks whose neurons are tried on this one")
    n_prompts: Count = Field(200, description="prompts a direction and target, at most")
    n_control_draws: Count = Field(3, description="draws of the random control")


class SynthesisParameters(StageParameters):
    """08: which runs are summed up."""

    spans_tasks: ClassVar[bool] = True

    task: Literal["study"] = Field("study", description="always 'study'")
    seeds: Seeds = Field(list(SEEDS), description="seeds of the study")
    tasks: Tasks = Field(list(TASK_NAMES), description="tasks of the study")
    n_studies: Count = Field(
        2000, description="simulated studies that the coverage of the intervals is measured on"
    )


class ConfoundsParameters(StageParameters):
    """09: what else could explain the prediction of the behaviour."""

    site: Literal["resid_post"] = Field(
        "resid_post",
        description="where hidden states are read; the logit lens reads the residual stream",
    )
    pairs: Change = Field(
        "order",
        description="what the prompts of a pair differ by: order (the same question) or content",
    )
    n_prompts: Annotated[int, Field(ge=2, le=MOST)] = Field(
        400, description="prompts at most, of train keys and of test keys (evenly over the keys)"
    )
    n_samples: Count = Field(16, description="answers sampled per prompt")
    temperature: Annotated[float, Field(ge=0.01, le=100), Field(allow_inf_nan=False)] = Field(
        1.0, description="temperature of these samples"
    )
    n_resamples: Count = Field(1000, description="bootstrap resamples over keys")
    readable: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.75,
        description="AUC of the logit lens on train keys from which a layer reads the answer",
    )


class AblationsParameters(StageParameters):
    """10: which part of the intervention matters, everything at the same norm of the shift."""

    n_prompts: Count = Field(150, description="test prompts a direction, at most")
    counts: Annotated[list[Count], Field(min_length=1), Rising] = Field(
        [1, 4, 16, 64, 256], description="numbers of neurons that are tried, beside all of them"
    )
    n_draws: Count = Field(3, description="draws of the random neurons beside them")


class OpenPointsParameters(StageParameters):
    """11: clusters and synergy, is the flip binary, an instruction in the prompt, hybrid prompts."""

    n_prompts: Count = Field(120, description="test prompts a direction, at most")
    n_top: Annotated[int, Field(ge=4, le=MOST)] = Field(
        64, description="top neurons by |rho| that are clustered"
    )
    n_clusters: Annotated[int, Field(ge=2, le=MOST)] = Field(
        6, description="clusters that they are cut into"
    )
    n_pairwise: Annotated[int, Field(ge=2, le=MOST)] = Field(
        8, description="top neurons whose pairwise synergy is measured"
    )
    alphas: Annotated[list[Multiple], Field(min_length=1), Rising] = Field(
        [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0],
        description="strengths along which the margin is followed",
    )
    instruction_steps: CountFrom0 = Field(
        200, description="steps that teach the model two instruction tokens (0: leave that out)"
    )
    instruction_batch_size: Count = Field(128, description="instances in a batch of that training")
    instruction_lr: Rate = Field(1e-3, description="peak learning rate of that training (AdamW)")
    instruction_enough: Share = Field(
        0.95,
        description="it ends once this share of validation conflict prompts follows each of them",
    )
    n_hybrid: Count = Field(200, description="hybrid prompts")

    @model_validator(mode="after")
    def _of_the_top(self) -> Self:
        for name in ("n_clusters", "n_pairwise"):
            if getattr(self, name) > self.n_top:
                raise ValueError(
                    f"{name}={getattr(self, name)} is more than the n_top={self.n_top} neurons that"
                    " it is about"
                )
        return self
