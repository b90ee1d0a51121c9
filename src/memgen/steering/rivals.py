"""Other ways to turn the same prompts: an instruction in front of them, and one layer's mean difference.

Neither selects neurons. An instruction shifts nothing and asks in words; the mean difference of a single
layer is a plain vector whose layer and strength are chosen on validation prompts, as the cells are.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from memgen.steering.bars import Bar
from memgen.steering.side_effects import Elsewhere
from memgen.steering.steering import outcome_rows
from memgen.steering.trial import Trial
from memgen.tasks import GivenTask, instances
from memgen.terms import INSTRUCTION, ONE_LAYER

#: by name its bar, what else is said of it, and one row per answer
Rivals = tuple[dict[str, Bar], dict, pd.DataFrame]
NO_RIVALS: Rivals = ({}, {}, pd.DataFrame())


def instructed(trial: Trial) -> Rivals:
    """The unsteered model, told in each wording of its task what to answer from; none: no wordings."""
    task = trial.steering.task
    if not isinstance(task, GivenTask):
        return NO_RIVALS
    asked = [task.instructed(row, trial.direction) for row in instances(trial.rows)]
    nothing = np.zeros((1, *trial.steering.nmd.shape))
    bars, rows = {}, []
    for number, wording in enumerate(zip(*asked, strict=True), 1):
        name = f"{INSTRUCTION}_{number}"
        prompts = pd.DataFrame([asdict(one) for one in wording])
        (codes,) = trial.steering.once.outcomes(nothing, prompts)
        bars[name] = Bar.of(name, codes, trial.direction)
        rows.append(outcome_rows(name, codes, trial.rows, trial.direction))
    return bars, {}, pd.concat(rows, ignore_index=True)


def one_layer(
    trial: Trial, tuning: pd.DataFrame, alphas: list[float], elsewhere: Elsewhere
) -> Rivals:
    """One layer's mean difference times alpha, both raced on `tuning`; the winner on the trial's rows."""
    if not alphas:
        return NO_RIVALS
    nmd = trial.steering.nmd
    layers = np.eye(len(nmd))[:, :, None] * nmd  # [L, L, d]: a layer each
    cells = [(layer, alpha) for alpha in alphas for layer in np.flatnonzero(nmd.any(axis=1))]
    shifts = np.stack([alpha * layers[layer] for layer, alpha in cells])
    found = trial.steering.race(trial.signed(shifts), tuning, trial.direction)
    layer, alpha = cells[found.best]
    (codes,), (delta,) = trial.run([shifts[found.best]]), trial.signed(shifts[[found.best]])
    best = {
        "layer": int(layer) + 1,
        "alpha": alpha,
        "validation_success": found.successes[found.best] / found.evaluated[found.best],
        "rows_run": found.rows_run,
        "grid_rows": len(cells) * len(tuning),
        "risk": found.risk,
        **elsewhere.side_effects(delta, trial.rows),
    }
    bar = Bar.of(ONE_LAYER, codes, trial.direction, shifts[found.best])
    return (
        {ONE_LAYER: bar},
        {ONE_LAYER: best},
        outcome_rows(ONE_LAYER, codes, trial.rows, trial.direction),
    )


def together(*parts: Rivals) -> Rivals:
    """All of them as one."""
    bars = {name: bar for found, _, _ in parts for name, bar in found.items()}
    facts = {name: value for _, found, _ in parts for name, value in found.items()}
    rows = [found for *_, found in parts if len(found)]
    return bars, facts, pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
