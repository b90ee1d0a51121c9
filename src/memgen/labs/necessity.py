"""Lab 12, second part: do the answers need the neurons that lab 06 chose?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.config.causal import PatchingParameters
from memgen.neurons.selection import select_top
from memgen.stats.draws import mean_over_draws
from memgen.stats.intervals import weighted_mean
from memgen.stats.reported import by_key
from memgen.steering.cells import random_shift
from memgen.steering.editing import Reach, Writer
from memgen.steering.necessity import ablating, mean_states
from memgen.steering.steering import Steering, steering_prompts
from memgen.tasks.dataset import free_rows, keyed_rows
from memgen.terms import (
    BEHAVIORS,
    CODE,
    DIRECTIONS,
    MEMORY_CODE,
    OTHER_CODE,
    POSITIONS,
    RULE_CODE,
)

N_COST_DRAWS = 5  # of the random neurons, on free and keyed prompts


@dataclass(frozen=True)
class Costs:
    """Prompts where nothing should change: free ones of the test split, and keyed ones."""

    free: pd.DataFrame
    keyed: pd.DataFrame

    @classmethod
    def of(cls, frame: pd.DataFrame, limit: int) -> Costs:
        return cls(free_rows(frame, "test", limit), keyed_rows(frame, limit))

    def right(self) -> list[tuple[str, pd.DataFrame, int]]:
        """`(name, prompts, the code of a right answer)`."""
        return [("free", self.free, RULE_CODE), ("keyed", self.keyed, MEMORY_CODE)]


def mean_of_train(steering: Steering, answered: pd.DataFrame) -> np.ndarray:
    """Mean states `[L, positions, d]` of the different conflict prompts of train keys."""
    rows = answered[answered.split == "train"].drop_duplicates("prompt")
    return mean_states(steering.model, steering.prompts(rows), steering.site)


def necessity(
    steering: Steering,
    top_n: float,
    mean: np.ndarray,
    tested: tuple[pd.DataFrame, Costs],
    p: PatchingParameters,
) -> tuple[dict, pd.DataFrame]:
    """What setting the `top_n` neurons by |rho| to their mean takes away, beside random neurons.

    `tested`: the answered prompts, of which test keys report, and those of the costs. By positions
    (`decision`, `all`) and behaviour: `kept`, `changed` (to the other behaviour) and `other`, with
    intervals over keys; `random_*`: as many neurons in each layer, `n_random` draws, intervals over
    keys and draws; `difference`: kept less kept under random neurons.
    """
    answered, costs = tested
    mask = select_top(steering.rho, top_n)
    rng = np.random.default_rng([p.seed, len(BEHAVIORS)])
    masks = np.stack([mask, *(random_shift(mask, rng) for _ in range(p.n_random))])
    writer = Writer.of(steering)

    def run(rows: pd.DataFrame, positions, some: np.ndarray) -> np.ndarray:
        return writer.cells(
            steering.prompts(rows),
            len(some),
            lambda cells: ablating(
                steering.model, steering.site, mean, some[cells.numpy()], positions
            ),
            Reach(back=1 if positions == "decision" else None),
        )

    found: dict = {"top_n": top_n, "neurons": mask.sum(axis=1).tolist()}
    table = []
    for positions in POSITIONS:
        here: dict = {}
        for direction, behavior in zip(DIRECTIONS, BEHAVIORS):
            rows = steering_prompts(answered, "test", direction, p.n_prompts)
            here[behavior] = _lost(run(rows, positions, masks), behavior, rows, p.seed)
            table.append({"positions": positions, "behavior": behavior} | _flat(here[behavior]))
        for name, rows, code in costs.right():
            right = (run(rows, positions, masks[: 1 + N_COST_DRAWS]) == code).mean(axis=1)
            here |= {
                f"{name}_accuracy": float(right[0]),
                f"random_{name}_accuracy": float(right[1:].mean()),
                f"n_{name}": len(rows),
            }
        found[positions] = here
    return found, pd.DataFrame(table)


def _lost(codes: np.ndarray, behavior: str, rows: pd.DataFrame, seed: int) -> dict:
    """Shares of `codes` `[1 + draws, P]`: the chosen neurons first, then random ones."""
    opposite = RULE_CODE if CODE[behavior] == MEMORY_CODE else MEMORY_CODE
    keys = rows.key.to_numpy()
    found: dict = {"n": len(rows), "n_keys": len(set(keys))}
    for name, code in (("kept", CODE[behavior]), ("changed", opposite), ("other", OTHER_CODE)):
        hits = (codes == code).astype(float)
        own = by_key(weighted_mean, keys, hits[0], seed=seed)
        drawn = mean_over_draws(hits[1:], keys, seed)
        found |= {name: own["value"], f"{name}_interval": own["interval"]}
        found |= {f"random_{name}": drawn["value"], f"random_{name}_interval": drawn["interval"]}
        if name == "kept":
            apart = mean_over_draws(hits[0] - hits[1:], keys, seed)
            found |= {"difference": apart["value"], "difference_interval": apart["interval"]}
    return found


def _flat(found: dict) -> dict:
    """Intervals as two columns each."""
    flat = {}
    for name, value in found.items():
        if name.endswith("interval"):
            stem = name.removesuffix("interval")
            flat |= dict(zip((f"{stem}low", f"{stem}high"), value or (None, None)))
        else:
            flat[name] = value
    return flat
