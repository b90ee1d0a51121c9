"""Shifts that should *not* steer, each of the size of the one under test in every layer.

Shifts add up along the residual stream, so two of one norm need not push equally far: one that lies
in early layers, or whose layers point in different directions, is another experiment. Therefore the
controls keep the layers, the norm in each of them and the cumulative norm (`cells.cumulative_norm`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.neurons.nmd import NeuronMaps, checked_pairs, correlation, nmd
from memgen.neurons.selection import largest
from memgen.steering.bars import Bar, over_draws
from memgen.steering.cells import cumulative_norm, random_shift, shift_vector
from memgen.steering.random_directions import random_direction
from memgen.steering.steering import outcome_rows
from memgen.steering.trial import Trial

TOLERANCE = 0.1  # by which the cumulative norm of a control may differ from the reference's
CONTROLS = (
    "random_neurons",
    "random_direction",
    "other_neurons",
    "low_rho",
    "permuted",
    "random_sign",
    "shuffled_labels",
)


@dataclass(frozen=True)
class UnderTest:
    """The shift `[L, d]` (0 but at N neurons), what made it (pairs `[n, L, d]`), its controls."""

    reference: np.ndarray
    nmd: np.ndarray
    rho: np.ndarray
    memory: np.ndarray
    rule: np.ndarray

    @classmethod
    def of(
        cls, reference: np.ndarray, maps: NeuronMaps, pairs: tuple[np.ndarray, np.ndarray]
    ) -> UnderTest:
        """Errors: `ValueError` for shapes that differ, and for a reference that is 0 everywhere."""
        memory, rule = checked_pairs(*pairs)
        reference, nmd, rho = (np.asarray(a, np.float64) for a in (reference, maps.nmd, maps.rho))
        found = cls(reference, nmd, rho, memory, rule)
        reference, shape = found.reference, found.memory.shape
        if not reference.shape == found.nmd.shape == found.rho.shape == shape[1:]:
            raise ValueError(
                f"control_shifts: shapes differ: reference {reference.shape}, nmd {found.nmd.shape},"
                f" rho {found.rho.shape}, pairs {shape}"
            )
        if not found.touched.any():
            raise ValueError("control_shifts: the reference shift is 0 everywhere")
        return found

    @property
    def touched(self) -> np.ndarray:
        return self.reference != 0

    @property
    def available(self) -> np.ndarray:
        """Neurons outside the reference that differ at all: others cannot be shifted."""
        return ~self.touched & (self.nmd != 0) & (self.rho != 0)

    @property
    def counts(self) -> np.ndarray:
        """How many neurons of each layer a control outside the reference takes, int `[L]`.

        As many as the reference has there, or all that are left.
        """
        return np.minimum(self.touched.sum(axis=1), self.available.sum(axis=1))

    @property
    def half(self) -> int:
        return len(self.memory) // 2

    def draws(self, name: str, n_draws: int) -> int:
        """How many draws of a control there are: none where it does not exist."""
        if name == "shuffled_labels":
            return n_draws if self.half else 0
        if name not in ("other_neurons", "low_rho"):
            return n_draws
        return 0 if not self.counts.any() else min(1, n_draws) if name == "low_rho" else n_draws

    def random_neurons(self, rng: np.random.Generator) -> np.ndarray:
        """The reference on random neurons, the same permutation in all layers."""
        return random_shift(self.reference, rng)

    def random_direction(self, rng: np.random.Generator) -> np.ndarray:
        """The reference turned at random as a whole."""
        return random_direction(self.reference, rng)

    def other_neurons(self, rng: np.random.Generator) -> np.ndarray:
        """Random neurons outside the reference, own sign(rho) * |NMD|: tests the choice."""
        score = np.where(self.available, rng.random(self.rho.shape), -np.inf)
        drawn = shift_vector(self.nmd, self.rho, self._most(score))
        return self._as_far(self._layer_by_layer(drawn))

    def low_rho(self, rng: np.random.Generator) -> np.ndarray:
        """The neurons of smallest |rho| outside; the reference's magnitudes by |NMD|, sign(rho)."""
        chosen = self._most(np.where(self.available, -np.abs(self.rho), -np.inf))
        shift = np.zeros_like(self.reference)
        for layer, (mask, own) in enumerate(zip(chosen, np.abs(self.reference))):
            rank = np.argsort(np.argsort(np.abs(self.nmd[layer, mask]), kind="stable"))
            magnitudes = np.sort(own)[len(own) - mask.sum() :]
            shift[layer, mask] = np.sign(self.rho[layer, mask]) * magnitudes[rank]
        return self._as_far(self._layer_by_layer(shift))

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        """The reference's neurons, the signed values of each layer dealt out anew among them."""
        shift = np.zeros_like(self.reference)
        for row, own, mask in zip(shift, self.reference, self.touched):
            row[mask] = rng.permutation(own[mask])
        return self._as_far(shift)

    def random_sign(self, rng: np.random.Generator) -> np.ndarray:
        """The reference, each coordinate turned or not, the same in all layers."""
        return self.reference * rng.choice([-1.0, 1.0], size=self.reference.shape[1])

    def shuffled_labels(self, rng: np.random.Generator) -> np.ndarray:
        """The labels of half of the pairs swapped, then NMD, rho and top N anew, rescaled.

        Exactly half (of an odd number one pair sits out): coin flips leave about 1/sqrt(n) of the
        true difference, which rescaling would blow up to the very shift under test. Its layers are
        its own choice, its cumulative norm is the reference's.
        """
        swapped, kept = np.split(rng.permutation(len(self.memory))[: 2 * self.half], 2)
        memory = np.concatenate([self.rule[swapped], self.memory[kept]])
        rule = np.concatenate([self.memory[swapped], self.rule[kept]])
        rho = correlation(np.concatenate([memory, rule]), np.repeat([0, 1], len(memory)))
        top = largest(np.abs(rho), int(self.touched.sum()))
        return self._as_far(shift_vector(nmd(memory, rule), rho, top), tolerance=0.0)

    def _most(self, score: np.ndarray) -> np.ndarray:
        """The neurons of the highest score in each layer, as many as `counts` says: `[L, d]`."""
        return np.stack([largest(row, count) for row, count in zip(score, self.counts)])

    def _layer_by_layer(self, shift: np.ndarray) -> np.ndarray:
        """At the reference's norm in every layer where the shift is not 0."""
        own, norm = (np.linalg.norm(a, axis=1, keepdims=True) for a in (shift, self.reference))
        return shift * np.divide(norm, own, out=np.zeros_like(own), where=own > 0)

    def _as_far(self, shift: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """At the reference's cumulative norm, unless it is as near as that already."""
        own, norm = cumulative_norm(shift), cumulative_norm(self.reference)
        if own == 0:
            raise ValueError(
                "a control shift is 0 everywhere, or its layers cancel out, and cannot be given a"
                " norm: too few or identical pairs"
            )
        near = norm == 0 or abs(own - norm) <= tolerance * norm
        return shift if near else shift * (norm / own)


def control_shifts(
    reference: np.ndarray,
    maps: NeuronMaps,
    pairs: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    n_draws: int = 1,
) -> dict[str, list[np.ndarray]]:
    """By control (see `UnderTest`) its draws, each `[L, d]`.

    `pairs`: the memory and rule states `[n, L, d]` that the maps were computed from. The list of
    shuffled_labels is empty for a single pair; those of other_neurons and low_rho where no layer of
    the reference has a neuron left, and they take fewer neurons where a layer has too few. Each
    control has a random stream of its own, so more draws of one do not change another.
    """
    tested = UnderTest.of(reference, maps, pairs)
    streams = zip(CONTROLS, rng.spawn(len(CONTROLS)), strict=True)
    return {
        name: [getattr(tested, name)(stream) for _ in range(tested.draws(name, n_draws))]
        for name, stream in streams
    }


@dataclass(frozen=True)
class Draws:
    """How many draws of each random control there are, and on how many prompts each is run."""

    n_draws: int
    n_prompts: int

    def parts(self, n: int) -> list[np.ndarray]:
        """The prompts of one draw after the other: evenly spread, in turn all `n` of them."""
        step = -(-n // self.n_prompts)
        return [np.arange(start, n, step) for start in range(step)]


def controls(
    trial: Trial, pairs: tuple[np.ndarray, np.ndarray], draws: Draws, rng: np.random.Generator
) -> tuple[list[Bar], pd.DataFrame]:
    """The trial's controls: a bar each, and one row per answer; `pairs`: as in `control_shifts`."""
    drawn = control_shifts(trial.shift, trial.steering.maps, pairs, rng, draws.n_draws)
    drawn = {name: stack for name, stack in drawn.items() if stack}
    n = len(trial.rows)
    every, single = draws.parts(n), [np.arange(n)]
    asked = [
        (name, draw, parts[draw % len(parts)])
        for name, stack in drawn.items()
        for parts in [every if len(stack) > 1 else single]
        for draw in sorted(range(len(stack)), key=lambda draw: (draw % len(parts), draw))
    ]
    # all draws of all controls are rows of the same batches
    shifts = [drawn[name][draw] for name, draw, _ in asked]
    which = np.repeat(np.arange(len(asked)), [len(part) for *_, part in asked])
    codes = trial.run_rows(shifts, which, np.concatenate([part for *_, part in asked]))
    answers: dict[str, list[pd.DataFrame]] = {name: [] for name in drawn}
    for i, (name, draw, part) in enumerate(asked):
        rows = trial.rows.iloc[part]
        answers[name].append(outcome_rows(name, codes[which == i], rows, trial.direction, draw))
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in answers.items()}
    bars = [over_draws(name, rows, drawn[name], trial.shift) for name, rows in tables.items()]
    return bars, pd.concat(tables.values(), ignore_index=True)
