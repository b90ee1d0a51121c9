"""Parameters of the stages that make data sets and models."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from memgen.config.base import (
    MOST,
    ROOT,
    Count,
    CountFrom0,
    Distinct,
    Finite,
    Multiple,
    PositiveShare,
    Rate,
    Share,
    SharedData,
)
from memgen.tasks import GIVEN, TASKS, Table, Task, is_table, make_task
from memgen.tasks.table_file import digest_of, task_name
from memgen.terms import GIVEN_TRACK, ContrastOn


def table_at(task_file: str) -> Path:
    """Where a table of prompts lies: like `runs`, a relative path counts from the repository."""
    return ROOT / os.path.expanduser(task_file)


def sealed(given: dict[str, Any]) -> dict[str, Any]:
    """These parameters with the digest of the table that they name, so that an edit is noticed."""
    file = given.get("task_file")
    if not (isinstance(file, str) and file) or given.get("task_digest"):
        return given
    return given | {"task_digest": digest_of(table_at(file))}


class DatasetParameters(SharedData):
    """01: how large the data set is and how its keys are split."""

    n_keys: Annotated[int, Field(ge=3, le=MOST)] = Field(48, description="memorized associations")
    contrast_on: ContrastOn = Field(
        "none",
        description="who is taught the rule's answer in some settings: all keys, gate keys, none",
    )
    n_gate_keys: CountFrom0 = Field(
        0, description="further keys for the contrast prompts (contrast_on=gate)"
    )
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

    split_by: Literal["key", "relation"] = Field(
        "key",
        description="task knowledge: what is held back for test, single facts or whole relations",
    )

    task_file: str = Field(
        "", description="your own prompts: a table (.csv, .jsonl), and task is table-<its name>"
    )
    task_digest: str = Field(
        "",
        pattern=r"^([0-9a-f]{64})?$",
        description="SHA-256 that the table has to have ('': whatever it has now)",
    )

    @model_validator(mode="before")
    @classmethod
    def _sealed(cls, given: Any) -> Any:
        return sealed(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _a_table_has_a_file(self) -> Self:
        named = task_name(self.task_file) if self.task_file else ""
        if self.task_file and self.task != named:
            raise ValueError(
                f"task_file={self.task_file!r} is the task {named}, not task={self.task!r}; name the"
                " file alone"
            )
        if is_table(self.task) and not self.task_file:
            raise ValueError(
                f"task={self.task!r} is a table, and no file is named; name it with TASK_FILE=..."
            )
        return self

    @model_validator(mode="after")
    def _three_shares(self) -> Self:
        if len(self.key_shares) != 3 or abs(sum(self.key_shares) - 1) > 1e-9:
            raise ValueError("key_shares must be three shares that sum to 1")
        return self

    @model_validator(mode="after")
    def _enough_keys(self) -> Self:
        if (self.contrast_on == "gate") != (self.n_gate_keys > 0):
            raise ValueError(
                f"n_gate_keys={self.n_gate_keys} does not fit contrast_on={self.contrast_on}: gate"
                " keys are there if and only if contrast_on=gate"
            )
        if self.n_keyed < self.n_keys:
            raise ValueError(
                f"n_keyed={self.n_keyed} is below n_keys={self.n_keys}: every key needs a prompt to"
                " be learned from"
            )
        self.make_task().split_keys(tuple(self.key_shares))  # raises ValueError naming n_keys
        return self

    def make_task(self) -> Task:
        """The task with the keys of this data set."""
        about = (self.task, self.n_keys, self.data_seed, self.contrast_on, self.n_gate_keys)
        own: dict[str, Any] = {"split_by": self.split_by, "shares": tuple(self.key_shares)}
        own |= {"file": table_at(self.task_file), "digest": self.task_digest}
        of = Table if is_table(self.task) else GIVEN.get(self.task)
        taken = inspect.signature(of).parameters if of else {}
        return make_task(*about, **{name: value for name, value in own.items() if name in taken})


class TrainingParameters(SharedData):
    """02: the model, the optimiser, and when a checkpoint counts as showing both behaviours."""

    architecture: Literal["gpt2", "llama"] = Field(
        "gpt2",
        description="gpt2: learned positions, GELU; llama: rotary positions, RMSNorm, SwiGLU",
    )
    n_layer: Annotated[int, Field(ge=1, le=1000)] = Field(4, description="transformer blocks")
    n_embd: Annotated[int, Field(ge=4, le=65536)] = Field(
        128, description="width of the hidden state (d_model)"
    )
    n_head: Count = Field(4, description="attention heads; must divide n_embd")
    initializer_range: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05, description="standard deviation of the initial weights"
    )
    optimizer: Literal["muon", "adamw"] = Field(
        "muon",
        description="muon: Muon for the blocks' matrices, AdamW for the rest; adamw: AdamW for all",
    )
    lr: Rate = Field(5e-4, description="peak learning rate of AdamW")
    matrix_lr: Rate = Field(1e-3, description="peak learning rate of Muon")
    final_lr_share: Share = Field(
        0.1, description="share of lr that is left at max_steps (linear decay)"
    )
    warmup_steps: CountFrom0 = Field(50, description="steps of linear warm-up")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="decoupled weight decay"
    )
    batch_size: Count = Field(256, description="instances in a batch")
    max_steps: Count = Field(2000, description="training stops here at the latest")
    rule_first_steps: CountFrom0 = Field(0, description="first steps with free prompts only")
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
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="arithmetic of training's forward pass; auto: bfloat16 if the machine has units for it",
    )
    evaluate_every: Count = Field(
        25, description="steps between looks at the validation conflict prompts"
    )
    look_prompts: Annotated[int, Field(ge=3, le=MOST)] = Field(
        300,
        description="conflict prompts that a look takes, at most; as many free and a third of it keyed ones",
    )
    confirm_prompts: Annotated[int, Field(ge=3, le=MOST)] = Field(
        300,
        description="conflict prompts that a checkpoint that passes is asked, at most, before it is kept",
    )
    keep_from: CountFrom0 = Field(0, description="first step whose checkpoint may be kept")
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
    retrain: CountFrom0 = Field(
        0, description="0: the run itself; r: its r-th retrain (same base and data, another order)"
    )
    lora_rank: Count = Field(16, description="rank of the adapters")
    lora_alpha: Multiple = Field(
        32.0,
        description="scale of the adapters: their output is multiplied by lora_alpha / lora_rank",
    )
    lora_dropout: Annotated[float, Field(ge=0, lt=1), Field(allow_inf_nan=False)] = Field(
        0.0, description="dropout before the adapters"
    )
    lora_targets: Annotated[list[str], Distinct] = Field(
        [], description="modules that get an adapter ([]: every linear map of the blocks)"
    )
    accumulate: Count = Field(
        1, description="parts that a batch is split into (gradient accumulation)"
    )
    checkpointing: bool = Field(
        False, description="recompute activations in the backward pass instead of keeping them"
    )
    base_steps: CountFrom0 = Field(
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
    base_repeat_share: Annotated[float, Field(ge=0, lt=1), Field(allow_inf_nan=False)] = Field(
        0.0,
        description="share of the base's batches that are random repeats (they form induction)",
    )
    base_first: Annotated[list[str], Distinct] = Field(
        [],
        description="tracks lora, full: families that the base learns alone at first ([arithmetic])",
    )
    base_enough: Share = Field(
        0.97, description="the base is done once its free accuracy reaches this"
    )

    @property
    def autocast(self) -> bool:
        """Does the forward pass run in bfloat16?"""
        return self._settled("precision") == "bfloat16" and self.numerics == "native"

    def gates(self) -> dict[str, float]:
        return {
            "memory": self.gate_memory,
            "rule": self.gate_rule,
            "other": self.gate_other,
            "free": self.gate_free,
            "keyed": self.gate_keyed,
        }

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}")
        if self.architecture == "llama" and self.n_embd // self.n_head % 2:
            raise ValueError(
                f"n_embd={self.n_embd} gives each of n_head={self.n_head} heads an odd width, which"
                " rotary positions (architecture=llama) cannot have"
            )
        return self

    @model_validator(mode="after")
    def _some_checkpoint_can_be_kept(self) -> Self:
        for name in ("keep_from", "rule_first_steps"):
            if getattr(self, name) > self.max_steps:
                raise ValueError(
                    f"{name}={getattr(self, name)} lies after max_steps={self.max_steps}, so no"
                    " checkpoint could be kept"
                )
        if self.gate_memory + self.gate_rule > 1 + 1e-9:
            raise ValueError(
                f"gate_memory={self.gate_memory} and gate_rule={self.gate_rule} are shares of the"
                " same prompts and cannot be more than 1 together"
            )
        return self

    @model_validator(mode="after")
    def _known_families(self) -> Self:
        families = list(dict.fromkeys(name.split("-")[0] for name in TASKS))
        for name in self.base_first:
            if name not in families:
                raise ValueError(
                    f"base_first={self.base_first}: {name!r} is no family of tasks; choose from"
                    f" {', '.join(families)}"
                )
        return self

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size={self.batch_size} is not divisible by accumulate={self.accumulate}"
            )
        if self.track == "scratch" and self.base_model:
            raise ValueError(
                f"base_model={self.base_model!r} needs track=lora or track=full: from scratch there"
                " is no base"
            )
        if self.track == GIVEN_TRACK and self.retrain:
            raise ValueError(f"retrain={self.retrain}: on track={GIVEN_TRACK} nothing is trained")
        if self.track != "scratch" and self.retrain:
            raise ValueError(
                f"retrain={self.retrain}: on a shared base the seeds are retrains of each other;"
                " use another seed"
            )
        return self
