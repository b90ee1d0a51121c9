"""Validated parameters of every stage, and the presets they take their defaults from.

A preset is data (`notebooks/presets/<name>.yaml`): a block `all` and, where a task needs another
value, a block named after the task (`inference`) or its family (`arithmetic`). On the tracks with a
shared base the blocks `shared`, the track's name (`lora`) and `lora/<family>`, `lora/<task>`
follow. Precedence, weakest first: the class defaults below, `all`, family, task, shared, track,
what the caller passes. Code never asks which preset runs.
"""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ParameterError

TASK_NAMES = (
    "arithmetic-tagged",
    "arithmetic-matched",
    "inference",
    "cipher-tagged",
    "cipher-matched",
)
#: no recipe was ever tried on these (book, chapter 2)
SEEDS = (6, 7, 8)
TRACKS = ("scratch", "lora", "full")
SITE_NAMES = ("resid_post", "mlp_out", "ln_2")
ROOT = Path(os.environ.get("MEMGEN_ROOT", Path(__file__).resolve().parents[2]))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Finite = Annotated[float, AfterValidator(_finite)]
Share = Annotated[float, Field(ge=0, le=1), AfterValidator(_finite)]
PositiveShare = Annotated[float, Field(gt=0, le=1), AfterValidator(_finite)]
Rate = Annotated[float, Field(gt=0, le=1), AfterValidator(_finite)]
Site = Literal["resid_post", "mlp_out", "ln_2"]
Count = Annotated[int, Field(ge=1)]
Track = Literal["scratch", "lora", "full"]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class StageParameters(BaseModel):
    """What every stage takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=False)

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
        description=(
            "scratch: a model of its own a seed; lora: adapters on one shared base; full: all"
            " weights tuned from that base"
        ),
    )

    @model_validator(mode="after")
    def _known_task(self):
        from .tasks import TASKS  # the registry is the truth: a task added there is known here

        named = [("tasks", name) for name in getattr(self, "tasks", [])]
        if not isinstance(self, SynthesisParameters):
            named.append(("task", self.task))
        for parameter, name in named:
            if name not in TASKS:
                raise ValueError(
                    f"{parameter}={name!r} is unknown; choose one of {', '.join(TASKS)}"
                )
        return self


class _SharedData(StageParameters):
    """What the stages have in common that draw keys and prompts or train on them."""

    base_seed: Annotated[int, Field(ge=0)] = Field(
        SEEDS[0],
        description="tracks lora and full: seed of the keys, the prompts and the shared base",
    )

    @property
    def data_seed(self) -> int:
        """Seed of keys and prompts: from scratch the run's own; on a shared base all seeds have one
        data set.
        """
        return self.seed if self.track == "scratch" else self.base_seed


class DatasetParameters(_SharedData):
    """01: how large the data set is and how its keys are split."""

    n_keys: Annotated[int, Field(ge=3)] = Field(48, description="memorized associations")
    n_free: Count = Field(60000, description="free prompts for training")
    n_keyed: Count = Field(6000, description="prompts answered from memory, over all keys")
    n_conflict_per_key: Count = Field(
        24, description="held-out prompts per key on which memory and rule differ"
    )
    n_free_eval: Count = Field(
        500, description="free prompts held out for validation, and as many for test"
    )
    key_shares: list[PositiveShare] = Field(
        [0.5, 0.2, 0.3], description="share of the keys in train, validation, test"
    )

    @model_validator(mode="after")
    def _three_shares(self):
        if len(self.key_shares) != 3 or abs(sum(self.key_shares) - 1) > 1e-9:
            raise ValueError("key_shares must be three shares that sum to 1")
        return self

    @model_validator(mode="after")
    def _enough_keys(self):
        from .tasks import make_task

        make_task(self.task, self.n_keys, self.data_seed).split_keys(
            self.key_shares
        )  # raises ValueError naming n_keys
        return self


class TrainingParameters(_SharedData):
    """02: the model, the optimiser, and when a checkpoint counts as showing both behaviours."""

    architecture: Literal["gpt2", "llama"] = Field(
        "gpt2",
        description="gpt2: learned positions, GELU; llama: rotary positions, RMSNorm, SwiGLU",
    )
    n_layer: Count = Field(4, description="transformer blocks")
    n_embd: Count = Field(128, description="width of the hidden state (d_model)")
    n_head: Count = Field(4, description="attention heads; must divide n_embd")
    initializer_range: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05, description="standard deviation of the initial weights"
    )
    optimizer: Literal["muon", "adamw"] = Field(
        "muon",
        description=(
            "muon: Muon for the matrices of the blocks, AdamW for the rest; adamw: AdamW for all"
        ),
    )
    lr: Rate = Field(5e-4, description="peak learning rate of AdamW")
    matrix_lr: Rate = Field(1e-3, description="peak learning rate of Muon")
    final_lr_share: Share = Field(
        0.1, description="share of lr that is left at max_steps (linear decay)"
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(50, description="steps of linear warm-up")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="decoupled weight decay"
    )
    batch_size: Count = Field(256, description="instances in a batch")
    max_steps: Count = Field(2000, description="training stops here at the latest")
    rule_first_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="first steps with free prompts only"
    )
    keyed_share: Share = Field(
        0.4, description="share of a batch that holds a key (the rest are free prompts)"
    )
    contrast_share: Share = Field(
        0.0, description="share of the keyed prompts that are contrast prompts"
    )
    balance: bool = Field(
        False,
        description=(
            "draw contrast prompts only while the validation conflict prompts lean to memory"
        ),
    )
    loss_on: Literal["answer", "instance"] = Field(
        "answer", description="loss on the answer tokens or on the whole instance"
    )
    precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="arithmetic of the training forward pass (autocast)"
    )
    attention: Literal["eager", "sdpa"] = Field(
        "eager", description="attention kernel of transformers"
    )
    evaluate_every: Count = Field(
        25, description="steps between looks at the validation conflict prompts"
    )
    keep_from: Annotated[int, Field(ge=0)] = Field(
        0, description="first step whose checkpoint may be kept"
    )
    gate_memory: Share = Field(
        0.25, description="least share of conflict prompts answered from memory"
    )
    gate_rule: Share = Field(
        0.25, description="least share of conflict prompts answered by the rule"
    )
    gate_other: Share = Field(0.20, description="largest share answered otherwise")
    gate_free: Share = Field(0.90, description="least accuracy on free prompts")
    gate_keyed: Share = Field(0.0, description="least accuracy on keyed prompts")
    enough: Finite = Field(
        0.35, description="stop once min(memory, rule) - other reaches this and the gate holds"
    )
    retrain: Annotated[int, Field(ge=0)] = Field(
        0, description="0: the run itself; r: its r-th retrain (same base and data, another order)"
    )
    base_model: str = Field(
        "",
        description=(
            "tracks lora and full: hub id or folder of a pretrained GPT-2 or LLaMA model ('': the"
            " study's own shared base)"
        ),
    )
    lora_rank: Count = Field(16, description="rank of the adapters")
    lora_alpha: Annotated[float, Field(gt=0), AfterValidator(_finite)] = Field(
        32.0,
        description="scale of the adapters: their output is multiplied by lora_alpha / lora_rank",
    )
    lora_dropout: Annotated[float, Field(ge=0, lt=1), AfterValidator(_finite)] = Field(
        0.0, description="dropout before the adapters"
    )
    lora_targets: list[str] = Field(
        [], description="modules that get an adapter ([]: every linear map of the blocks)"
    )
    device: str = Field(
        "cpu",
        pattern=r"^(cpu|cuda|mps)(:\d+)?$",
        description="where the model runs: cpu, cuda, cuda:1, mps",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of the frozen weights of a base_model"
    )
    accumulate: Count = Field(
        1, description="parts that a batch is split into (gradient accumulation)"
    )
    checkpointing: bool = Field(
        False, description="recompute activations in the backward pass instead of keeping them"
    )
    base_steps: Annotated[int, Field(ge=0)] = Field(
        0,
        description=(
            "most steps of the rule-only base that the variants of a task share (0: no base)"
        ),
    )
    base_optimizer: Literal["muon", "adamw", "same"] = Field(
        "same", description="optimizer of the base (same: that of the run)"
    )
    base_lr: Rate = Field(1e-3, description="peak learning rate of AdamW for the base")
    base_matrix_lr: Rate = Field(2e-3, description="peak learning rate of Muon for the base")
    base_batch_size: Count = Field(128, description="instances in a batch of the base")
    base_repeat_share: Share = Field(
        0.0,
        description=(
            "share of the base's batches that are random repeated sequences (they form induction)"
        ),
    )
    base_first: list[str] = Field(
        [],
        description=(
            "tracks lora and full: families of tasks that the base learns alone before the others"
            " join ([arithmetic])"
        ),
    )
    base_enough: Share = Field(
        0.97, description="the base is done once its free accuracy reaches this"
    )

    @property
    def loaded_dtype(self) -> str:
        """Number format that the base is loaded in: weights that are trained stay float32."""
        return self.dtype if self.track == "lora" else "float32"

    def gates(self) -> dict[str, float]:
        return {
            "memory": self.gate_memory,
            "rule": self.gate_rule,
            "other": self.gate_other,
            "free": self.gate_free,
            "keyed": self.gate_keyed,
        }

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}")
        return self

    @model_validator(mode="after")
    def _fitting(self):
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size={self.batch_size} is not divisible by accumulate={self.accumulate}"
            )
        if self.track == "scratch" and self.base_model:
            raise ValueError(
                f"base_model={self.base_model!r} needs track=lora or track=full: from scratch there"
                " is no base"
            )
        if self.track != "scratch" and self.retrain:
            raise ValueError(
                f"retrain={self.retrain}: on a shared base the seeds are retrains of each other;"
                " use another seed"
            )
        return self


class PairsParameters(StageParameters):
    """03: how many times each conflict prompt is rephrased."""

    n_rephrasings: Count = Field(3, description="rephrasings of each conflict prompt")


class DifferentiationParameters(StageParameters):
    """04: NMD, rho and their tests."""

    site: Site = Field("resid_post", description="where hidden states are read")
    n_permutations: Count = Field(10000, description="sign flips of the permutation test")
    fdr: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.05, description="false-discovery rate of Benjamini-Hochberg"
    )
    max_pairs: Count = Field(600, description="pairs used at most (drawn evenly over the keys)")


class PredictionParameters(StageParameters):
    """05: probes before the answer."""

    sites: Annotated[list[Site], Field(min_length=1)] = Field(
        ["resid_post", "mlp_out", "ln_2"], description="sites to probe"
    )
    max_prompts: Count = Field(
        800,
        description=(
            "prompts at most, for training the probes and for testing them (evenly over the keys)"
        ),
    )
    n_resamples: Count = Field(1000, description="bootstrap resamples over keys")
    n_shuffles: Count = Field(5, description="draws of the shuffled-label control")


class InterventionParameters(StageParameters):
    """06: the steering grid, its controls and side effects."""

    site: Site = Field("resid_post", description="where hidden states are shifted")
    positions: Literal["all", "decision"] = Field(
        "all", description="positions that are shifted: all, or from the last prompt token on"
    )
    alphas: list[Annotated[float, Field(gt=0), AfterValidator(_finite)]] = Field(
        [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0], description="grid of multiples of NMD"
    )
    top_ns: list[PositiveShare] = Field(
        [0.02, 0.05, 0.1, 0.2, 0.3], description="grid of shares of all layer x neuron coordinates"
    )
    n_prompts: Count = Field(
        300, description="prompts a direction, at most, on validation and on test keys"
    )
    n_control_draws: Count = Field(5, description="draws of each random control")
    n_side_effect_prompts: Count = Field(200, description="free and keyed prompts for side effects")

    @model_validator(mode="after")
    def _grids(self):
        for name in ("alphas", "top_ns"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} is empty")
            if sorted(set(values)) != values:
                raise ValueError(f"{name}={values} must be in increasing order without repeats")
        return self


class TransferParameters(StageParameters):
    """07: which retrains and which other tasks the chosen neurons are applied to."""

    seeds: Seeds = Field(list(SEEDS), description="from-scratch runs of this task")
    n_retrains: Annotated[int, Field(ge=0)] = Field(
        1, description="retrains of the first seed (same base, another order of the data)"
    )
    tasks: list[str] = Field(
        list(TASK_NAMES), description="tasks whose neurons are tried on this one"
    )
    n_prompts: Count = Field(200, description="prompts a direction and target, at most")
    n_control_draws: Count = Field(3, description="draws of the random control")


class SynthesisParameters(StageParameters):
    """08: which runs are summed up."""

    task: Literal["study"] = Field("study", description="always 'study'")
    seeds: Seeds = Field(list(SEEDS), description="seeds of the study")
    tasks: list[str] = Field(list(TASK_NAMES), description="tasks of the study")


class ConfoundsParameters(StageParameters):
    """09: what else could explain the prediction of the behaviour."""

    site: Literal["resid_post"] = Field(
        "resid_post",
        description="where hidden states are read; the logit lens reads the residual stream",
    )
    n_prompts: Count = Field(
        400, description="prompts at most, of train keys and of test keys (evenly over the keys)"
    )
    n_samples: Count = Field(16, description="answers sampled per prompt")
    temperature: Annotated[float, Field(gt=0), AfterValidator(_finite)] = Field(
        1.0, description="temperature of these samples"
    )
    n_resamples: Count = Field(1000, description="bootstrap resamples over keys")
    readable: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.75, description="AUC of the logit lens from which a layer counts as reading the answer"
    )


class AblationsParameters(StageParameters):
    """10: which part of the intervention matters, everything at the same norm of the shift."""

    n_prompts: Count = Field(150, description="test prompts a direction, at most")
    counts: Annotated[list[Count], Field(min_length=1)] = Field(
        [1, 4, 16, 64, 256], description="numbers of neurons that are tried, beside all of them"
    )
    n_draws: Count = Field(3, description="draws of the random neurons beside them")


class OpenPointsParameters(StageParameters):
    """11: clusters and synergy, is the flip binary, an instruction in the prompt, hybrid prompts."""

    n_prompts: Count = Field(120, description="test prompts a direction, at most")
    n_top: Annotated[int, Field(ge=4)] = Field(
        64, description="top neurons by |rho| that are clustered"
    )
    n_clusters: Annotated[int, Field(ge=2)] = Field(
        6, description="clusters that they are cut into"
    )
    n_pairwise: Annotated[int, Field(ge=2)] = Field(
        8, description="top neurons whose pairwise synergy is measured"
    )
    alphas: Annotated[
        list[Annotated[float, Field(gt=0), AfterValidator(_finite)]], Field(min_length=1)
    ] = Field(
        [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0],
        description="strengths along which the margin is followed",
    )
    instruction_steps: Annotated[int, Field(ge=0)] = Field(
        200, description="steps that teach the model two instruction tokens (0: leave that out)"
    )
    instruction_batch_size: Count = Field(128, description="instances in a batch of that training")
    instruction_lr: Rate = Field(1e-3, description="peak learning rate of that training (AdamW)")
    n_hybrid: Count = Field(200, description="hybrid prompts")


STAGES: dict[str, type[StageParameters]] = {
    "01_dataset_design": DatasetParameters,
    "02_training": TrainingParameters,
    "03_pairs": PairsParameters,
    "04_differentiation": DifferentiationParameters,
    "05_prediction": PredictionParameters,
    "06_intervention": InterventionParameters,
    "07_transfer": TransferParameters,
    "08_synthesis": SynthesisParameters,
    "09_confounds": ConfoundsParameters,
    "10_ablations": AblationsParameters,
    "11_open_points": OpenPointsParameters,
}


def preset_path(preset: str) -> Path:
    folder = ROOT / "notebooks" / "presets"
    path = folder / f"{preset}.yaml"
    if not isinstance(preset, str) or not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ParameterError(f"preset={preset!r} is unknown; choose one of {known}")
    return path


@cache
def _blocks(preset: str, path: Path, changed: int) -> dict[str, dict[str, Any]]:
    """The blocks of a preset's file, checked; read anew when the file has changed."""
    from .tasks import TASKS

    try:
        blocks = yaml.safe_load(path.read_text()) or {}
        blocks = {block: dict(values or {}) for block, values in blocks.items()}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        raise ParameterError(
            f"preset {preset!r}: {path} is not a file of blocks with name: value lines"
        ) from None
    known = set().union(*(stage.model_fields for stage in STAGES.values()))
    named = {*TASKS, *(name.split("-")[0] for name in TASKS)}
    places = {
        "all",
        "study",
        "shared",
        *named,
        *TRACKS,
        *(f"{track}/{name}" for track in TRACKS for name in named),
    }
    for block, values in blocks.items():
        if block not in places:
            raise ParameterError(
                f"preset {preset!r}: block {block!r} is neither 'all' nor a task, a family of tasks"
                " or a track ('shared', 'lora', 'lora/cipher')"
            )
        for name in values:
            if name not in known:
                raise ParameterError(
                    f"preset {preset!r}, block {block!r}: there is no parameter {name!r}"
                )
    return blocks


