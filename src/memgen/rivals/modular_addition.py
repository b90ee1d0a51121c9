"""IPR pruning where it comes from: a small network that adds residues, some of its sums learned wrongly.

A network of one hidden layer reads two residues of a prime, one-hot, and is fitted on part of all pairs to
say their sum. A share of these pairs was given another answer. Large networks learn the rule and these
exceptions together. If units that read their operands along a wave hold the rule, and all others the
exceptions, then cutting the least periodic ones first must take the exceptions and leave the rule, and
cutting the most periodic ones first must not. Set-up after Doshi et al. (2024), To grok or not to grok:
quadratic units without biases, mean squared error, full batches of AdamW.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from memgen.rivals.ipr import participation

CUT = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # shares of the units
ORDERS = ("lowest first", "highest first", "random")


@dataclass(frozen=True)
class Recipe:
    """`residues`: a prime; `known`: share of all pairs that is trained on, `wrong`: of these."""

    residues: int = 31
    units: int = 256
    known: float = 0.7
    wrong: float = 0.1
    steps: int = 1500
    rate: float = 0.005
    decay: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Sums:
    """All pairs `[p * p, 2]`, what is taught of each, what is true, and which are trained on, and wrongly."""

    pairs: torch.Tensor
    taught: torch.Tensor
    true: torch.Tensor
    known: torch.Tensor
    wrong: torch.Tensor

    @classmethod
    def of(cls, recipe: Recipe) -> Sums:
        p, rng = recipe.residues, np.random.default_rng(recipe.seed)
        every = np.stack(np.divmod(np.arange(p * p), p), axis=1)
        true = every.sum(1) % p
        order = rng.permutation(len(every))
        known = np.zeros(len(every), dtype=bool)
        known[order[: round(recipe.known * len(every))]] = True
        wrong = np.zeros_like(known)
        wrong[order[: round(recipe.wrong * known.sum())]] = True
        # any residue but the right one
        taught = np.where(wrong, (true + rng.integers(1, p, len(every))) % p, true)
        return cls(*map(torch.from_numpy, (every, taught, true, known, wrong)))


@dataclass(frozen=True)
class Network:
    """`reads` `[units, 2 p]` of both operands, `writes` `[p, units]`."""

    reads: torch.Tensor
    writes: torch.Tensor

    def logits(self, pairs: torch.Tensor) -> torch.Tensor:
        p = len(self.writes)
        return self._of(F.one_hot(pairs, p).flatten(1).to(self.reads))

    def _of(self, given: torch.Tensor) -> torch.Tensor:
        return (given @ self.reads.T).square() @ self.writes.T

    @property
    def periodicity(self) -> np.ndarray:
        """IPR of each unit `[units]`: mean over its two operands and what it writes, each over residues."""
        p = len(self.writes)
        first, second = self.reads.detach().numpy().reshape(-1, 2, p).transpose(1, 2, 0)
        parts = first, second, self.writes.detach().numpy()
        return np.mean([participation(part.astype(np.float64)) for part in parts], axis=0)

    def without(self, units: np.ndarray) -> Network:
        """The same with these units cut, inputs and outputs."""
        kept = torch.ones(len(self.reads))
        kept[torch.from_numpy(units)] = 0
        return Network(self.reads * kept[:, None], self.writes * kept)

    @classmethod
    def fitted(cls, recipe: Recipe, sums: Sums) -> Network:
        """Full batches; mean squared error to one-hot answers."""
        drawn, p = torch.Generator().manual_seed(recipe.seed), recipe.residues
        shapes = (recipe.units, 2 * p), (p, recipe.units)
        reads, writes = (
            (torch.randn(*of, generator=drawn) / of[1] ** 0.5).requires_grad_() for of in shapes
        )
        network = cls(reads, writes)
        given = F.one_hot(sums.pairs[sums.known], p).flatten(1).float()
        wanted = F.one_hot(sums.taught[sums.known], p).float()
        adam = torch.optim.AdamW(
            [reads, writes], lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay
        )
        for _ in range(recipe.steps):
            loss = F.mse_loss(network._of(given), wanted)
            adam.zero_grad()
            loss.backward()
            adam.step()
        return cls(reads.detach(), writes.detach())


def said(network: Network, sums: Sums) -> dict[str, float]:
    """Shares: of pairs never seen that are right; of wrong ones that are answered as taught, and rightly."""
    found = network.logits(sums.pairs).argmax(1)
    of_wrong = found[sums.wrong]
    return {
        "unseen_right": _share(found[~sums.known] == sums.true[~sums.known]),
        "wrong_as_taught": _share(of_wrong == sums.taught[sums.wrong]),
        "wrong_put_right": _share(of_wrong == sums.true[sums.wrong]),
    }


def _share(holds: torch.Tensor) -> float:
    return float(holds.double().mean())


def pruned(recipe: Recipe) -> pd.DataFrame:
    """A row per order and share of the units that is cut: what `said` finds."""
    sums = Sums.of(recipe)
    network = Network.fitted(recipe, sums)
    values, rng = network.periodicity, np.random.default_rng([recipe.seed, 1])
    orders = np.argsort(values), np.argsort(-values), rng.permutation(len(values))
    return pd.DataFrame(
        [
            {"seed": recipe.seed, "order": name, "cut": share}
            | said(network.without(order[: round(share * len(order))]), sums)
            for name, order in zip(ORDERS, orders)
            for share in CUT
        ]
    )
