"""The directions of single layers that are held against each other: what differs, what is read, what acts.

All of them come from train keys and point towards the rule. *difference*: the mean difference of the two
behaviours' states (the paper's NMD with no neuron left out, CAA's vector). *probe*: the weights of a linear
probe. *held*: a constant vector that is fitted by gradient so that the answer turns, and held to what the
model says to free and keyed prompts; *optimised*: the same without that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from memgen.neurons.geometry import unit
from memgen.rivals.caa import mean_difference
from memgen.rivals.depths import layers_tried
from memgen.rivals.material import Material
from memgen.rivals.probe_direction import probe_direction
from memgen.steering.optimised import Forced, Recipe, fitted
from memgen.terms import DIRECTIONS, MEMORY_CODE, RULE_CODE, SIGN, TARGET

HALVES = (0, 1)


@dataclass(frozen=True)
class Halves:
    """Two disjoint halves of the train keys, for what a second fit on other keys would have found."""

    of_key: dict[str, int]

    @classmethod
    def of(cls, material: Material) -> Halves:
        keys = sorted({*material.pairs.key, *material.conflict.key, *material.keyed.key})
        order = material.rng(15).permutation(len(keys))
        return cls({key: int(place % 2) for key, place in zip(keys, order)})

    def rows(self, table: pd.DataFrame, half: int | None) -> pd.DataFrame:
        """The rows of a half's keys; those without a key in turn. None: all rows."""
        if half is None:
            return table
        ours = [
            self.of_key.get(key, place % 2) == half for place, key in enumerate(table.key.tolist())
        ]
        return table[np.array(ours, dtype=bool)].reset_index(drop=True)

    def mask(self, keys: Sequence[str], half: int | None) -> np.ndarray:
        """Which of these keys `[n]` are a half's."""
        return np.array([half is None or self.of_key[key] == half for key in keys], dtype=bool)


@dataclass(frozen=True)
class Fits:
    """Vectors of the layers that are tried (from 0), from the states and by gradient."""

    material: Material
    halves: Halves
    layers: tuple[int, ...]
    _forced: dict[tuple[str, int | None], Forced | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, material: Material) -> Fits:
        return cls(material, Halves.of(material), tuple(layers_tried(material.n_layer)))

    def difference(self, half: int | None = None) -> np.ndarray:
        """`[K, d]`, of the layers that are tried; 0 where a half has no pair."""
        chosen = self.halves.mask(self.material.keys.tolist(), half)
        rule, memory = self.material.rule[chosen], self.material.memory[chosen]
        if not chosen.any():
            return np.zeros((len(self.layers), self.material.memory.shape[2]))
        return mean_difference(rule, memory)[list(self.layers)]

    def probe(self, half: int | None = None) -> np.ndarray:
        """Unit vectors `[K, d]`; 0 where a half has no pair."""
        chosen = self.halves.mask(self.material.keys.tolist(), half)
        rule, memory = self.material.rule[chosen], self.material.memory[chosen]
        if not chosen.any():
            return np.zeros((len(self.layers), self.material.memory.shape[2]))
        return np.stack(
            [probe_direction(rule[:, layer], memory[:, layer])[0] for layer in self.layers]
        )

    def by_gradient(
        self, direction: str, layer: int, held: bool, half: int | None = None
    ) -> np.ndarray:
        """A fitted vector `[d]` of a layer (from 0), as long as the fit made it; 0 without prompts."""
        effort, d = self.material.effort, self.material.memory.shape[2]
        turn = self._of(direction, half)
        if turn is None:
            return np.zeros(d)
        stay = [self._of(name, half) for name in ("free", "keyed")] if held else []
        seed = self.material.seed + (0 if half is None else 1 + half)
        recipe = Recipe(effort.steps, effort.batch, 1, seed=seed)
        (found,) = fitted([layer], turn, [one for one in stay if one is not None], recipe)
        return np.asarray(SIGN[direction] * found[1][layer])

    def _of(self, name: str, half: int | None) -> Forced | None:
        """The prompts of a direction, or `free`, or `keyed`, with the answers that they are to have."""
        if (name, half) not in self._forced:
            known = {
                "free": (self.material.free, RULE_CODE),
                "keyed": (self.material.keyed, MEMORY_CODE),
            }
            rows, code = known.get(name) or (self.material.starting(name), TARGET[name])
            rows = self.halves.rows(rows, half)
            self._forced[name, half] = (
                Forced.of(self.material.steering, rows, code, trimmed=True) if len(rows) else None
            )
        return self._forced[name, half]


@dataclass(frozen=True)
class Directions:
    """Vectors towards the rule by name; `layers`: those of the K rows of an array (from 0).

    `vectors`: `difference`, `probe` `[K, d]`; by direction `held` `[K, d]`. Of lengths as they were found.
    """

    fits: Fits
    difference: np.ndarray
    probe: np.ndarray
    held: dict[str, np.ndarray]

    @classmethod
    def of(cls, material: Material) -> Directions:
        fits = Fits.of(material)
        held = {
            d: np.stack([fits.by_gradient(d, layer, held=True) for layer in fits.layers])
            for d in DIRECTIONS
        }
        return cls(fits, fits.difference(), fits.probe(), held)

    @property
    def layers(self) -> tuple[int, ...]:
        return self.fits.layers

    def named(self, direction: str) -> dict[str, np.ndarray]:
        """By name `[K, d]`, those whose layer is chosen."""
        return {"difference": self.difference, "probe": self.probe, "held": self.held[direction]}


def random_units(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Directions `[n, d]` of length 1, all alike likely."""
    return unit(rng.normal(size=(n, d)))
