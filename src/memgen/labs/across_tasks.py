"""The vectors of lab 15 on the models of other tasks: nothing is fitted or chosen again.

A vector goes where it stood, as long as it was there, as on a retrain (`carried`). Two models have a basis in
common only if they start from the same one, as variants of a task do; in any other model the same
coordinates mean something else, and what a vector turns there is what any vector of its length turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.labs.dosed import Lengths, Used
from memgen.labs.transfer import basis_of
from memgen.neurons.nmd import NeuronMaps
from memgen.rivals.compared import random_units
from memgen.rivals.material import STATES
from memgen.steering.steering import Steering, steering_prompts
from memgen.store.reader import FinishedRun
from memgen.terms import DIRECTIONS, TARGET

LAB = "15_correlates"
#: of lab 15's arrays, those with one vector a layer that was tried; the others hold one alone
LAYERED = {"difference": "difference", "probe": "probe", "held": "held_{}"}
ALONE = {"optimised": "optimised_{}"}


@dataclass(frozen=True)
class Vectors:
    """What lab 15 of a run left: by direction and method the signed shifts `[n, L, d]`."""

    shifts: dict[str, dict[str, np.ndarray]]
    shape: tuple[int, int]

    @classmethod
    def of(cls, run: FinishedRun) -> Vectors:
        """The chosen layers and doses, and as many random directions as the lab drew, drawn as it does."""
        lab = run[LAB]
        numbers, arrays, p = lab.result, lab.arrays("vectors"), lab.parameters
        layers = [layer - 1 for layer in numbers["layers"]]
        differs = arrays["difference"]
        n_layer = len(NeuronMaps.of(run["04_differentiation"].arrays("arrays"), STATES).nmd)
        norm = np.zeros(n_layer)  # of the layers that were tried
        norm[layers] = np.linalg.norm(differs, axis=1) / numbers["size"]
        lengths, width = Lengths(tuple(numbers["doses"]), norm), differs.shape[1]
        found: dict[str, dict[str, np.ndarray]] = {}
        for number, direction in enumerate(DIRECTIONS):
            methods = numbers[direction]["methods"]
            rng = np.random.default_rng([p.seed, 16, number])  # lab 15's own
            vectors = {
                name: arrays[of.format(direction)][[layers.index(methods[name]["layer"] - 1)]]
                for name, of in LAYERED.items()
            }
            vectors |= {name: arrays[of.format(direction)] for name, of in ALONE.items()}
            vectors["random"] = random_units(p.n_random, width, rng)
            found[direction] = {
                name: Used(
                    name,
                    methods[name]["layer"] - 1,
                    numbers["doses"].index(methods[name]["dose"]),
                    some,
                ).at_dose(lengths, direction)
                for name, some in vectors.items()
            }
        return cls(found, (n_layer, width))


def across_tasks(runs: Mapping[str, FinishedRun]) -> pd.DataFrame:
    """Every task's vectors on the test keys of every task, its own included.

    `runs`: by task one run that has lab 15, of one seed. A row per `source`, `target`, `direction` and
    `method`: `success`, the `n` prompts, and whether both models started from one (`shared_base`). Models
    of other shapes are left out.
    """
    vectors = {task: Vectors.of(run) for task, run in runs.items()}
    rows = []
    for target, run in runs.items():
        steering, answered = Steering.of(run, site=STATES), run.answered()
        n_prompts = run[LAB].parameters.n_prompts
        for direction in DIRECTIONS:
            prompts = steering_prompts(answered, "test", direction, n_prompts)
            for source, of in vectors.items():
                if of.shape != vectors[target].shape or prompts.empty:
                    continue
                names, stacks = zip(*of.shifts[direction].items())
                won = steering.outcomes(np.concatenate(stacks), prompts) == TARGET[direction]
                ends = np.cumsum([len(one) for one in stacks])[:-1]
                for name, some in zip(names, np.split(won, ends)):
                    rows.append(
                        {
                            "source": source,
                            "target": target,
                            "direction": direction,
                            "method": name,
                            "success": float(some.mean()),
                            "n": len(prompts),
                            "shared_base": basis_of(runs[source]) == basis_of(run),
                        }
                    )
    return pd.DataFrame(rows)
