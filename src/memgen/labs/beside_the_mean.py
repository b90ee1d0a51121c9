"""Lab 16, beside the mean: each prompt's own slope along the dose, and what a shift should leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from memgen.config.multiverse import MultiverseParameters
from memgen.stats.intervals import interval, number, weighted_mean
from memgen.stats.reported import ends
from memgen.steering.cells import Cell, random_shift
from memgen.steering.dose_slopes import anti_steerable, dose_slopes
from memgen.steering.isolation import Asked, kept_answers, scores
from memgen.steering.steering import Steering, steering_prompts
from memgen.store.reader import FinishedStage
from memgen.tasks.dataset import free_rows, keyed_rows
from memgen.terms import DIRECTIONS

OTHER_START = {"m2g": "g2m", "g2m": "m2g"}  # prompts that show a direction's target start the other
CHOICES = ("reported", "max", "random")


def chosen(stage: FinishedStage, direction: str) -> dict[str, Cell]:
    """Lab 06's cells: the one that it reports, and that of greatest success alone."""
    found = stage.result[direction]
    return {
        "reported": Cell(found["top_n"], found["alpha"]),
        "max": Cell(found["max"]["top_n"], found["max"]["alpha"]),
    }


def prompt_slopes(
    steering: Steering, answered: pd.DataFrame, stage: FinishedStage, p: MultiverseParameters
) -> tuple[dict[str, Any], pd.DataFrame]:
    """By direction the share of anti-steerable test prompts, beside random controls; a row per prompt."""
    rng, found, parts = np.random.default_rng([p.seed, 20]), {}, []
    for direction in DIRECTIONS:
        rows = steering_prompts(answered, "test", direction, p.n_slope_prompts)
        shift = steering.shift(chosen(stage, direction)["reported"])
        table = dose_slopes(steering, shift, rows, direction, (p.n_draws, rng))
        own, control = anti_steerable(table)
        keys, drawn = table.key.to_numpy(), {"seed": p.seed, "n_resamples": p.n_resamples}
        measured = {
            "anti": interval(weighted_mean, keys, own, **drawn),
            "control": interval(weighted_mean, keys, control, **drawn),
            "difference": interval(weighted_mean, keys, own - control, **drawn),
        }
        about = {"n": len(table), "n_keys": int(table.key.nunique())}
        about |= {"n_alike": len(rows) - len(table), "median": number(table.slope.median())}
        for name, one in measured.items():
            about |= {name: number(one.estimate), f"{name}_interval": ends(one)}
        found[direction] = about
        parts.append(table.assign(direction=direction))
    return found, pd.concat(parts, ignore_index=True)


def cause_and_isolate(
    steering: Steering,
    tables: tuple[pd.DataFrame, pd.DataFrame],
    stage: FinishedStage,
    p: MultiverseParameters,
) -> dict[str, Any]:
    """By direction and shift (`CHOICES`): cause, isolate, their mean, and every kind's share; test keys.

    Keyed prompts are of all keys, since all were trained on them; a random shift is that of the
    reported cell with its coordinates permuted.
    """
    answered, frame = tables
    rng, found = np.random.default_rng([p.seed, 21]), {}
    for direction in DIRECTIONS:
        shifts = [steering.shift(cell) for cell in chosen(stage, direction).values()]
        shifts.append(random_shift(shifts[0], rng))
        n = p.n_side_effect_prompts
        asked = Asked(
            steering_prompts(answered, "test", direction, n),
            {
                "shown": steering_prompts(answered, "test", OTHER_START[direction], n),
                "free": free_rows(frame, "test", n),
                "keyed": keyed_rows(frame, n),
            },
        )
        rows = kept_answers(steering, np.stack(shifts), asked, direction)
        found[direction] = {
            name: scores(rows[rows["shift"] == number]) for number, name in enumerate(CHOICES)
        } | {
            "n": {kind: int(len(of)) for kind, of in asked.alone.items()}
            | {"turn": len(asked.turn)}
        }
    return found
