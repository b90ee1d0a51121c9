"""Shifts that should *not* steer, each with as many neurons and the same L2 norm as the one under test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.neurons.nmd import NeuronMaps, checked_pairs, correlation, nmd
from memgen.neurons.selection import largest
from memgen.steering.cells import shift_vector
from memgen.steering.steering import outcome_rows
from memgen.steering.trial import Trial


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
        if found.n_neurons == 0:
            raise ValueError("control_shifts: the reference shift is 0 everywhere")
        return found

    @property
    def touched(self) -> np.ndarray:
        return self.reference != 0

    @property
    def n_neurons(self) -> int:
        return int(self.touched.sum())

    @property
    def norm(self) -> float:
        return np.linalg.norm(self.reference)

    @property
    def available(self) -> np.ndarray:
        """Neurons outside the reference that differ at all: others cannot be shifted."""
        return ~self.touched & (self.nmd != 0) & (self.rho != 0)

    @property
    def half(self) -> int:
        return len(self.memory) // 2

    def draws(self, name: str, n_draws: int) -> int:
        """How many draws of a control there are: none where it does not exist."""
        if name == "shuffled_labels":
            return n_draws if self.half else 0
        if name not in ("random_neurons", "other_neurons", "low_rho"):
            return n_draws
        enough = int(self.available.sum()) >= self.n_neurons
        return 0 if not enough else min(1, n_draws) if name == "low_rho" else n_draws

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        chosen = np.zeros(self.reference.size, dtype=bool)
        places = np.flatnonzero(self.available)
        chosen[rng.choice(places, size=self.n_neurons, replace=False)] = True
        return chosen.reshape(self.reference.shape)

    def random_neurons(self, rng: np.random.Generator) -> np.ndarray:
        """The reference's signed values, dealt to N random neurons outside it."""
        shift = np.zeros_like(self.reference)
        shift[self._drawn(rng)] = rng.permutation(self.reference[self.touched])
        return shift

    def other_neurons(self, rng: np.random.Generator) -> np.ndarray:
        """N random neurons outside the reference, own sign(rho) * |NMD|: tests the choice."""
        return _rescaled(shift_vector(self.nmd, self.rho, self._drawn(rng)), self.norm)

    def low_rho(self, rng: np.random.Generator) -> np.ndarray:
        """N neurons outside the reference of smallest |rho|; its magnitudes by |NMD|, sign(rho)."""
        chosen = largest(np.where(self.available, -np.abs(self.rho), -np.inf), self.n_neurons)
        rank = np.argsort(np.argsort(np.abs(self.nmd[chosen]), kind="stable"), kind="stable")
        shift = np.zeros_like(self.reference)
        magnitudes = np.sort(np.abs(self.reference[self.touched]))
        shift[chosen] = np.sign(self.rho[chosen]) * magnitudes[rank]
        return shift

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        """The reference's neurons, its signed values dealt out anew among them."""
        shift = np.zeros_like(self.reference)
        shift[self.touched] = rng.permutation(self.reference[self.touched])
        return shift

    def random_sign(self, rng: np.random.Generator) -> np.ndarray:
        """The reference's neurons and magnitudes, random signs."""
        return np.abs(self.reference) * rng.choice([-1.0, 1.0], size=self.reference.shape)

    def shuffled_labels(self, rng: np.random.Generator) -> np.ndarray:
        """The labels of half of the pairs swapped, then NMD, rho and top N anew, rescaled.

        Exactly half (of an odd number one pair sits out): coin flips leave about 1/sqrt(n) of the
        true difference, which rescaling would blow up to the very shift under test.
        """
        swapped, kept = np.split(rng.permutation(len(self.memory))[: 2 * self.half], 2)
        memory = np.concatenate([self.rule[swapped], self.memory[kept]])
        rule = np.concatenate([self.memory[swapped], self.rule[kept]])
        rho = correlation(np.concatenate([memory, rule]), np.repeat([0, 1], len(memory)))
        top = largest(np.abs(rho), self.n_neurons)
        return _rescaled(shift_vector(nmd(memory, rule), rho, top), self.norm)


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
    maps: NeuronMaps,
    pairs: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    n_draws: int = 1,
) -> dict[str, list[np.ndarray]]:
    """By control (see `UnderTest`) its draws, each `[L, d]`.

    `pairs`: the memory and rule states `[n, L, d]` that the maps were computed from. The list of
    shuffled_labels is empty for a single pair; those of random_neurons, other_neurons and low_rho
    where fewer than N neurons are left outside the reference (top_n above 0.5, say). Each control
    has a random stream of its own, so more draws of one do not change another.
    """
    tested = UnderTest.of(reference, maps, pairs)
    streams = zip(CONTROLS, rng.spawn(len(CONTROLS)), strict=True)
    return {
        name: [getattr(tested, name)(stream) for _ in range(tested.draws(name, n_draws))]
        for name, stream in streams
    }


def _rescaled(shift: np.ndarray, norm: float) -> np.ndarray:
    own_norm = np.linalg.norm(shift)
    if own_norm == 0:
        raise ValueError(
            "a control shift is 0 everywhere and cannot be given a norm: too few or identical pairs"
        )
    return shift * (norm / own_norm)


def controls(
    trial: Trial, pairs: tuple[np.ndarray, np.ndarray], n_draws: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trial's controls: a row each, and one per answer; `pairs`: as in `control_shifts`."""
    drawn = control_shifts(trial.shift, trial.steering.maps, pairs, rng, n_draws)
    names = np.array([name for name, stack in drawn.items() for _ in stack])
    codes = trial.run([one for stack in drawn.values() for one in stack])
    table = [
        {"control": name, "draws": len(stack), **trial.summary(codes[names == name])}
        for name, stack in drawn.items()
        if stack
    ]
    answers = [
        outcome_rows(name, one, trial.rows, trial.direction) for name, one in zip(names, codes)
    ]
    return pd.DataFrame(table), pd.concat(answers)
