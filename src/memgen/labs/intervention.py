"""Steering: choose a cell on validation keys, score it once on test keys, beside its controls,
ablations and side effects.

The paper's formula, on the `top_n` neurons by |rho|, all layers at once: h <- h + alpha * sign(rho)
* |NMD| towards generalization (`m2g`), and the same with the opposite sign towards memorization
(`g2m`). What a prompt would have answered unsteered is known from the pairs stage, so `m2g` runs on
prompts answered from memory only, `g2m` on those answered by the rule.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from memgen.config.analyses import InterventionParameters
from memgen.errors import StudyError
from memgen.neurons.pairs import flip_rates, rephrased
from memgen.stats.intervals import wilson
from memgen.steering.cells import Cell, cell_shift, grid, random_shift
from memgen.steering.controls import controls
from memgen.steering.side_effects import side_effects
from memgen.steering.steering import Steering, outcome_rows, steering_prompts, summary
from memgen.tasks.dataset import spread
from memgen.terms import BEHAVIORS, CODE, DIRECTIONS, SIGN, SITES, START


def study(
    steering: Steering,
    p: InterventionParameters,
    answered: pd.DataFrame,
    frame: pd.DataFrame,
    arrays: dict[str, np.ndarray],
):
    """Both directions from the race to the side effects: `(result, tables, seconds)` of the stage.

    `arrays`: the differentiation stage's. Cells are chosen on validation keys; everything that is
    reported comes from test keys.
    """
    began, result = (
        time.monotonic(),
        {
            "site": p.site,
            "positions": p.positions,
            "identity_holds": True,
            "race_rows": 0,
            "grid_rows": 0,
        },
    )
    tables: dict[str, list[pd.DataFrame]] = {
        "races": [],
        "controls": [],
        "doses": [],
        "ablations": [],
        "outcomes": [],
    }
    cells, floor = grid(p.alphas, p.top_ns, steering.nmd, steering.rho), flip_rates(answered)
    others = rephrased(answered)
    free = spread(frame[(frame.kind == "free") & (frame.split == "test")], p.n_side_effect_prompts)
    keyed = spread(frame[frame.kind == "keyed"], p.n_side_effect_prompts)
    for direction in DIRECTIONS:
        rng = np.random.default_rng([p.seed, DIRECTIONS.index(direction)])
        tuning, rows = (
            steering_prompts(answered, split, direction, p.n_prompts)
            for split in ("validation", "test")
        )
        if tuning.empty or rows.empty:
            raise StudyError(
                f"direction {direction}: no {START[direction]} answers on"
                f" {'validation' if tuning.empty else 'test'} keys to steer; raise"
                " n_conflict_per_key, or train with a stricter gate"
            )
        cell, race_table = steering.choose(cells, tuning, direction)
        tables["races"].append(race_table.assign(direction=direction))
        result["race_rows"] += int(race_table.evaluated.sum())
        result["grid_rows"] += len(cells) * len(tuning)

        delta = cell_shift(cell, steering.nmd, steering.rho)
        nothing, steered = steering.outcomes(SIGN[direction] * np.stack([0 * delta, delta]), rows)
        result["identity_holds"] &= bool((nothing == CODE[START[direction]]).all())
        found = summary(steered, direction)
        control, outcomes = controls(
            steering,
            cell,
            rows,
            direction,
            (arrays["memory"], arrays["rule"]),
            p.n_control_draws,
            rng,
        )
        turned = others[(others.split == "test") & (others.before == START[direction])]
        tables["outcomes"] += [
            outcome_rows("steered", steered, rows, direction),
            outcomes,
            outcome_rows("rephrasing", turned.behavior.map(CODE).to_numpy(), turned, direction),
        ]
        flip = floor[(floor.split == "test") & (floor.direction == direction)].iloc[0]
        result[direction] = {
            "alpha": cell.alpha,
            "top_n": cell.top_n,
            **found,
            "n_keys": int(rows.key.nunique()),
            "validation_success": float(
                race_table.successes[cells.index(cell)] / race_table.evaluated[cells.index(cell)]
            ),
            "controls": dict(zip(control.control, control.success)),
            "control_interval": dict(zip(control.control, control.interval)),
            "control_n": dict(zip(control.control, control.n)),
            "rephrase_floor": float(flip.rate),
            "rephrase_n": int(flip.n),
            **side_effects(steering, SIGN[direction] * delta, free, keyed, rows),
        }
        bars = [
            ("steered", found),
            *((row.control, row._asdict()) for row in control.itertuples(index=False)),
            (
                "rephrasing",
                {"success": flip.rate, "interval": wilson(flip.flipped, flip.n), "n": flip.n},
            ),
        ]
        tables["controls"].append(
            pd.DataFrame(
                [
                    {
                        "name": name,
                        "success": x["success"],
                        "low": x["interval"][0],
                        "high": x["interval"][1],
                        "n": int(x["n"]),
                        "direction": direction,
                    }
                    for name, x in bars
                ]
            )
        )
        tables["doses"].append(doses(steering, cell, p.alphas, rows, direction, rng))
        tables["ablations"].append(ablations(steering, cell, p, tuning, rows, direction, arrays))
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    return (
        result,
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        seconds,
    )


def doses(
    steering: Steering,
    cell: Cell,
    alphas: list[float],
    rows: pd.DataFrame,
    direction: str,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Shares of the three behaviours along alpha, for the chosen neurons and for as many random
    ones with the same values.
    """
    one = cell_shift(Cell(cell.top_n, 1.0), steering.nmd, steering.rho)
    steps = [0.0, *alphas]
    stack = [a * v for v in (one, random_shift(one, rng)) for a in steps]
    codes = steering.outcomes(SIGN[direction] * np.stack(stack), rows)
    shares = [np.bincount(row, minlength=3) / len(row) for row in codes]
    kinds = ["steered"] * len(steps) + ["random"] * len(steps)
    return pd.DataFrame(
        [
            {
                "direction": direction,
                "kind": kind,
                "alpha": alpha,
                **dict(zip(BEHAVIORS, share)),
                "n": len(rows),
            }
            for kind, alpha, share in zip(kinds, steps * 2, shares)
        ]
    )


