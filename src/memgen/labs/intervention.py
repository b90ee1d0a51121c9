"""Lab 06: what the cells chosen on validation keys do on test keys, beside all they are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.config.analyses import InterventionParameters
from memgen.errors import InapplicableError
from memgen.neurons.pairs import rephrased
from memgen.neurons.prompt_features import nearness
from memgen.stats.reported import rate
from memgen.steering.bars import Bar, size
from memgen.steering.cells import Cell, grid, random_shift
from memgen.steering.choice import Choice, Collateral, choose
from memgen.steering.controls import Draws, controls
from memgen.steering.optimised import Examples, Recipe, optimised
from memgen.steering.output_controls import output_controls, unembedding_direction
from memgen.steering.random_directions import best_of_random
from memgen.steering.rivals import (
    NO_RIVALS,
    Rivals,
    Yardstick,
    instructed,
    one_layer,
    together,
)
from memgen.steering.side_effects import Elsewhere
from memgen.steering.steering import Steering, outcome_rows, steering_prompts
from memgen.steering.trial import Trial
from memgen.store.artifacts import Result
from memgen.tasks import GivenTask
from memgen.tasks.dataset import free_rows, keyed_rows
from memgen.terms import (
    BEHAVIORS,
    CHANGES,
    CODE,
    DIRECTIONS,
    MEMORY_CODE,
    REPHRASINGS,
    RULE_CODE,
    SIGN,
    SPARED,
    START,
)

__all__ = ["Draws", "Report", "Steering", "Yardstick", "best_of_random", "choose", "controls"]
__all__ += [
    "doses",
    "elsewhere",
    "examples",
    "gathered",
    "grid",
    "instructed",
    "limits",
    "measured",
]
__all__ += ["one_layer", "optimised", "output_controls", "prompts_to_turn", "raced", "rephrasing"]
__all__ += ["together", "unembedding_direction"]


def prompts_to_turn(answered: pd.DataFrame, split: str, limit: int) -> dict[str, pd.DataFrame]:
    """By direction the prompts of a split that it starts from. Errors: `InapplicableError` without any."""
    found = {d: steering_prompts(answered, split, d, limit) for d in DIRECTIONS}
    for direction, rows in found.items():
        if rows.empty:
            raise InapplicableError(
                f"direction {direction}: no {START[direction]} answers on {split} keys to steer; raise"
                " n_conflict_per_key, or train with a stricter gate"
            )
    return found


def limits(steering: Steering, frame: pd.DataFrame, p: InterventionParameters) -> list[Collateral]:
    """The validation prompts of which a kept cell may lose hardly any: free ones.

    Of a task without training plain facts, too, counted apart; a table of a user may have none.
    """
    n, share = p.n_free_validation, p.collateral_limit
    found = [Collateral(steering, free_rows(frame, "validation", n), share)]
    if isinstance(steering.task, GivenTask):
        facts = Collateral(steering, keyed_rows(frame, n, "validation"), share, "keyed")
        found += [facts] if facts.n else []
    return found


def elsewhere(steering: Steering, frame: pd.DataFrame, n: int) -> Elsewhere:
    """Prompts on which steering should change nothing, at most `n` of a kind: what a shift costs.

    Free prompts of test keys, and keyed ones: of all keys, since all were trained on them. In a task
    without training they are of test keys, if these have any: those of validation keys have chosen.
    """
    keyed = keyed_rows(frame, n, "test" if isinstance(steering.task, GivenTask) else None)
    keyed = keyed if len(keyed) else keyed_rows(frame, n)
    return Elsewhere(steering, free_rows(frame, "test", n), keyed)


def examples(
    answered: pd.DataFrame, frame: pd.DataFrame, direction: str, p: InterventionParameters
) -> tuple[Examples, Recipe]:
    """Prompts of train keys that a vector is fitted on, and how: with some that should stay as they are."""
    n = p.optimised_prompts
    stay = [
        (free_rows(frame, "train", n), RULE_CODE),
        (keyed_rows(frame, n, "train"), MEMORY_CODE),
    ]
    turn = steering_prompts(answered, "train", direction, n)
    return Examples(turn, stay), Recipe(p.optimised_steps, seed=p.seed)


def rephrasing(answered: pd.DataFrame, direction: str) -> tuple[dict[str, Bar], pd.DataFrame]:
    """The two floors: what changing the order, or the content, of a test prompt does by itself.

    By kind a bar, and one row per answer.
    """
    others, bars, rows = rephrased(answered), {}, []
    for kind, change in zip(REPHRASINGS, CHANGES):
        chosen = (others.split == "test") & (others.change == change)
        turned = others[chosen & (others.before == START[direction])]
        codes = turned.behavior.map(CODE).to_numpy(dtype=int)
        bars[kind] = Bar.of(kind, codes, direction)
        rows.append(outcome_rows(kind, codes, turned, direction))
    return bars, pd.concat(rows, ignore_index=True)


def doses(trial: Trial, alphas: list[float], rng: np.random.Generator) -> pd.DataFrame:
    """Shares of the three behaviours along alpha: the chosen neurons, and random ones.

    The random shift is the chosen one under one permutation of the coordinates for all layers.
    """
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


def by_setting(trial: Trial, successes: dict[str, np.ndarray]) -> list[dict] | None:
    """Success among prompts of equal nearness to the settings of training, lowest nearness first.

    `successes`: by name `[prompts]`, bool; each gets its rate, interval and n. None: the task has no
    settings that could be near (`Task.nearness`).
    """
    near = nearness(trial.steering.task, trial.rows)
    if near is None:
        return None
    return [
        {"nearness": float(value)}
        | {name: rate(of[near == value], "success") for name, of in successes.items()}
        for value in np.unique(near)
    ]


@dataclass(frozen=True)
class Measured:
    """One cell on test keys: what it turns, and what it costs."""

    trial: Trial
    codes: np.ndarray  # [2, prompts]: nothing added, steered
    cost: dict

    def bar(self, name: str) -> Bar:
        return Bar.of(name, self.codes[1], self.trial.direction, self.trial.shift)

    def numbers(self, choice: Choice) -> dict:
        """All that is reported of a cell, with what the validation keys said of it."""
        trial = self.trial
        return {
            "alpha": trial.cell.alpha,
            "top_n": trial.cell.top_n,
            **size(trial.shift),
            **trial.summary(self.codes[1]),
            "n_keys": int(trial.rows.key.nunique()),
            **choice.validation(trial.cell),
            **self.cost,
        }


def measured(
    steering: Steering, choice: Choice, direction: str, tested: pd.DataFrame, elsewhere: Elsewhere
) -> dict[str, Measured]:
    """Both chosen cells, `max` and (if there is one) `kept`, on test prompts; a cell is run once."""
    found: dict[Cell, Measured] = {}
    named = {"max": choice.max} | ({} if choice.kept is None else {"kept": choice.kept})
    for cell in dict.fromkeys(named.values()):
        trial = Trial(steering, direction, cell, tested)
        # zero must change nothing, so what is shown without a shift is kept beside what is shown under it
        cost, codes = elsewhere.side_effects(SIGN[direction] * trial.shift, tested)
        found[cell] = Measured(trial, codes, cost)
    return {name: found[cell] for name, cell in named.items()}


@dataclass(frozen=True)
class Report:
    """One direction on test keys, from the race that chose its cells to their cost.

    `cells`: both chosen cells; all else is of the one that `choice` names. `outputs`, `controls`,
    `best`, `floors`, `rivals`: bars (with facts), and one row per answer.
    """

    choice: Choice
    cells: dict[str, Measured]
    outputs: tuple[dict[str, Bar], dict, pd.DataFrame]
    controls: tuple[list[Bar], pd.DataFrame]
    best: tuple[Bar, dict, pd.DataFrame]
    floors: tuple[dict[str, Bar], pd.DataFrame]
    doses: pd.DataFrame
    rivals: Rivals = NO_RIVALS

    @property
    def trial(self) -> Trial:
        return self.cells[self.choice.name].trial

    @property
    def successes(self) -> dict[str, np.ndarray]:
        """By name `[prompts]`, bool: of the steered model, and of every control of the output."""
        steered = self.trial.succeeds(self.cells[self.choice.name].codes[1])
        outputs = self.outputs[2].groupby("kind", sort=False).success
        return {"steered": steered} | {kind: of.to_numpy() for kind, of in outputs}

    @property
    def identity_holds(self) -> bool:
        """Does a shift of zero leave every answer as it was?"""
        return all(one.trial.unchanged(one.codes[0]) for one in self.cells.values())

    @property
    def shifts(self) -> list[Bar]:
        """The controls that are shifts of the same size."""
        return [*self.controls[0], self.best[0]]

    def numbers(self) -> dict:
        """This direction's part of `result.json`; what no sub-dictionary holds is of `cell`."""
        cells = {name: one.numbers(self.choice) for name, one in self.cells.items()}
        (outputs, by_construction, _), (floors, _) = self.outputs, self.floors
        rivals, of_rivals, _ = self.rivals
        everything = [*self.shifts, *outputs.values(), *floors.values(), *rivals.values()]
        beside = {name: bar.numbers() | of_rivals.get(name, {}) for name, bar in rivals.items()}
        return {
            "cell": self.choice.name,
            "kept_exists": self.choice.kept is not None,
            "race": self.choice.rows | {"risk": self.choice.risk},
            **cells[self.choice.name],
            "max": cells["max"],
            "kept": cells.get("kept"),
            "output_controls": {name: bar.numbers() for name, bar in outputs.items()},
            **by_construction,
            "by_setting": by_setting(self.trial, self.successes),
            **({"rivals": beside} if beside else {}),
            "controls": {bar.name: bar.success for bar in self.shifts},
            "control_interval": {bar.name: bar.interval for bar in self.shifts},
            "control_n": {bar.name: bar.n for bar in self.shifts},
            "control_draws": {bar.name: bar.draws for bar in self.shifts},
            "control_range": {bar.name: bar.draw_range for bar in self.shifts},
            "control_norm": {bar.name: bar.norm for bar in self.shifts},
            "control_cumulative_norm": {bar.name: bar.cumulative_norm for bar in self.shifts},
            "control_missing": {bar.name: bar.missing for bar in self.shifts},
            "control_other": {bar.name: bar.other for bar in everything},
            "best_of_random": self.best[1],
            **{
                f"rephrase_{change}": {
                    "rate": floors[kind].success,
                    "interval": floors[kind].interval,
                    "other": floors[kind].other,
                    "n": floors[kind].n,
                }
                for kind, change in zip(REPHRASINGS, CHANGES)
            },
            # changing the order asks the same question: the floor of what steering is held against
            "rephrase_floor": floors["rephrasing_order"].success,
            "rephrase_n": floors["rephrasing_order"].n,
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """The same as tables; `controls` says of each row which `family` of controls it is of."""
        direction, steered = self.trial.direction, self.cells[self.choice.name]
        families = {
            "steered": [steered.bar("steered"), self.cells["max"].bar("steered_max")],
            "rival": list(self.rivals[0].values()),
            "output": list(self.outputs[0].values()),
            "shift": self.shifts,
            "floor": list(self.floors[0].values()),
        }
        rows = [
            bar.row(family=family, direction=direction)
            for family, bars in families.items()
            for bar in bars
        ]
        answers = [
            outcome_rows(name, self.cells[cell].codes[1], self.trial.rows, direction)
            for name, cell in (("steered", self.choice.name), ("steered_max", "max"))
        ]
        answers += [self.outputs[2], self.controls[1], self.best[2], self.floors[1]]
        answers += [self.rivals[2]] if len(self.rivals[2]) else []
        return {
            "races": self.choice.race.assign(direction=direction),
            "controls": pd.DataFrame(rows),
            "doses": self.doses,
            "outcomes": pd.concat(answers, ignore_index=True),
        }


def gathered(p: InterventionParameters, reports: dict[str, Report]) -> Result:
    """The stage's result: both directions' numbers, and their tables below each other."""
    choices = [report.choice for report in reports.values()]
    numbers = {
        "site": p.site,
        "positions": p.positions,
        "collateral_limit": p.collateral_limit,
        "identity_holds": all(report.identity_holds for report in reports.values()),
        "race_rows": sum(choice.rows["run"] for choice in choices),
        "grid_rows": sum(choice.rows["grid"] for choice in choices),
        **{
            f"{kind}_{of}": sum(choice.rows[f"{kind}_{run}"] for choice in choices)
            for kind in choices[0].raced.n_spared
            for of, run in (("rows", "run"), ("grid_rows", "grid"))
        },
        **{direction: report.numbers() for direction, report in reports.items()},
    }
    parts = [report.tables() for report in reports.values()]
    tables = {
        name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]
    }
    return Result(numbers, tables)


