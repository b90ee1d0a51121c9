"""Training to dual behaviour: watch the conflict prompts while the model trains, keep the
checkpoint that shows both.

Gate and checkpoint rule: every `evaluate_every` steps the conflict prompts of the *validation* keys
are answered; the checkpoint with the highest `min(memory, rule) - other` among those that pass the
gate is kept. Training ends when that score is `enough`, or at `max_steps`. Everything needed to go
on is written at each look, so an interrupted run ends with the very same weights as an
uninterrupted one.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from .adapters import attach, save_adapter, weights_digest
from .artifacts import guard_disk
from .behavior import accuracy, answer, behaviors, rates
from .config import TrainingParameters
from .errors import ArtifactError, GateError
from .models import build_model, load_base, load_model, memory_estimate, save_model
from .progress import Progress
from .sites import architecture_of, bare
from .tasks import Task, instances

IGNORE = -100  # label of positions without loss
N_POSITIONS = 32
STATE = "state.safetensors"


# -- data ------------------------------------------------------------------------------------------
@dataclass
class Pool:
    """Instances ready to train on: token ids and labels, int64 `[n, length]`, right-padded."""

    ids: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self):
        self.length = self.ids.shape[1]

    def padded(self, length: int, pad: int) -> Pool:
        """The same instances with more padding on the right."""
        more = length - self.length
        return (
            Pool(F.pad(self.ids, (0, more), value=pad), F.pad(self.labels, (0, more), value=IGNORE))
            if more
            else self
        )

    def draw(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(len(self.ids), (n,), generator=generator)
        return self.ids[rows], self.labels[rows]


def encode(
    tokenizer, prompts: list[str], targets: list[str], loss_on: str, length: int = 0
) -> Pool:
    """Prompt, target and end mark as one sequence; loss on the answer (end mark included) or on the
    whole instance.

    The two are tokenized apart, so that the prompt's tokens are those that the model is asked with;
    what a tokenizer puts before a text (LLaMA's begin mark) stands before the prompt alone.
    """
    prompt_ids = tokenizer(prompts)["input_ids"]
    target_ids = tokenizer(targets, add_special_tokens=False)["input_ids"]
    rows = [p + t + [tokenizer.eos_token_id] for p, t in zip(prompt_ids, target_ids)]
    length = max(length, max(map(len, rows)))
    ids = np.full((len(rows), length), tokenizer.pad_token_id, dtype=np.int64)
    labels = np.full((len(rows), length), IGNORE, dtype=np.int64)
    for i, (row, prompt) in enumerate(zip(rows, prompt_ids)):
        ids[i, : len(row)] = row
        first = len(prompt) if loss_on == "answer" else 1
        labels[i, first : len(row)] = row[first:]
    return Pool(torch.from_numpy(ids), torch.from_numpy(labels))


def same_length(pools: dict[str, Pool], pad: int) -> dict[str, Pool]:
    """The pools, all padded to the longest."""
    length = max(pool.length for pool in pools.values())
    return {name: pool.padded(length, pad) for name, pool in pools.items()}


class Mixture:
    """Draws batches: free prompts and, once `rule_first_steps` are over, keyed (and contrast)
    prompts.
    """

    def __init__(self, tokenizer, frame: pd.DataFrame, parameters: TrainingParameters):
        kinds = {"free": frame[(frame.kind == "free") & (frame.split == "train")]}
        kinds["keyed"], kinds["contrast"] = (
            frame[frame.kind == kind] for kind in ("keyed", "contrast")
        )
        if (frame.kind == "conflict").any() and set(
            frame[frame.kind == "conflict"].prompt
        ) & set().union(*(set(part.prompt) for part in kinds.values())):
            raise ArtifactError(
                "the data set trains on a conflict prompt; delete it and run lab 01_dataset_design"
                " again"
            )
        self.pools = same_length(
            {
                kind: encode(
                    tokenizer,
                    [r.prompt for r in rows],
                    [r.target for r in rows],
                    parameters.loss_on,
                )
                for kind, part in kinds.items()
                if len(part)
                for rows in [instances(part)]
            },
            tokenizer.pad_token_id,
        )
        self.length = next(iter(self.pools.values())).length
        self.parameters = parameters
        self.contrast = True

    def lean(self, found: dict[str, float]) -> None:
        """With `balance`, contrast prompts pull back towards the rule, and only while the model
        leans to memory on validation keys.
        """
        self.contrast = not self.parameters.balance or found["memory_rate"] > found["rule_rate"]

    def __call__(self, step: int, generator: torch.Generator):
        p = self.parameters
        n_with_key = round(p.batch_size * p.keyed_share) if step >= p.rule_first_steps else 0
        n_contrast = (
            round(n_with_key * p.contrast_share)
            if self.contrast and "contrast" in self.pools
            else 0
        )
        wanted = {
            "free": p.batch_size - n_with_key,
            "keyed": n_with_key - n_contrast,
            "contrast": n_contrast,
        }
        parts = [self.pools[kind].draw(n, generator) for kind, n in wanted.items() if n]
        return tuple(torch.cat(columns) for columns in zip(*parts))


# -- watching --------------------------------------------------------------------------------------
def watch(
    model, tokenizer, task: Task, frame: pd.DataFrame, split: str, limit: int = 300
) -> dict[str, float]:
    """Behaviour on `limit` conflict prompts of one split at most, and accuracy on as many free and
    a third as many keyed prompts.
    """
    model.eval()
    conflict = instances(spread(frame[(frame.kind == "conflict") & (frame.split == split)], limit))
    codes = behaviors(
        task,
        conflict,
        answer(model, tokenizer, [r.prompt for r in conflict], task.max_answer_tokens),
    )
    by_key = pd.Series(codes).groupby([r.key for r in conflict]).agg(set)
    found = rates(codes) | {
        "keys_with_both": float(by_key.map(lambda shown: {0, 1} <= shown).mean())
    }
    parts = {
        "free": spread(frame[(frame.kind == "free") & (frame.split == split)], limit),
        "keyed": spread(frame[frame.kind == "keyed"], limit // 3),
    }
    for name, part in parts.items():
        rows = instances(part)
        found[f"{name}_accuracy"] = accuracy(
            rows, answer(model, tokenizer, [r.prompt for r in rows], task.max_answer_tokens)
        )
    found["n_conflict"] = len(conflict)
    return found


def spread(frame: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` rows, evenly spaced, so that every key keeps its share."""
    if len(frame) <= limit:
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, limit).round().astype(int)]


