"""What a run starts from: a base that knows the rules and no key, or a pretrained model.

From scratch, the variants of one task share a base per seed. On the tracks `lora` and `full` one
base serves all tasks: it learns the free prompts of every task, mixed with random repeated
sequences, over one vocabulary. How much of a batch a task fills follows from what it still gets
wrong on validation prompts.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from memgen.config.training import DatasetParameters, TrainingParameters
from memgen.errors import ArtifactError
from memgen.models.adapters import weights_digest
from memgen.models.build import N_POSITIONS, save_model
from memgen.models.checkpoint import check_context
from memgen.models.forced import Expected
from memgen.models.load import find_base, load_tokenizer
from memgen.models.tokenizer import build_tokenizer
from memgen.phases import phase
from memgen.presets import stage_parameters
from memgen.progress import Progress
from memgen.stages import BASE_CODE
from memgen.store.artifacts import Stage
from memgen.store.folders import base_folder
from memgen.store.numerics import settled
from memgen.store.reader import FinishedStage
from memgen.tasks import TASK_NAMES, make_task
from memgen.tasks.dataset import spread
from memgen.training.batches import BaseMixture
from memgen.training.loop import Recipe, Trainer, new_model
from memgen.training.state import STATE

LOOK_EVERY = 50  # steps between looks at the validation prompts
#: what a base depends on
BASE_PARAMETERS = (
    "preset",
    "numerics",
    "n_layer",
    "n_embd",
    "n_head",
    "initializer_range",
    "warmup_steps",
    "weight_decay",
    "precision",
    "loss_on",
    "attention",
    "optimizer",
    "base_steps",
    "base_lr",
    "base_matrix_lr",
    "base_batch_size",
    "base_repeat_share",
    "base_first",
    "base_enough",
)
DATA_SIZES = {
    "n_keys",
    "contrast_on",
    "n_gate_keys",
    "n_free",
    "n_keyed",
    "n_conflict_per_key",
    "n_free_eval",
    "key_shares",
}


@dataclass(frozen=True)
class Base:
    """What a run starts from: the model's folder, and how it was trained if the study did it."""

    model: Path
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0

    @cached_property
    def digest(self) -> str:
        return weights_digest(self.model)


def base_for(tokenizer, frame: pd.DataFrame, p: TrainingParameters) -> Base | None:
    """The base that this run starts from (trained if need be); None: it starts from random weights.

    `frame`: the run's data set. Errors: `ArtifactError` if a shared base learned other prompts than
    it.
    """
    if p.base_model:
        return Base(find_base(p.base_model))
    if p.track != "scratch":
        return _checked(ensure_shared_base(p), frame, p)
    if not p.base_steps:
        return None
    return _base(ensure_base(tokenizer, frame, p, base_folder(p.runs, p.preset, p.task, p.seed)))


def tokenizer_for(task, p: TrainingParameters):
    """The run's tokenizer: of its task's pieces, of all tasks' (shared base), or as pretrained."""
    if p.base_model:
        return load_tokenizer(find_base(p.base_model))
    return build_tokenizer(task.vocabulary() if p.track == "scratch" else shared_vocabulary())


def _base(stage: Stage) -> Base:
    base = FinishedStage(stage.folder)
    seconds = base.result["timings"].get("train_seconds", 0)
    return Base(base.path("model"), base.result["history"], seconds)


def ensure_base(tokenizer, frame: pd.DataFrame, p: TrainingParameters, folder: Path) -> Stage:
    """The base of one family of tasks in `folder` (trained if it is not there): rules, never a key.

    It depends on `BASE_PARAMETERS` and on the free prompts, which all variants of a task share. If
    another run is training it, this one waits.
    """
    free = frame[frame.kind == "free"]
    return _ensure(
        lambda: {p.task.split("-")[0]: free},
        tokenizer,
        p,
        p.seed,
        folder,
        {"free_prompts": _digest(free)},
    )


def shared_vocabulary() -> list[str]:
    """The pieces of all tasks, each once, in the order of the tasks."""
    return list(
        dict.fromkeys(piece for name in TASK_NAMES for piece in make_task(name, 3, 0).vocabulary())
    )


def data_sets(p: TrainingParameters) -> dict[str, DatasetParameters]:
    """What each family's data set is made from on this track; one variant stands for its family."""
    families = {name.split("-")[0]: name for name in reversed(TASK_NAMES)}
    given = {"seed": p.seed, "preset": p.preset, "track": p.track, "base_seed": p.base_seed}
    return {
        family: stage_parameters("01_dataset_design", {"task": name, **given})
        for family, name in families.items()
    }


def free_prompts(d: DatasetParameters) -> pd.DataFrame:
    """The free prompts of a data set; no key is among them."""
    frame = d.make_task().generate(
        d.n_free, d.n_keyed, d.n_conflict_per_key, d.n_free_eval, tuple(d.key_shares)
    )
    return frame[frame.kind == "free"]


