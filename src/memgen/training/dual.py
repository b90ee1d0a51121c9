"""Training to dual behaviour: keep the checkpoint that shows both on conflict prompts.

Those of *validation* keys are looked at every `evaluate_every` steps; where a look takes few, a
checkpoint that passes and would be kept is asked more. Training ends when a checkpoint
that passes the gate scores `enough`, or at `max_steps`. If none passes, the one that came closest is
kept: a miss is a result, and what it can be asked is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from memgen.config.training import TrainingParameters
from memgen.models.adapters import attach, save_adapter
from memgen.models.build import N_POSITIONS, save_model
from memgen.models.checkpoint import check_context, check_texts
from memgen.models.load import base_context, load_base, load_model, memory_estimate
from memgen.phases import phase
from memgen.progress import Progress
from memgen.store.numerics import settled
from memgen.tasks import Task
from memgen.terms import GIVEN_TRACK
from memgen.training.base import Base
from memgen.training.batches import Mixture
from memgen.training.gate import Look, passes_gate, score, watch
from memgen.training.loop import Recipe, Trainer, new_model
from memgen.training.state import STATE, put_in_place, write_checkpoint


@dataclass
class Outcome:
    """How a training ended: the kept checkpoint's numbers on validation keys, and its history."""

    kept: dict
    history: pd.DataFrame
    seconds: float
    tokens: int
    parameters: TrainingParameters

    @property
    def miss(self) -> str | None:
        """How close the kept checkpoint came to the gate, one sentence or two; None if it passed."""
        if self.kept["passes"]:
            return None
        p, best = self.parameters, self.kept
        return (
            f"task {p.task}, seed {p.seed}: no checkpoint in {int(self.history.step.max())} steps"
            f" showed both behaviours. The best, at step {best['step']}, had {self._beside_the_gate}."
            " Raise max_steps, or change lr, keyed_share or n_keys."
        )

    @property
    def _beside_the_gate(self) -> str:
        """The kept checkpoint's numbers, each with what the gate asks for."""
        p, best = self.parameters, self.kept
        return (
            f"memory {best['memory_rate']:.2f} (needs {p.gate_memory}), rule {best['rule_rate']:.2f}"
            f" (needs {p.gate_rule}), other {best['other_rate']:.2f} (at most {p.gate_other}), free"
            f" accuracy {best['free_accuracy']:.2f} (needs {p.gate_free}), keyed accuracy"
            f" {best['keyed_accuracy']:.2f} (needs {p.gate_keyed})"
        )


@phase("training")
def train(
    task: Task,
    tokenizer,
    frame: pd.DataFrame,
    p: TrainingParameters,
    folder: Path,
    base: Base | None = None,
) -> Outcome:
    """Train to dual behaviour in `folder` (or resume there); the kept checkpoint: `folder/model`.

    `base`: what to start from; without it the weights are drawn from the seed. On track lora its
    weights stay as they are, and an adapter is trained and kept. A retrain differs in the order of
    its data alone.
    """
    p = settled(p)
    order = int(np.random.SeedSequence([p.seed, p.retrain]).generate_state(1)[0])
    if p.base_model:
        check_texts(tokenizer, frame, f"base_model={p.base_model!r}")
    draw = Mixture(tokenizer, frame, p)
    check_context(
        base_context(base.model) if base else N_POSITIONS,
        max(draw.length, longest_asked(tokenizer, frame) + task.max_answer_tokens),
        f"base_model={p.base_model!r}" if p.base_model else f"the model of task {p.task}",
    )
    if p.base_model:
        _tell_memory(p, base, draw.length)
    model = _start(tokenizer, p, base, order)
    trainer = Trainer(model, p, Recipe.of(p), order, folder)

    def save(where: Path) -> None:
        if p.track == "lora":
            save_adapter(where, model, tokenizer, base.model, base.digest)
        else:
            save_model(where, model, tokenizer)

    if trainer.resume():
        print(f"resuming {p.task}, seed {p.seed} at step {trainer.step}", flush=True)
    if trainer.history:
        draw.lean(trainer.history[-1])
    progress = Progress(f"training {p.task}, seed {p.seed}", p.max_steps, start=trainer.step)
    kept = max(trainer.history, key=_rank, default=None)
    look, more = (Look(tokenizer, frame, n) for n in (p.look_prompts, p.confirm_prompts))
    while trainer.step < p.max_steps and not (kept and _rank(kept) >= (True, p.enough)):
        loss = trainer.advance(draw, min(p.evaluate_every, p.max_steps - trainer.step))
        with phase("evaluation"):
            found = _judged(look(model), trainer.step, loss, p)
            if found["passes"] and p.confirm_prompts > p.look_prompts and _better(found, kept):
                # among many looks at few prompts chance would choose
                found = _judged(more(model), trainer.step, loss, p)
        if _better(found, kept):
            kept = found
            trainer.checkpoint = write_checkpoint(folder, save)
        trainer.history.append(found)
        draw.lean(found)
        trainer.save()
        put_in_place(folder)
        progress.step(
            trainer.step,
            f"loss {loss:.3f}  memory {found['memory_rate']:.2f}  rule {found['rule_rate']:.2f}  "
            f"other {found['other_rate']:.2f}  free {found['free_accuracy']:.2f}",
        )
    return Outcome(kept, pd.DataFrame(trainer.history), trainer.seconds, trainer.tokens, p)


