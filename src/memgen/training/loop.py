"""One optimisation, its state on disk: a run that was killed ends with the very same weights."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from memgen.config.training import TrainingParameters
from memgen.models.build import N_POSITIONS, build_model
from memgen.models.packed import logits_at
from memgen.models.sites import architecture_of, bare
from memgen.store.numerics import settled
from memgen.training.batches import IGNORE
from memgen.training.muon import Muon
from memgen.training.state import read_state, write_state


@dataclass(frozen=True)
class Recipe:
    """How one model is optimised: `optimizer` (muon or adamw), peak rates of AdamW and Muon, steps."""

    optimizer: str
    lr: float
    matrix_lr: float
    max_steps: int

    @classmethod
    def of(cls, p: TrainingParameters) -> Recipe:
        """That of a run."""
        return cls(p.optimizer, p.lr, p.matrix_lr, p.max_steps)

    @classmethod
    def of_base(cls, p: TrainingParameters) -> Recipe:
        """That of the base of a run."""
        optimizer = p.optimizer if p.base_optimizer == "same" else p.base_optimizer
        return cls(optimizer, p.base_lr, p.base_matrix_lr, p.base_steps)


def new_model(tokenizer, p: TrainingParameters, seed: int):
    """The study's own model with random weights drawn from `seed`."""
    return build_model(
        tokenizer,
        architecture=p.architecture,
        n_layer=p.n_layer,
        n_embd=p.n_embd,
        n_head=p.n_head,
        n_positions=N_POSITIONS,
        initializer_range=p.initializer_range,
        seed=seed,
        attention=p.attention,
    )


def _optimizers(
    model, p: TrainingParameters, recipe: Recipe
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Each optimiser with its peak learning rate.

    Muon orthogonalises the update of each weight matrix of the blocks. On addition with several
    carries it leaves AdamW's plateau (all but the ones digit fail) several times sooner.
    Embeddings, gains and biases go to AdamW, as its authors advise. Source: Jordan et al. (2024),
    Muon; torch's.
    """
    adamw = {"betas": (0.9, 0.999), "weight_decay": p.weight_decay, "fused": True}
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    lr = recipe.lr
    if recipe.optimizer == "adamw":
        return [(torch.optim.AdamW(trained.values(), lr=lr, **adamw), lr)]
    in_blocks = {
        id(value)
        for value in bare(model).get_submodule(architecture_of(model).blocks).parameters()
        if value.ndim == 2
    }
    inner = [value for value in trained.values() if id(value) in in_blocks]
    outer = [value for value in trained.values() if id(value) not in in_blocks]
    muon = Muon(
        inner,
        dtype=torch.bfloat16 if p.autocast else torch.float32,
        lr=recipe.matrix_lr,
        weight_decay=p.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [(muon, recipe.matrix_lr)] + (
        [(torch.optim.AdamW(outer, lr=lr, **adamw), lr)] if outer else []
    )


class Trainer:
    """One optimisation: linear warm-up and decay of the rates, gradient clipping at norm 1.

    The state holds weights, optimiser, generator and history; a kill at any moment leaves one to
    resume from (see `training.state`).
    """

    def __init__(
        self,
        model,
        parameters: TrainingParameters,
        recipe: Recipe,
        seed: int,
        folder: Path,
    ):
        self.model, self.p, self.folder = model, settled(parameters), folder
        self.max_steps = recipe.max_steps
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizers = _optimizers(model, self.p, recipe)
        self.trained = {
            name: value for name, value in model.named_parameters() if value.requires_grad
        }
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        self.history: list[dict] = []
        self.checkpoint: dict[str, str] = {}  # digests of what was kept, see `training.state`

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
        """Share of the peak rate: linear warm-up, then linear decay to `final_lr_share`."""
        warm = min(1.0, (self.step + 1) / max(1, self.p.warmup_steps))
        return warm * (1 - (1 - self.p.final_lr_share) * self.step / self.max_steps)

    def _backward(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The batch's mean loss, its gradient added up over `accumulate` parts."""
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
        """Next-token cross entropy; nothing is computed that no label depends on."""
        wanted = labels[:, 1:] != IGNORE
        device = bare(self.model).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.p.autocast):
            logits = logits_at(self.model, ids[:, :-1], wanted)
        return F.cross_entropy(logits.float(), labels[:, 1:][wanted].to(device))

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
            "checkpoint": self.checkpoint,
        }
        write_state(self.folder, tensors, about)

    def resume(self) -> bool:
        """Go on from the state in the folder, if there is one and it is as it was written."""
        found = read_state(self.folder)
        if found is None:
            return False
        tensors, about = found
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
        self.history, self.checkpoint = about["history"], about["checkpoint"]
        return True
