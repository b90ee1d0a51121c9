"""Lab 06: what the cell chosen on validation keys does on test keys, beside all that it is held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.config.analyses import InterventionParameters
from memgen.errors import StudyError
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import flip_rates, rephrased
from memgen.stats.intervals import wilson
from memgen.steering.cells import Cell, grid, random_shift
from memgen.steering.controls import controls
from memgen.steering.side_effects import side_effects
from memgen.steering.steering import Steering, outcome_rows, steering_prompts
from memgen.steering.trial import Trial
from memgen.store.artifacts import Result
from memgen.tasks.dataset import spread
from memgen.terms import BEHAVIORS, CODE, DIRECTIONS, START

__all__ = [
    "Report",
    "Steering",
    "Trial",
    "ablations",
    "controls",
    "doses",
    "gathered",
    "grid",
    "rephrasing",
]
__all__ += ["prompts_to_turn", "side_effects", "without_conflict"]


def prompts_to_turn(answered: pd.DataFrame, split: str, limit: int) -> dict[str, pd.DataFrame]:
    """By direction the prompts of a split that it starts from. Errors: `StudyError` without any."""
    found = {d: steering_prompts(answered, split, d, limit) for d in DIRECTIONS}
    for direction, rows in found.items():
        if rows.empty:
            raise StudyError(
                f"direction {direction}: no {START[direction]} answers on {split} keys to steer; raise"
                " n_conflict_per_key, or train with a stricter gate"
            )
    return found


def without_conflict(frame: pd.DataFrame, limit: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Free prompts of the test split, and keyed prompts: where steering should change nothing."""
    free = frame[(frame.kind == "free") & (frame.split == "test")]
    return spread(free, limit), spread(frame[frame.kind == "keyed"], limit)


def rephrasing(answered: pd.DataFrame, direction: str) -> tuple[dict, pd.DataFrame]:
    """The floor: what changing the words alone does on test keys. Its rate, and one row per answer."""
    floor, others = flip_rates(answered), rephrased(answered)
    flip = floor[(floor.split == "test") & (floor.direction == direction)].iloc[0]
    turned = others[(others.split == "test") & (others.before == START[direction])]
    codes = turned.behavior.map(CODE).to_numpy()
    found = {"success": flip.rate, "interval": wilson(flip.flipped, flip.n), "n": flip.n}
    return found, outcome_rows("rephrasing", codes, turned, direction)


def doses(trial: Trial, alphas: list[float], rng: np.random.Generator) -> pd.DataFrame:
    """Shares of the three behaviours along alpha, by the chosen neurons and as many random ones."""
    one, steps = trial.steering.shift(Cell(trial.cell.top_n, 1.0)), [0.0, *alphas]
    both = {"steered": one, "random": random_shift(one, rng)}
    codes = trial.run([alpha * shift for shift in both.values() for alpha in steps])
    named = [(kind, alpha) for kind in both for alpha in steps]
    rows = [
        {
            "direction": trial.direction,
            "kind": kind,
            "alpha": alpha,
            **dict(zip(BEHAVIORS, np.bincount(row, minlength=3) / len(row))),
            "n": len(row),
        }
        for (kind, alpha), row in zip(named, codes)
    ]
    return pd.DataFrame(rows)


def ablations(
    trial: Trial, sites: list[NeuronMaps], alphas: list[float], tuning: pd.DataFrame
) -> pd.DataFrame:
    """The shift of one layer, or all but it; other positions; `sites`, tuned on validation keys."""
    steering, whole = trial.steering, trial.shift
    layer, numbers = np.arange(1, len(whole) + 1)[:, None], range(1, len(whole) + 1)
    shifts = {"as chosen": whole}
    shifts |= {f"layer {k} only": np.where(layer == k, whole, 0) for k in numbers}
    shifts |= {f"all but layer {k}": np.where(layer == k, 0, whole) for k in numbers}
    codes = dict(zip(shifts, trial.run(list(shifts.values()))))
    other, name = (
        ("decision", "decision position only")
        if steering.positions == "all"
        else ("all", "all positions")
    )
    codes[name] = trial.run([whole], positions=other)[0]
    for maps in sites:
        there = steering.at(maps)
        cells = grid(alphas, [trial.cell.top_n], maps.nmd, maps.rho)
        best, _ = there.choose(cells, tuning, trial.direction)
        codes[f"site {maps.site}"] = trial.run([there.shift(best)], steering=there)[0]
    found = {name: trial.summary(row) for name, row in codes.items()}
    rows = [
        {"ablation": name, "direction": trial.direction} | _flat(x) for name, x in found.items()
    ]
    return pd.DataFrame(rows)[["ablation", "direction", "success", "low", "high", "other", "n"]]