def ensure_shared_base(p: TrainingParameters) -> Stage:
    """The base of all tasks for this architecture, preset and `base_seed`; trained if not there."""
    folder = base_folder(p.runs, p.preset, p.task, p.base_seed, p.track, p.architecture)
    made_from = data_sets(p)
    sizes = {family: d.model_dump(include=DATA_SIZES) for family, d in made_from.items()}
    return _ensure(
        lambda: {family: free_prompts(d) for family, d in made_from.items()},
        build_tokenizer(shared_vocabulary()),
        p,
        p.base_seed,
        folder,
        {"architecture": p.architecture, "data": sizes},
    )


def _checked(stage: Stage, frame: pd.DataFrame, p: TrainingParameters) -> Base:
    """The base, if it learned this data set's free prompts: others could hold this one's keys."""
    family = p.task.split("-")[0]
    learned = FinishedStage(stage.folder).result["free_prompts"][family]
    if learned != _digest(frame[frame.kind == "free"]):
        raise ArtifactError(
            f"the shared base in {stage.folder} learned other free prompts than those of this data"
            f" set of {p.task}, so it may have seen its keys; give labs 01 and 02 the same"
            " base_seed, and set sizes such as n_keys in the preset, where the base finds them"
        )
    return _base(stage)


def _digest(free: pd.DataFrame) -> str:
    return hashlib.sha256("\n".join(free.prompt + free.rule_answer).encode()).hexdigest()


def _ensure(free, tokenizer, p: TrainingParameters, seed: int, folder: Path, more: dict) -> Stage:
    """The base in `folder`; trained on `free()` if missing or made from something else."""
    p = settled(p)
    identity = (
        {name: getattr(p, name) for name in BASE_PARAMETERS}
        | {"optimizer": Recipe.of_base(p).optimizer, "seed": seed}
        | more
    )
    stage = Stage(folder, identity, modules=BASE_CODE)
    if stage.finished():
        return stage
    partial = stage.begin(keep_partial=True, wait=True)
    try:
        if stage.finished():  # it was trained while we waited
            shutil.rmtree(partial)
        else:
            stage.finish(*_train(free(), tokenizer, p, seed, partial))
    finally:
        stage.release()
    return stage


@phase("training")
def _train(
    free: dict[str, pd.DataFrame], tokenizer, p: TrainingParameters, seed: int, folder: Path
) -> tuple[dict, dict]:
    """Train a base in `folder/model`; its numbers and its timings."""
    model = new_model(tokenizer, p, seed)
    trainer = Trainer(model, p, Recipe.of_base(p), seed, folder)
    trainer.resume()
    draw = BaseMixture(
        tokenizer, free, p.base_batch_size, p.base_repeat_share, p.base_first, p.loss_on
    )
    check_context(N_POSITIONS, draw.length, f"the base of {', '.join(free)}")
    for look in trainer.history:  # of an interrupted training
        draw.lean(look["by_family"])
    held = {
        family: _expected(tokenizer, spread(rows[rows.split == "validation"], 250))
        for family, rows in free.items()
    }
    progress = Progress(
        f"training the base of {', '.join(free)}, seed {seed}", p.base_steps, start=trainer.step
    )
    while trainer.step < p.base_steps and not (
        trainer.history and trainer.history[-1]["free_accuracy"] >= p.base_enough
    ):
        loss = trainer.advance(draw, min(LOOK_EVERY, p.base_steps - trainer.step))
        with phase("evaluation"):
            found = {family: float(rows.met(model).mean()) for family, rows in held.items()}
        draw.lean(found)
        trainer.history.append(
            {
                "step": trainer.step,
                "loss": loss,
                "free_accuracy": min(found.values()),
                "by_family": found,
            }
        )
        trainer.save()
        progress.step(
            trainer.step,
            f"loss {loss:.3f}  free "
            + "  ".join(f"{family} {value:.2f}" for family, value in found.items()),
        )
    save_model(folder / "model", model, tokenizer)
    (folder / STATE).unlink(missing_ok=True)
    last = trainer.history[-1]
    result = {
        "free_prompts": {family: _digest(rows) for family, rows in free.items()},
        "history": trainer.history,
        "step": trainer.step,
        "free_accuracy": last["free_accuracy"],
        "by_family": last["by_family"],
        "n_parameters": sum(value.numel() for value in model.parameters()),
    }
    tested = {
        family: _expected(tokenizer, rows[rows.split == "test"]) for family, rows in free.items()
    }
    with phase("answers"):
        result["test"] = {
            family: {"free_accuracy": float(rows.met(model).mean()), "n": len(rows)}
            for family, rows in tested.items()
        }
    return result, {
        "train_seconds": round(trainer.seconds, 1),
        "tokens_per_second": round(trainer.tokens / trainer.seconds),
    }


def _expected(tokenizer, rows: pd.DataFrame) -> Expected:
    return Expected.of(tokenizer, list(rows.prompt), list(rows.rule_answer))
