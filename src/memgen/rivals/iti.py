"""Inference-time intervention: a few attention heads are moved along their mean difference.

A logistic probe per head is fitted to the head's output at the last token on four fifths of the keys;
heads are ranked by its accuracy on the others. The best K get alpha sigma theta added at the last
position of every pass: theta is the unit mean difference of all pairs, sigma the standard deviation of
the projections on it. Source: Li et al. (2023), Inference-Time Intervention. Its script takes the mean
difference whatever direction is asked for, and computes sigma over all data, validation included; here
sigma and ranking see train keys only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from memgen.models.components import Edit, Place, head_width, read
from memgen.models.generate import tokenize_prompts
from memgen.rivals.interventions import Edits
from memgen.rivals.liref import mean_direction
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import Reach
from memgen.terms import SIGN

COUNTS = (1, 2, 4, 8, 16)
ALPHAS = (0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 15.0, 22.0, 33.0, 50.0)
HELD_OUT = 0.2  # of the keys: heads are ranked there


@dataclass(frozen=True)
class Heads:
    """What the pairs show of every head: `theta` `[L, H, w]`, `sigma` and `accuracy` `[L, H]`."""

    theta: np.ndarray
    sigma: np.ndarray
    accuracy: np.ndarray

    def shift(self, n: int, alpha: float) -> np.ndarray:
        """alpha sigma theta of the n most accurate heads, zero elsewhere, `[L, H * w]`."""
        best = np.argsort(-self.accuracy, axis=None, kind="stable")[:n]
        chosen = np.zeros(self.accuracy.size, dtype=bool)
        chosen[best] = True
        scale = alpha * self.sigma * chosen.reshape(self.accuracy.shape)
        return (scale[..., None] * self.theta).reshape(len(self.theta), -1)


def heads_of(memory: np.ndarray, rule: np.ndarray, keys: np.ndarray, rng) -> Heads:
    """`memory`, `rule`: the heads' outputs `[n, L, H, w]` of n pairs; `keys` `[n]`."""
    names = np.unique(keys)
    n_held = max(1, round(HELD_OUT * len(names))) if len(names) > 1 else 0
    held = np.isin(keys, rng.permutation(names)[:n_held])
    if held.all() or not held.any():
        held = np.zeros(len(keys), dtype=bool)
    n_layer, n_head = memory.shape[1:3]
    theta = np.zeros(memory.shape[1:])
    sigma, accuracy = np.zeros((n_layer, n_head)), np.zeros((n_layer, n_head))
    for layer in range(n_layer):
        for head in range(n_head):
            own = memory[:, layer, head], rule[:, layer, head]
            theta[layer, head] = mean_direction(*own)
            sigma[layer, head] = spread_along(np.concatenate(own), theta[layer, head])
            accuracy[layer, head] = _accuracy(*own, held)
    return Heads(theta, sigma, accuracy)


def spread_along(states: np.ndarray, unit: np.ndarray) -> float:
    """sigma: the standard deviation (ddof 0) of the states' `[n, w]` projections on a unit vector."""
    return float((states.astype(np.float64) @ unit).std())


def _accuracy(memory: np.ndarray, rule: np.ndarray, held: np.ndarray) -> float:
    """Of a logistic probe of one head, on the pairs that it was not fitted to."""
    taught = np.concatenate([memory[~held], rule[~held]])
    asked = np.concatenate([memory[held], rule[held]]) if held.any() else taught
    probe = LogisticRegression(max_iter=1000).fit(taught, np.repeat([0, 1], (~held).sum()))
    return float(probe.score(asked, np.repeat([0, 1], len(asked) // 2)))


def candidates(material: Material, direction: str) -> list[Candidate]:
    """The n best heads at one strength, at the last position of every pass."""
    steering = material.steering
    sides = [
        read(
            steering.model,
            *tokenize_prompts(steering.tokenizer, list(material.pairs[f"{side}_prompt"])),
            "heads",
            last=True,
        ).numpy()
        for side in ("memory", "rule")
    ]
    width = head_width(steering.model)
    memory, rule = (side.reshape(*side.shape[:2], -1, width) for side in sides)
    heads = heads_of(memory, rule, material.keys, material.rng(0))
    counts = sorted({min(n, heads.accuracy.size) for n in COUNTS})
    found = [
        Candidate(
            f"{n} {'head' if n == 1 else 'heads'}, alpha {alpha:g}",
            {"heads": n, "alpha": alpha, "positions": "decision"},
            alpha * n,
            Edits(added("heads", SIGN[direction] * heads.shift(n, alpha)), Reach(1, True)),
        )
        for n in counts
        for alpha in ALPHAS
    ]
    return thinned(found, material.effort.budget)


def added(component: str, shifts: np.ndarray) -> dict[Place, Edit]:
    """Edits that add `shifts` `[L, width]` to a component; none for a layer of zeros."""

    def adding(shift: torch.Tensor) -> Edit:
        return lambda vector: vector + shift.to(vector)

    return {
        (component, layer): adding(torch.from_numpy(shift))
        for layer, shift in enumerate(shifts)
        if shift.any()
    }


METHOD = Method("iti", "ITI heads", "li2023iti", "code", "steering", candidates)