def raced(r: dict, direction: str) -> str:
    """How far a direction's race was run, and what it may have lost, in a line."""
    race, random = r[direction]["race"], r[direction]["best_of_random"]
    spared = [
        f"{race[f'{kind}_run']:,} of {race[f'{kind}_grid']:,} on {words}"
        for kind, words in SPARED.items()
        if f"{kind}_run" in race
    ]
    return (
        f"{race['run']:,} of the grid's {race['grid']:,} rows, and {' and '.join(spared)}; that a better"
        f" cell was lost: success alone {said(race['risk']['max'])}, within the limit"
        f" {said(race['risk']['kept'])}; random directions: {random['rows_run']:,} of"
        f" {random['grid_rows']:,} rows, {said(random['risk'])}"
    )


def said(risk: float) -> str:
    """A race's bound in words."""
    return f"chance of at most {max(risk, 0.001):.1%}" if risk else "certainly not"


def side_by_side(r: dict) -> pd.DataFrame:
    """Both chosen cells of both directions: a column each, missing where no cell was kept."""
    names = ["alpha", "top_n", "norm", "cumulative_norm", "success", "other", "n"]
    names += [
        f"{kind}_accuracy_{when}" for kind in ("free", "keyed") for when in ("before", "after")
    ]
    names += ["kl_free", "kl_keyed"]
    names += [  # what they were chosen by
        name
        for kind in SPARED
        for name in [f"validation_{kind}_{when}" for when in ("before", "after")]
        if kind != "free" and name in r[DIRECTIONS[0]]["max"]
    ]
    columns = {
        f"{d}, {cell}": {name: r[d][cell][name] for name in names}
        for d in DIRECTIONS
        for cell in ("max", "kept")
        if r[d][cell] is not None
    }
    return pd.DataFrame(columns)


def answer(r: dict, direction: str) -> str:
    """One direction's answer to the lab's question, in a line."""
    x = r[direction]
    strongest = max(x["controls"], key=x["controls"].get)
    low, high = x["interval"]
    forbidden = x["output_controls"]["forbid_source"]["success"]
    costs = [
        f"{words} {x[f'{kind}_accuracy_before']:.0%} right before, {x[f'{kind}_accuracy_after']:.0%} after"
        for kind, words in SPARED.items()
        if f"{kind}_run" in x["race"]
    ]
    return (
        f"{x['success']:.0%} [{low:.0%}, {high:.0%}] of {x['n']} test prompts at top {x['top_n']:.0%}, alpha"
        f" {x['alpha']:g} (cell: {x['cell']}; {', '.join(costs)}); one token forbidden, no shift:"
        f" {forbidden:.0%}; strongest shift of the same size: {strongest.replace('_', ' ')}"
        f" {x['controls'][strongest]:.0%} (other {x['control_other'][strongest]:.0%}); another order of"
        f" the words alone: {x['rephrase_floor']:.0%}"
    )