def score(found: dict[str, float]) -> float:
    """What the checkpoint rule maximises: min(memory, rule) - other."""
    return min(found["memory_rate"], found["rule_rate"]) - found["other_rate"]


def passes_gate(found: dict[str, float], p: TrainingParameters) -> bool:
    return (
        found["memory_rate"] >= p.gate_memory
        and found["rule_rate"] >= p.gate_rule
        and found["other_rate"] <= p.gate_other
        and found["free_accuracy"] >= p.gate_free
        and found["keyed_accuracy"] >= p.gate_keyed
    )


def _optimizers(
    model, p: TrainingParameters, optimizer: str, lr: float, matrix_lr: float
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Each optimiser with its peak learning rate.

    Muon orthogonalises the update of each weight matrix of the blocks. On addition with several
    carries it leaves the plateau, at which AdamW learns everything but the ones digit, several
    times sooner. Embeddings, gains and biases go to AdamW, as its authors advise. Source: Jordan et
    al. (2024), Muon; the implementation is torch's.
    """
    adamw = {"betas": (0.9, 0.999), "weight_decay": p.weight_decay, "fused": True}
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if optimizer == "adamw":
        return [(torch.optim.AdamW(trained.values(), lr=lr, **adamw), lr)]
    in_blocks = {
        id(value)
        for value in bare(model).get_submodule(architecture_of(model).blocks).parameters()
        if value.ndim == 2
    }
    inner = [value for value in trained.values() if id(value) in in_blocks]
    outer = [value for value in trained.values() if id(value) not in in_blocks]
    found = [
        (
            torch.optim.Muon(
                inner, lr=matrix_lr, weight_decay=p.weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            matrix_lr,
        )
    ]
    return found + ([(torch.optim.AdamW(outer, lr=lr, **adamw), lr)] if outer else [])


# -- the loop --------------------------------------------------------------------------------------
class Trainer:
    """One optimisation: linear warm-up and decay of the rates, gradient clipping at norm 1.

    `state` holds weights, optimiser, generator and history; it is written whole and renamed, so a
    kill at any moment leaves a state to resume from.
    """

    def __init__(
        self,
        model,
        parameters: TrainingParameters,
        optimizer: str,
        lr: float,
        matrix_lr: float,
        max_steps: int,
        seed: int,
        folder: Path,
    ):
        self.model, self.p, self.max_steps, self.folder = model, parameters, max_steps, folder
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizers = _optimizers(model, parameters, optimizer, lr, matrix_lr)
        self.trained = {
            name: value for name, value in model.named_parameters() if value.requires_grad
        }
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        self.history: list[dict] = []

    def advance(self, draw, steps: int) -> float:
        """Take `steps` optimisation steps; returns the mean loss."""
        began, losses = time.monotonic(), []
        self.model.train()
        for _ in range(steps):
            ids, labels = draw(self.step, self.generator)
            self.model.zero_grad(set_to_none=True)
            losses.append(self._backward(ids, labels))
            torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
            warmth = self._warmth()
            for optimizer, peak in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = peak * warmth
                optimizer.step()
            self.step += 1
            self.tokens += ids.numel()
        self.seconds += time.monotonic() - began
        return float(torch.stack(losses).mean())

    def _warmth(self) -> float:
        """Share of the peak learning rate at this step: linear warm-up, then linear decay to
        `final_lr_share` at the last step.
        """
        warm = min(1.0, (self.step + 1) / max(1, self.p.warmup_steps))
        return warm * (1 - (1 - self.p.final_lr_share) * self.step / self.max_steps)

    def _backward(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Gradient of the batch's mean loss, in `accumulate` parts one after the other; returns
        that loss.
        """
        n, total = int((labels[:, 1:] != IGNORE).sum()), 0.0
        for part_ids, part_labels in zip(
            ids.chunk(self.p.accumulate), labels.chunk(self.p.accumulate)
        ):
            part = self._loss(part_ids, part_labels)
            part = (
                part * (int((part_labels[:, 1:] != IGNORE).sum()) / n)
                if self.p.accumulate > 1
                else part
            )
            part.backward()
            total = total + part.detach()
        return total

    def _loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Next-token cross entropy; the output layer is applied only where there is a label."""
        core = bare(self.model)
        ids, labels = ids.to(core.device), labels.to(core.device)
        with torch.autocast(
            core.device.type, torch.bfloat16, enabled=self.p.precision == "bfloat16"
        ):
            states = core.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            wanted = labels[:, 1:] != IGNORE
            logits = core.get_output_embeddings()(states[wanted])
        return F.cross_entropy(logits.float(), labels[:, 1:][wanted])

    def save(self) -> None:
        tensors = {f"model.{name}": value.detach() for name, value in self.trained.items()}
        for which, (optimizer, _) in enumerate(self.optimizers):
            for i, entry in optimizer.state_dict()["state"].items():
                tensors |= {
                    f"optimizer.{which}.{i}.{name}": torch.as_tensor(value)
                    for name, value in entry.items()
                }
        tensors["generator"] = self.generator.get_state()
        about = {
            "step": self.step,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "history": self.history,
        }
        aside = self.folder / (STATE + ".tmp")
        with guard_disk(aside):
            save_file(
                {k: v.cpu().contiguous().clone() for k, v in tensors.items()},
                aside,
                {"about": json.dumps(about)},
            )
            aside.replace(self.folder / STATE)

    def resume(self) -> bool:
        """Go on from the state in the folder, if there is one."""
        path = self.folder / STATE
        if not path.is_file():
            return False
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["about"])
            tensors = load_file(path)
        except Exception:  # a state that cannot be read is no state: start again
            path.unlink()
            return False
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(tensors[f"model.{name}"])
        for which, (optimizer, _) in enumerate(self.optimizers):
            packed = optimizer.state_dict()
            for key, value in tensors.items():
                if key.startswith(f"optimizer.{which}."):
                    _, _, i, name = key.split(".")
                    packed["state"].setdefault(int(i), {})[name] = value
            optimizer.load_state_dict(packed)
        self.generator.set_state(tensors["generator"])
        self.step, self.seconds, self.tokens = about["step"], about["seconds"], about["tokens"]
        self.history = about["history"]
        return True


@dataclass
class Outcome:
    """How a training ended: the kept checkpoint's numbers (None: no checkpoint passed the gate) and
    the whole history.
    """

    kept: dict | None
    history: pd.DataFrame
    seconds: float
    tokens: int
    parameters: TrainingParameters

    def require_gate(self) -> None:
        """Raise `GateError`, saying how close it came, unless a checkpoint passed."""
        if self.kept:
            return
        p, best = self.parameters, max(self.history.to_dict("records"), key=score)
        raise GateError(
            f"task {p.task}, seed {p.seed}: no checkpoint in {int(self.history.step.max())} steps"
            f" showed both behaviours. The best, at step {best['step']}, had memory"
            f" {best['memory_rate']:.2f} (needs {p.gate_memory}), rule {best['rule_rate']:.2f}"
            f" (needs {p.gate_rule}), other {best['other_rate']:.2f} (at most {p.gate_other}), free"
            f" accuracy {best['free_accuracy']:.2f} (needs {p.gate_free}), keyed accuracy"
            f" {best['keyed_accuracy']:.2f} (needs {p.gate_keyed}). Raise max_steps, or change lr,"
            " keyed_share or n_keys; the history is plotted above."
        )


@dataclass(frozen=True)
class Base:
    """What a run starts from: the model's folder, and how it was trained where the study trained
    it.
    """

    model: Path
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0

    @cached_property
    def digest(self) -> str:
        return weights_digest(self.model)


def train(
    task: Task,
    tokenizer,
    frame: pd.DataFrame,
    p: TrainingParameters,
    folder: Path,
    base: Base | None = None,
) -> Outcome:
    """Train to dual behaviour in `folder` (resuming what is there); the kept checkpoint goes to
    `folder/model`.

    `base`: what to start from; without it the weights are drawn from the seed. On track lora its
    weights stay as they are, and an adapter is trained and kept. A retrain differs in the order of
    its data alone.
    """
    order = int(np.random.SeedSequence([p.seed, p.retrain]).generate_state(1)[0])
    draw = Mixture(tokenizer, frame, p)
    if p.base_model:
        _tell_memory(p, base, draw.length)
    model = _start(tokenizer, p, base, order)
    trainer = Trainer(model, p, p.optimizer, p.lr, p.matrix_lr, p.max_steps, order, folder)
    if trainer.resume():
        print(f"resuming {p.task}, seed {p.seed} at step {trainer.step}", flush=True)
    if trainer.history:
        draw.lean(trainer.history[-1])
    progress = Progress(f"training {p.task}, seed {p.seed}", p.max_steps, start=trainer.step)
    kept = max((h for h in trainer.history if h["passes"]), key=lambda h: h["score"], default=None)
    while trainer.step < p.max_steps and not (kept and kept["score"] >= p.enough):
        loss = trainer.advance(draw, min(p.evaluate_every, p.max_steps - trainer.step))
        found = watch(model, tokenizer, task, frame, "validation")
        found |= {
            "step": trainer.step,
            "loss": loss,
            "score": score(found),
            "passes": trainer.step >= p.keep_from and passes_gate(found, p),
        }
        trainer.history.append(found)
        draw.lean(found)
        if found["passes"] and (kept is None or found["score"] > kept["score"]):
            kept = found
            if p.track == "lora":
                save_adapter(folder / "model", model, tokenizer, base.model, base.digest)
            else:
                save_model(folder / "model", model, tokenizer)
        trainer.save()
        progress.step(
            trainer.step,
            f"loss {loss:.3f}  memory {found['memory_rate']:.2f}  rule {found['rule_rate']:.2f}  "
            f"other {found['other_rate']:.2f}  free {found['free_accuracy']:.2f}",
        )
    return Outcome(kept, pd.DataFrame(trainer.history), trainer.seconds, trainer.tokens, p)


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
        return build_model(
            tokenizer,
            architecture=p.architecture,
            n_layer=p.n_layer,
            n_embd=p.n_embd,
            n_head=p.n_head,
            n_positions=N_POSITIONS,
            initializer_range=p.initializer_range,
            seed=p.seed,
            attention=p.attention,
        )
    model, _ = load_base(base.model, p.attention, p.loaded_dtype, p.device)
    if p.track == "lora":
        model = attach(model, **_lora(p, seed)).to(p.device)
    if p.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def final_result(
    task: Task, frame: pd.DataFrame, outcome: Outcome, folder: Path, base: Base | None
) -> tuple[dict, dict]:
    """The kept checkpoint scored once on the test keys: `result.json` of the stage, and its
    timings.
    """
    p = outcome.parameters
    model, tokenizer = load_model(folder / "model", p.attention, p.loaded_dtype, p.device)
    found = watch(model, tokenizer, task, frame, "test", limit=2000)
    test_keys = frame[(frame.kind == "conflict") & (frame.split == "test")].key.nunique()
    (folder / STATE).unlink(missing_ok=True)
    n_parameters = sum(value.numel() for value in model.parameters())
    n_adapter = sum(value.numel() for name, value in model.named_parameters() if "lora_" in name)
    result = {
        **found,
        "step": outcome.kept["step"],
        "last_step": int(outcome.history.step.max()),
        "validation": {
            name: outcome.kept[name]
            for name in ("memory_rate", "rule_rate", "other_rate", "free_accuracy")
        },
        "n_test_keys": test_keys,
        "n_parameters": n_parameters,
        "trainable_share": n_adapter / n_parameters if p.track == "lora" else 1.0,
        "base_history": base.history if base else [],
        "base": base.digest if base else None,
    }
    timings = {
        "train_seconds": round(outcome.seconds, 1),
        "tokens_per_second": round(outcome.tokens / outcome.seconds),
        "base_seconds": base.seconds if base else 0,
    }
    return result, timings