def ablations(
    steering: Steering,
    cell: Cell,
    p: InterventionParameters,
    tuning: pd.DataFrame,
    rows: pd.DataFrame,
    direction: str,
    arrays: dict[str, np.ndarray],
) -> pd.DataFrame:
    """The chosen shift reduced to one layer, or without one; decision position only; and every
    other site, tuned anew on validation keys.
    """
    whole = cell_shift(cell, steering.nmd, steering.rho)
    named = {"as chosen": whole}
    for layer in range(len(whole)):
        only = np.zeros_like(whole)
        only[layer] = whole[layer]
        named[f"layer {layer + 1} only"] = only
    for layer in range(len(whole)):
        named[f"all but layer {layer + 1}"] = np.where(
            np.arange(len(whole))[:, None] == layer, 0, whole
        )
    codes = list(steering.outcomes(SIGN[direction] * np.stack(list(named.values())), rows))
    names = list(named)
    names.append("decision position only" if steering.positions == "all" else "all positions")
    codes.append(
        steering.outcomes(
            SIGN[direction] * whole[None],
            rows,
            positions="decision" if steering.positions == "all" else "all",
        )[0]
    )
    for site in SITES:
        if site != steering.site:
            other = Steering(
                steering.model,
                steering.tokenizer,
                steering.task,
                site,
                arrays[f"nmd.{site}"],
                arrays[f"rho.{site}"],
                steering.positions,
            )
            best, _ = other.choose(
                grid(p.alphas, [cell.top_n], other.nmd, other.rho), tuning, direction
            )
            names.append(f"site {site}")
            codes.append(
                other.outcomes(
                    SIGN[direction] * cell_shift(best, other.nmd, other.rho)[None], rows
                )[0]
            )
    found = [summary(row, direction) for row in codes]
    return pd.DataFrame(
        [
            {
                "ablation": name,
                "direction": direction,
                "success": x["success"],
                "low": x["interval"][0],
                "high": x["interval"][1],
                "other": x["other"],
                "n": x["n"],
            }
            for name, x in zip(names, found)
        ]
    )
