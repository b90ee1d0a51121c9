"""Which neurons differ between memorization and generalization: differences, correlations, tests,
shifts.

Arrays in, arrays out. Throughout, `memory` and `rule` are hidden states [n, L, d] of n pairs at L
layers of width d: row i of `memory` comes from a prompt answered from memory, row i of `rule` from
a prompt of the same key answered by the rule. A neuron is one coordinate (layer, index) of the
hidden state. Everything that is positive drives towards generalization. Sums run in float64, so
float32 states lose nothing on the way.

Steering: choose a cell on validation keys, score it once on test keys, beside its controls,
ablations and side effects.

The paper's formula, on the `top_n` neurons by |rho|, all layers at once: h <- h + alpha * sign(rho)
* |NMD| towards generalization (`m2g`), and the same with the opposite sign towards memorization
(`g2m`). What a prompt would have answered unsteered is known from the pairs stage, so `m2g` runs on
prompts answered from memory only, `g2m` on those answered by the rule.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.neurons.nmd import checked_pairs, correlation, nmd
from memgen.neurons.selection import largest
from memgen.steering.cells import Cell, cell_shift, shift_vector
from memgen.steering.steering import Steering, outcome_rows, summary
from memgen.terms import SIGN

CONTROLS = (
    "random_neurons",
    "other_neurons",
    "low_rho",
    "permuted",
    "random_sign",
    "shuffled_labels",
)


def control_shifts(
    reference: np.ndarray,
    nmd: np.ndarray,
    rho: np.ndarray,
    memory: np.ndarray,
    rule: np.ndarray,
    *,
    rng: np.random.Generator,
    n_draws: int = 1,
) -> dict[str, list[np.ndarray]]:
    """Shifts that should *not* steer, each with as many neurons and the same L2 norm as the
    reference.

    reference: shift [L, d] under test; its neurons are where it is not 0, N of them. nmd, rho: [L,
    d]. memory, rule: the pairs [n, L, d] that nmd and rho were computed from. Values are [L, d], by
    name:

    - random_neurons: the reference's signed values, dealt to N random neurons outside it;
    - other_neurons: N random neurons outside the reference, with their own sign(rho) * |NMD|,
      rescaled. They point the same way as the reference does, so this tests the choice of the
      neurons, not the direction of the shift;
    - low_rho: the N neurons outside the reference with the smallest |rho|, given the reference's
      magnitudes (the largest to the largest |NMD|) with sign(rho). Nothing is random here: one
      shift, whatever n_draws;
    - permuted: the reference's neurons, its signed values dealt out anew among them;
    - random_sign: the reference's neurons and magnitudes, random signs;
    - shuffled_labels: the labels of half of the pairs swapped, then NMD, rho and the top N computed
      anew, rescaled. Exactly half (of an odd number one pair sits out), because independent coin
      flips leave about 1/sqrt(n) of the true difference, of either sign, and rescaling would blow
      that up to the very shift under test.

    Neurons outside the reference that never differ (NMD or rho 0) cannot be shifted and are passed
    over. Where fewer than N are left, as for top_n above 0.5, random_neurons, other_neurons and
    low_rho do not exist: their lists are empty. So is that of shuffled_labels for a single pair.
    Each control has a random stream of its own, so more draws of one do not change another.
    """
    reference, nmd, rho = (np.asarray(array, dtype=np.float64) for array in (reference, nmd, rho))
    memory, rule = checked_pairs(memory, rule)
    if not reference.shape == nmd.shape == rho.shape == memory.shape[1:]:
        raise ValueError(
            f"control_shifts: shapes differ: reference {reference.shape}, nmd {nmd.shape}, rho"
            f" {rho.shape}, pairs {memory.shape}"
        )
    touched = reference != 0
    n_neurons, norm = int(touched.sum()), np.linalg.norm(reference)
    if n_neurons == 0:
        raise ValueError("control_shifts: the reference shift is 0 everywhere")
    streams = dict(zip(CONTROLS, rng.spawn(len(CONTROLS)), strict=True))

    available = ~touched & (nmd != 0) & (rho != 0)
    enough = int(available.sum()) >= n_neurons
    half = len(memory) // 2

    def drawn(rng):
        chosen = np.zeros(reference.size, dtype=bool)
        chosen[rng.choice(np.flatnonzero(available), size=n_neurons, replace=False)] = True
        return chosen.reshape(reference.shape)

    def random_neurons(rng):
        shift = np.zeros_like(reference)
        shift[drawn(rng)] = rng.permutation(reference[touched])
        return shift

    def other_neurons(rng):
        return _rescaled(shift_vector(nmd, rho, drawn(rng)), norm)

    def low_rho(rng):
        chosen = largest(np.where(available, -np.abs(rho), -np.inf), n_neurons)
        rank = np.argsort(np.argsort(np.abs(nmd[chosen]), kind="stable"), kind="stable")
        shift = np.zeros_like(reference)
        shift[chosen] = np.sign(rho[chosen]) * np.sort(np.abs(reference[touched]))[rank]
        return shift

    def permuted(rng):
        shift = np.zeros_like(reference)
        shift[touched] = rng.permutation(reference[touched])
        return shift

    def random_sign(rng):
        return np.abs(reference) * rng.choice([-1.0, 1.0], size=reference.shape)

    def shuffled_labels(rng):
        swapped, kept = np.split(rng.permutation(len(memory))[: 2 * half], 2)
        first = np.concatenate([rule[swapped], memory[kept]])
        second = np.concatenate([memory[swapped], rule[kept]])
        return _reference_like(first, second, n_neurons, norm)

    draws = dict.fromkeys(CONTROLS, n_draws) | {"low_rho": min(1, n_draws)}
    if not enough:
        draws |= {"random_neurons": 0, "other_neurons": 0, "low_rho": 0}
    if half == 0:
        draws |= {"shuffled_labels": 0}
    make = {
        f.__name__: f
        for f in (random_neurons, other_neurons, low_rho, permuted, random_sign, shuffled_labels)
    }
    return {name: [make[name](streams[name]) for _ in range(draws[name])] for name in CONTROLS}


def _rescaled(shift: np.ndarray, norm: float) -> np.ndarray:
    own_norm = np.linalg.norm(shift)
    if own_norm == 0:
        raise ValueError(
            "a control shift is 0 everywhere and cannot be given a norm: too few or identical pairs"
        )
    return shift * (norm / own_norm)


def _reference_like(
    memory: np.ndarray, rule: np.ndarray, n_neurons: int, norm: float
) -> np.ndarray:
    """The shift that the study's own recipe makes from these pairs, with n_neurons neurons and a
    given norm.
    """
    labels = np.repeat([0, 1], len(memory))
    rho = correlation(np.concatenate([memory, rule]), labels)
    return _rescaled(shift_vector(nmd(memory, rule), rho, largest(np.abs(rho), n_neurons)), norm)


def controls(
    steering: Steering,
    cell: Cell,
    rows: pd.DataFrame,
    direction: str,
    states: tuple[np.ndarray, np.ndarray],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every control at the cell's N and norm: one row a control, and one row an answer. `states`:
    hidden states of the memory and rule halves of the train pairs.
    """
    reference = cell_shift(cell, steering.nmd, steering.rho)
    drawn = control_shifts(reference, steering.nmd, steering.rho, *states, rng=rng, n_draws=n_draws)
    names = [name for name, stack in drawn.items() for _ in stack]
    shifts = np.stack([one for stack in drawn.values() for one in stack])
    codes = steering.outcomes(SIGN[direction] * shifts, rows)
    names = np.array(names)
    table = pd.DataFrame(
        [
            {
                "control": name,
                "draws": int((names == name).sum()),
                **summary(codes[names == name], direction),
            }
            for name in drawn
            if (names == name).any()
        ]
    )
    return table, pd.concat(
        [outcome_rows(name, one, rows, direction) for name, one in zip(names, codes)]
    )