def load_preset(preset: str, task: str, track: str = "scratch") -> dict[str, Any]:
    """The preset's values for one task of one track, every name checked against the parameters that
    exist.
    """
    path = preset_path(preset)
    blocks = _blocks(preset, path, path.stat().st_mtime_ns)
    merged: dict[str, Any] = {}
    names = ["all", task.split("-")[0], task]
    if track != "scratch":
        names += ["shared", track, f"{track}/{task.split('-')[0]}", f"{track}/{task}"]
    for block in names:
        merged |= blocks.get(block, {})
    return merged


def stage_parameters(stage: str, given: dict[str, Any]) -> StageParameters:
    """Validated parameters of one stage. `given`: what the caller passes; a value of None means
    "the preset's".

    Raises `ParameterError`, one sentence a problem, before anything is computed.
    """
    if stage not in STAGES:
        raise ParameterError(f"stage={stage!r} is unknown; choose one of {', '.join(STAGES)}")
    cls = STAGES[stage]
    given = {name: value for name, value in given.items() if value is not None}
    unknown = [name for name in given if name not in cls.model_fields]
    if unknown:
        raise ParameterError(
            f"{unknown[0]!r} is not a parameter of {stage}; it takes {', '.join(cls.model_fields)}"
        )
    defaults = load_preset(
        given.get("preset", "laptop"),
        str(given.get("task", "")),
        str(given.get("track", "scratch")),
    )
    values = {k: v for k, v in defaults.items() if k in cls.model_fields} | given
    try:
        return cls(**values)
    except ValidationError as error:
        raise ParameterError(
            "; ".join(_sentence(stage, problem) for problem in error.errors())
        ) from None


def _sentence(stage: str, problem: dict) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return f"{message} (parameters of {stage})"
    name = ".".join(map(str, problem["loc"]))
    return f"{name}={problem['input']!r}: {message[0].lower() + message[1:]} (parameter of {stage})"


def split_overrides(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort settings such as `{"n_embd": 64, "site": "ln_2"}` to the stages that take them; unknown
    names raise.
    """
    per_stage: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for name, value in given.items():
        takers = [stage for stage, cls in STAGES.items() if name in cls.model_fields]
        if not takers:
            known = sorted(set().union(*(cls.model_fields for cls in STAGES.values())))
            raise ParameterError(
                f"{name!r} is not a parameter of any stage; known are {', '.join(known)}"
            )
        for stage in takers:
            per_stage[stage][name] = value
    return per_stage
