"""Other ways to turn the same prompts: an instruction in front of them, and one layer's mean difference.

Neither selects neurons. An instruction shifts nothing and asks in words; the mean difference of a single
layer is a plain vector whose layer and strength are chosen on validation prompts, as the cells are: once
by success alone, and once among those that stay within the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.models.shown import shown
from memgen.steering.bars import Bar
from memgen.steering.choice import Collateral, race_twice
from memgen.steering.side_effects import Elsewhere
from memgen.steering.steering import outcome_rows
from memgen.steering.trial import Trial
from memgen.tasks import GivenTask, instances
from memgen.terms import INSTRUCTION, ONE_LAYER, ONE_LAYER_KEPT

#: by name its bar, what else is said of it, and one row per answer
Rivals = tuple[dict[str, Bar], dict, pd.DataFrame]
NO_RIVALS: Rivals = ({}, {}, pd.DataFrame())


def instructed(trial: Trial) -> Rivals:
    """The unsteered model, told in each wording of its task what to answer from; none: no wordings."""
    task = trial.steering.task
    if not isinstance(task, GivenTask):
        return NO_RIVALS
    asked = [task.instructed(row, trial.direction) for row in instances(trial.rows)]
    model, tokenizer = trial.steering.model, trial.steering.tokenizer
    bars, rows = {}, []
    for number, wording in enumerate(zip(*asked, strict=True), 1):
        name = f"{INSTRUCTION}_{number}"
        # all of them begin alike, and nothing is shifted: a pass that shares beginnings is less work
        codes = shown(model, tokenizer, task, [*wording])[1]
        bars[name] = Bar.of(name, codes, trial.direction)
        rows.append(outcome_rows(name, codes, trial.rows, trial.direction))
    return bars, {}, pd.concat(rows, ignore_index=True)


@dataclass(frozen=True)
class Yardstick:
    """What every tuned rival is measured by.

    `tuning`: validation prompts to be turned; `limits`: what it may cost on others; `elsewhere`: where its
    cost is reported.
    """

    tuning: pd.DataFrame
    limits: Sequence[Collateral]
    elsewhere: Elsewhere


def best_of(
    trial: Trial, names: tuple[str, str], shifts: np.ndarray, about: list[dict], by: Yardstick
) -> Rivals:
    """Shifts `[C, L, d]` towards the rule, raced on validation prompts; the winners on the trial's rows.

    `names`: of the most successful one, and of the most successful one within the limits, which has an
    empty bar where there is none. `about`: what is said of each shift. Of equals the first one wins.
    """
    raced = race_twice(trial.steering, trial.signed(shifts), by.tuning, trial.direction, by.limits)
    bars, facts, rows = {}, {}, []
    tried: dict[int, tuple[np.ndarray, dict]] = {}
    for name, choice, place in zip(names, ("max", "kept"), (raced.max, raced.kept)):
        bars[name] = Bar(name)
        if place is None:
            continue
        if place not in tried:
            (delta,) = trial.signed(shifts[[place]])
            cost, (_, codes) = by.elsewhere.side_effects(delta, trial.rows)
            tried[place] = codes, cost
        codes, cost = tried[place]
        bars[name] = Bar.of(name, codes, trial.direction, shifts[place])
        facts[name] = {
            **about[place],
            **raced.validation(place),
            "rows_run": raced.rows["run"],
            "grid_rows": raced.rows["grid"],
            "risk": raced.risk[choice],
            **cost,
        }
        rows.append(outcome_rows(name, codes, trial.rows, trial.direction))
    return bars, facts, pd.concat(rows, ignore_index=True)


def one_layer(trial: Trial, alphas: list[float], by: Yardstick) -> Rivals:
    """One layer's mean difference times alpha, both raced on validation prompts: see `best_of`."""
    if not alphas:
        return NO_RIVALS
    nmd = trial.steering.nmd
    layers = np.eye(len(nmd))[:, :, None] * nmd  # [L, L, d]: a layer each
    cells = [(layer, alpha) for alpha in alphas for layer in np.flatnonzero(nmd.any(axis=1))]
    shifts = np.stack([alpha * layers[layer] for layer, alpha in cells])
    about = [{"layer": int(layer) + 1, "alpha": alpha} for layer, alpha in cells]
    return best_of(trial, (ONE_LAYER, ONE_LAYER_KEPT), shifts, about, by)


def together(*parts: Rivals) -> Rivals:
    """All of them as one."""
    bars = {name: bar for found, _, _ in parts for name, bar in found.items()}
    facts = {name: value for _, found, _ in parts for name, value in found.items()}
    rows = [found for *_, found in parts if len(found)]
    return bars, facts, pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