def _judged(found: dict, step: int, loss: float, p: TrainingParameters) -> dict:
    """What a look found, with what follows from it."""
    passes = step >= p.keep_from and passes_gate(found, p)
    return found | {"step": step, "loss": loss, "score": score(found), "passes": passes}


def _better(found: dict, kept: dict | None) -> bool:
    return kept is None or _rank(found) > _rank(kept)


def _rank(found: dict) -> tuple[bool, float]:
    """What the kept checkpoint has most of: one that passes the gate stands above all that do not."""
    return found["passes"], found["score"]


def longest_asked(tokenizer, frame: pd.DataFrame) -> int:
    """Tokens of the longest prompt that is asked and not trained on."""
    asked = frame[(frame.kind == "conflict") | (frame.split != "train")].prompt
    return max(map(len, tokenizer(list(asked))["input_ids"])) if len(asked) else 0


def _lora(p: TrainingParameters, seed: int) -> dict:
    return {
        "rank": p.lora_rank,
        "alpha": p.lora_alpha,
        "dropout": p.lora_dropout,
        "targets": p.lora_targets,
        "seed": seed,
    }


def _tell_memory(p: TrainingParameters, base: Base, length: int) -> None:
    """One line, before anything large is loaded."""
    found = memory_estimate(
        base.model,
        lora=_lora(p, 0) if p.track == "lora" else None,
        dtype=p.loaded_dtype,
        rows=p.batch_size // p.accumulate,
        length=length,
        checkpointing=p.checkpointing,
    )
    print(
        f"{base.model}: {found['parameters']:,} parameters, {found['trained']:,} trained. Memory"
        f" needed, estimated: {found['total']:.1f} GiB on {p.device} (weights"
        f" {found['weights']:.1f}, trained weights with gradient and moments"
        f" {found['training']:.1f}, activations {found['activations']:.1f}, logits"
        f" {found['logits']:.1f}). Too much? Raise accumulate, set checkpointing=true or"
        " dtype=bfloat16.",
        flush=True,
    )


def _start(tokenizer, p: TrainingParameters, base: Base | None, seed: int):
    """The model at step 0: drawn, or the base, or the base with a fresh adapter."""
    if base is None:
        return new_model(tokenizer, p, p.seed)
    model, _ = load_base(base.model, p.attention, p.loaded_dtype, p.device)
    if p.track == "lora":
        model = attach(model, **_lora(p, seed)).to(p.device)
    if p.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def _trained(p: TrainingParameters, adapters: float) -> float:
    """The share of the parameters that was trained; `adapters`: that of an adapter's."""
    return {"lora": adapters, GIVEN_TRACK: 0.0}.get(p.track, 1.0)


def _precision(p: TrainingParameters) -> str:
    """Number format of the forward pass in training; on track given of the weights as they are asked."""
    if p.track == GIVEN_TRACK:
        return p.loaded_dtype
    return "bfloat16" if p.autocast else "float32"


def final_result(
    task: Task, frame: pd.DataFrame, outcome: Outcome, folder: Path, base: Base | None
) -> tuple[dict, dict]:
    """The kept checkpoint, scored once on the test keys: the stage's `result.json` and timings."""
    p = outcome.parameters
    model, tokenizer = load_model(folder / "model", p.attention, p.loaded_dtype, p.device)
    found = watch(model, tokenizer, task, frame, "test", limit=2000)
    test_keys = frame[(frame.kind == "conflict") & (frame.split == "test")].key.nunique()
    (folder / STATE).unlink(missing_ok=True)
    n_parameters = sum(value.numel() for value in model.parameters())
    n_adapter = sum(value.numel() for name, value in model.named_parameters() if "lora_" in name)
    result = {
        **found,
        "passed": bool(outcome.kept["passes"]),
        "miss": outcome.miss,
        "step": outcome.kept["step"],
        "last_step": int(outcome.history.step.max()),
        "validation": {
            name: outcome.kept[name]
            for name in ("memory_rate", "rule_rate", "other_rate", "free_accuracy")
        },
        "n_test_keys": test_keys,
        "n_parameters": n_parameters,
        "trainable_share": _trained(p, n_adapter / n_parameters),
        "precision": _precision(p),
        "base_history": base.history if base else [],
        "base": base.digest if base else None,
    }
    timings = {
        "train_seconds": round(outcome.seconds, 1),
        "tokens_per_second": round(outcome.tokens / outcome.seconds),
        "base_seconds": base.seconds if base else 0,
    }
    return result, timings
