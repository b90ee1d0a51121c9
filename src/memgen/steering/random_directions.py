"""Random directions of the size of a shift, and the best of many of them.

The method looks through a grid of cells on validation prompts. Chance is given the same: as many
random directions, raced on the same prompts, the winner scored once on test prompts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.steering.bars import Bar
from memgen.steering.steering import outcome_rows
from memgen.steering.trial import Trial
from memgen.terms import BEST_OF_RANDOM


def random_direction(reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The reference `[L, d]` turned at random as a whole, the same turn in all layers.

    What points one way in all layers becomes one Gaussian direction. The norm of each layer, the
    angles between layers and with them the cumulative norm stay; all coordinates move.
    """
    axes, within = np.linalg.qr(np.asarray(reference, dtype=np.float64).T)  # [d, k], [k, L]
    drawn, signs = np.linalg.qr(rng.normal(size=axes.shape))
    # without the signs the turn would not be uniform: a QR fixes them by convention
    return ((drawn * np.sign(np.diag(signs))) @ within).T


def best_of_random(
    trial: Trial, tuning: pd.DataFrame, n_directions: int, rng: np.random.Generator
) -> tuple[Bar, dict, pd.DataFrame]:
    """Random directions of the trial's shift raced on `tuning`; the winner, once, on its rows.

    Its bar, how it was chosen, and one row per answer.
    """
    drawn = np.stack([random_direction(trial.shift, rng) for _ in range(n_directions)])
    found = trial.steering.race(trial.signed(drawn), tuning, trial.direction)
    (codes,) = trial.run([drawn[found.best]])
    facts = {
        "n_directions": n_directions,
        "validation_success": found.successes[found.best] / found.evaluated[found.best],
        "rows_run": found.rows_run,
        "grid_rows": n_directions * len(tuning),
        "risk": found.risk,
    }
    rows = outcome_rows(BEST_OF_RANDOM, codes, trial.rows, trial.direction)
    return Bar.of(BEST_OF_RANDOM, codes, trial.direction, drawn[found.best]), facts, rows