@dataclass(frozen=True)
class Report:
    """One direction on test keys, from the race that chose its cell on validation keys to its cost."""

    trial: Trial
    race: pd.DataFrame  # every cell on validation keys
    codes: np.ndarray  # [2, prompts]: nothing added, steered
    controls: tuple[pd.DataFrame, pd.DataFrame]
    floor: tuple[dict, pd.DataFrame]
    doses: pd.DataFrame
    cost: dict
    ablations: pd.DataFrame

    @property
    def steered(self) -> dict:
        return self.trial.summary(self.codes[1])

    @property
    def identity_holds(self) -> bool:
        """Does a shift of zero leave every answer as it was?"""
        return self.trial.unchanged(self.codes[0])

    def numbers(self) -> dict:
        """This direction's part of `result.json`."""
        cell, control, (floor, _) = self.trial.cell, self.controls[0], self.floor
        chosen = self.race[(self.race.top_n == cell.top_n) & (self.race.alpha == cell.alpha)].iloc[
            0
        ]
        return {
            "alpha": cell.alpha,
            "top_n": cell.top_n,
            **self.steered,
            "n_keys": int(self.trial.rows.key.nunique()),
            "validation_success": float(chosen.successes / chosen.evaluated),
            "controls": dict(zip(control.control, control.success)),
            "control_interval": dict(zip(control.control, control.interval)),
            "control_n": dict(zip(control.control, control.n)),
            "rephrase_floor": float(floor["success"]),
            "rephrase_n": int(floor["n"]),
            **self.cost,
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        direction, control = self.trial.direction, self.controls[0].set_index("control")
        bars = {"steered": self.steered} | control.to_dict("index") | {"rephrasing": self.floor[0]}
        rows = [{"name": name, "direction": direction} | _flat(x) for name, x in bars.items()]
        columns = ["name", "success", "low", "high", "n", "direction"]
        steered = outcome_rows("steered", self.codes[1], self.trial.rows, direction)
        return {
            "races": self.race.assign(direction=direction),
            "controls": pd.DataFrame(rows)[columns],
            "doses": self.doses,
            "ablations": self.ablations,
            "outcomes": pd.concat([steered, self.controls[1], self.floor[1]]),
        }


def _flat(found: dict) -> dict:
    """A summary as columns of a table."""
    low, high = found["interval"]
    return {**found, "low": low, "high": high, "n": int(found["n"])}


def gathered(p: InterventionParameters, reports: dict[str, Report]) -> Result:
    """The stage's result: both directions' numbers, and their tables below each other."""
    races = [report.race for report in reports.values()]
    numbers = {
        "site": p.site,
        "positions": p.positions,
        "identity_holds": all(report.identity_holds for report in reports.values()),
        "race_rows": sum(int(race.evaluated.sum()) for race in races),
        # the winner of a race was run on all prompts
        "grid_rows": sum(len(race) * int(race.evaluated.max()) for race in races),
        **{direction: report.numbers() for direction, report in reports.items()},
    }
    parts = [report.tables() for report in reports.values()]
    tables = {
        name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]
    }
    return Result(numbers, tables)


def answer(r: dict, direction: str) -> str:
    """One direction's answer to the lab's question, in a line."""
    x = r[direction]
    strongest = max(x["controls"], key=x["controls"].get)
    low, high = x["interval"]
    return (
        f"{x['success']:.0%} [{low:.0%}, {high:.0%}] of {x['n']} test prompts at top {x['top_n']:.0%}, alpha"
        f" {x['alpha']:g}; strongest control: {strongest.replace('_', ' ')}"
        f" {x['controls'][strongest]:.0%}; rephrasing alone {x['rephrase_floor']:.0%}"
    )
