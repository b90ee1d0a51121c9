"""Lab 12, third part: do hidden units of the feed-forward parts steer as well as coordinates do?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from memgen.config.causal import PatchingParameters
from memgen.labs.necessity import Costs
from memgen.models.components import read, unit_maps
from memgen.models.generate import tokenize_prompts
from memgen.neurons.nmd import correlation, nmd
from memgen.neurons.pairs import flips
from memgen.stats.draws import mean_over_draws
from memgen.steering.cells import Cell, cell_shift, cumulative_norm, grid
from memgen.steering.editing import Reach, Writer
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.units import adding, random_units, written_by
from memgen.store.reader import FinishedStage
from memgen.tasks.dataset import spread
from memgen.terms import DIRECTIONS, OTHER_CODE, SIGN, TARGET

RANDOM = ("same_norm", "cumulative")  # what of the random units' writing has the shift's norm


@dataclass(frozen=True)
class UnitSteering:
    """A model with the NMD and rho `[L, units]` of its feed-forward parts' hidden units."""

    steering: Steering
    nmd: np.ndarray
    rho: np.ndarray

    @classmethod
    def of(cls, steering: Steering, answered: pd.DataFrame, mapped: FinishedStage) -> UnitSteering:
        """At the decision position, from the flip pairs of train keys that lab 04 mapped."""
        train = answered[answered.split == "train"].reset_index(drop=True)
        n_mapped = len(mapped.arrays("arrays")["memory"])
        pairs = spread(flips(train, mapped.parameters.pairs), n_mapped)
        states = [
            read(
                steering.model,
                *tokenize_prompts(steering.tokenizer, list(train.prompt[pairs[side]])),
                "units",
                last=True,
            ).numpy()
            for side in ("memory", "rule")
        ]
        labels = np.repeat([0, 1], len(pairs))
        return cls(steering, nmd(*states), correlation(np.concatenate(states), labels))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"nmd": self.nmd, "rho": self.rho}

    @cached_property
    def maps(self) -> np.ndarray:
        return unit_maps(self.steering.model).numpy()

    def shift(self, cell: Cell) -> np.ndarray:
        """`[L, units]`, towards the rule."""
        return cell_shift(cell, self.nmd, self.rho)

    def outcomes(self, shifts: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
        """Codes `[shifts, P]` under each (signed) shift, at the positions that lab 06 shifts."""
        steering = self.steering
        writer = Writer.of(steering)
        return writer.cells(
            steering.prompts(rows),
            len(shifts),
            lambda cells: adding(steering.model, shifts[cells.numpy()]),
            Reach(back=1 if steering.positions == "decision" else None, generated=True),
        )

    def choose(
        self, answered: pd.DataFrame, direction: str, p: PatchingParameters
    ) -> tuple[Cell, pd.DataFrame]:
        """The cell that turns most validation prompts, the gentlest of equals; all cells' counts."""
        rows = steering_prompts(answered, "validation", direction, p.n_prompts)
        cells = grid(p.unit_alphas, p.unit_top_ns, self.nmd, self.rho)
        shifts = SIGN[direction] * np.stack([self.shift(cell) for cell in cells])
        won = (self.outcomes(shifts, rows) == TARGET[direction]).sum(axis=1)
        columns = {
            "direction": direction,
            "top_n": [cell.top_n for cell in cells],
            "alpha": [cell.alpha for cell in cells],
            "successes": won,
            "n": len(rows),
        }
        return cells[int(won.argmax())], pd.DataFrame(columns)


def compare_units(
    units: UnitSteering, cell: Cell, residual: Cell, tested: tuple[pd.DataFrame, Costs], trial
) -> dict:
    """Units steered by `cell` beside lab 06's shift, `residual`, on the same test prompts.

    `trial`: `(direction, parameters)`. Random units have the same values in the same layers,
    `n_random` draws of each kind (see `RANDOM`); their intervals are over keys and draws.
    """
    (answered, costs), (direction, p) = tested, trial
    steering, sign = units.steering, SIGN[direction]
    rows = steering_prompts(answered, "test", direction, p.n_prompts)
    own, coordinates = units.shift(cell), steering.shift(residual)
    streams = np.random.default_rng([p.seed, DIRECTIONS.index(direction)]).spawn(len(RANDOM))
    drawn = {
        name: [random_units(own, units.maps, rng, name == "cumulative") for _ in range(p.n_random)]
        for name, rng in zip(RANDOM, streams)
    }
    stack = np.stack([own, *(one for draws in drawn.values() for one in draws)])
    codes = units.outcomes(sign * stack, rows)
    theirs = steering.outcomes(sign * coordinates[None], rows)
    keys, goal = rows.key.to_numpy(), TARGET[direction]

    def rates(some: np.ndarray) -> dict:
        found = mean_over_draws(some == goal, keys, p.seed)
        return {
            "success": found.pop("value"),
            "other": float((some == OTHER_CODE).mean()) if some.size else None,
        } | found

    def paired(others: np.ndarray) -> dict:
        hits = (codes[:1] == goal).astype(float) - (others == goal)
        found = mean_over_draws(hits, keys, p.seed)
        return {"difference": found["value"], "difference_interval": found["interval"]}

    begin, random = 1, {}
    for name, draws in drawn.items():
        some = codes[begin : begin + len(draws)]
        begin += len(draws)
        random[name] = rates(some) | paired(some) | _norms(np.stack(draws), units.maps)
    return {
        "top_n": cell.top_n,
        "alpha": cell.alpha,
        "neurons": np.count_nonzero(own, axis=1).tolist(),
        **rates(codes[:1]),
        **_norms(own[None], units.maps),
        "residual": rates(theirs) | paired(theirs),
        "random": random,
        "costs": _accuracies(units, sign * own, sign * coordinates, costs),
    }


def _norms(shifts: np.ndarray, maps: np.ndarray) -> dict:
    """L2 norm of what shifts write in all layers, and of its sum over layers: means over draws."""
    written = [written_by(one, maps) for one in shifts]
    return {
        "norm": float(np.mean([np.linalg.norm(one) for one in written])),
        "cumulative_norm": float(np.mean([cumulative_norm(one) for one in written])),
    }


def _accuracies(
    units: UnitSteering, own: np.ndarray, coordinates: np.ndarray, costs: Costs
) -> dict:
    found: dict = {}
    for name, rows, code in costs.right():
        before, after = units.outcomes(np.stack([0 * own, own]), rows)
        (theirs,) = units.steering.outcomes(coordinates[None], rows)
        for when, codes in (("before", before), ("units", after), ("residual", theirs)):
            found[f"{name}_accuracy_{when}"] = float((codes == code).mean())
        found[f"n_{name}"] = len(rows)
    return found
