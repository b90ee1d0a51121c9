"""Lab 13: every method that steers or edits, on the same model, keys, budget and limit of damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from memgen.config.rivals import MethodName, ScoreboardParameters
from memgen.labs.intervention import prompts_to_turn, rephrasing
from memgen.rivals.board import Board, Testing, paired, turning
from memgen.rivals.choosing import Chosen, Tuning
from memgen.rivals.material import Effort, Material
from memgen.rivals.method import Method
from memgen.rivals.roster import METHODS, PAPER
from memgen.rivals.shifts import kept_shifts
from memgen.steering.cells import grid
from memgen.steering.steering import Steering
from memgen.store.artifacts import Result
from memgen.store.reader import FinishedRun
from memgen.tasks.dataset import free_rows, keyed_rows
from memgen.terms import CODE, DIRECTIONS, GIVEN_TRACK, OTHER_CODE, SPARED, START, TARGET

__all__ = ["Board", "Steering", "chosen_methods", "fitted_on", "gathered", "judged_on"]
__all__ += ["known_from_lab_06", "tuned_on"]
CHOICES = ("max", "kept")
#: of a cell of lab 06, what the paper's row has to say of the same cell
SHARED = ("success", "other", "n", "n_keys", "n_free", "free_accuracy_after", "kl_free")
#: of a method that does not apply, or has no such direction
NO_ROW = {"candidates": 0, "rows_run": 0, "grid_rows": 0, "risk": None, "max": None, "kept": None}
SAME = 1e-6  # two readings of the same numbers may differ by rounding


def chosen_methods(names: Sequence[MethodName]) -> list[Method]:
    """In the order of the table; of no name all of them."""
    return [method for name, method in METHODS.items() if not names or name in names]


def fitted_on(
    run: FinishedRun, steering: Steering, tables: tuple[pd.DataFrame, pd.DataFrame], p
) -> Material:
    """Train keys: what every method is fitted on. `tables`: answered prompts, data set."""
    steered, differentiated = (
        run["06_intervention"].parameters,
        run["04_differentiation"].parameters,
    )
    cells = grid(steered.alphas, steered.top_ns, steering.nmd, steering.rho)
    effort = Effort(p.n_fit_prompts, p.n_fit_pairs, p.fit_steps, p.fit_batch_size, p.n_candidates)
    # every method asks the same tables of the same model
    return Material.of(steering.again, tables, cells, differentiated.pairs, p.seed, effort)


def tuned_on(tables: tuple[pd.DataFrame, pd.DataFrame], p: ScoreboardParameters) -> Tuning:
    """Validation keys: what every method's candidate is chosen on, the prompts of lab 06."""
    answered, frame = tables
    turned = prompts_to_turn(answered, "validation", p.n_tuning_prompts or p.n_prompts)
    free = free_rows(frame, "validation", p.n_free_validation)
    found = Tuning(turned, free, p.collateral_limit)
    if p.track != GIVEN_TRACK:
        return found
    # a model that was trained on nothing should lose no plain facts either, as in lab 06
    return replace(found, facts=keyed_rows(frame, p.n_free_validation, "validation"))


def known_from_lab_06(
    run: FinishedRun, material: Material, p: ScoreboardParameters
) -> dict[tuple[str, str], Chosen]:
    """By the paper's name and direction what lab 06 chose, if it raced these cells on these prompts.

    Else nothing, and the cells are raced anew.
    """
    lab, cells = run["06_intervention"], [(one.top_n, one.alpha) for one in material.cells]
    q, same = lab.parameters, ("n_free_validation", "collateral_limit")
    asked = (q.n_tuning_prompts or q.n_prompts) == (p.n_tuning_prompts or p.n_prompts)
    alike = asked and all(getattr(q, name) == getattr(p, name) for name in same)
    if not alike or len(cells) > p.n_candidates:  # of a larger grid the board tries a part
        return {}
    found = {}
    for direction in DIRECTIONS:
        numbers, races = lab.result[direction], lab.table("races")
        race = races[races.direction == direction].reset_index(drop=True)
        if list(zip(race.top_n, race.alpha)) != cells:
            return {}
        best, kept = (
            None if one is None else cells.index((one["top_n"], one["alpha"]))
            for one in (numbers["max"], numbers["kept"])
        )
        chosen, one = sorted({best, kept} - {None}), numbers["max"]
        of = {kind: n for kind in SPARED if (n := one.get(f"validation_n_{kind}"))}
        found[PAPER, direction] = Chosen(
            best,
            kept,
            {place: int(race.successes[place]) for place in chosen},
            {kind: {place: int(race[f"{kind}_right"][place]) for place in chosen} for kind in of},
            one["validation_n"],
            of,
            {kind: round(one[f"validation_{kind}_before"] * n) for kind, n in of.items()},
            numbers["race"]["run"],
            numbers["race"]["grid"],
            numbers["race"]["risk"],
        )
    return found


def judged_on(tables: tuple[pd.DataFrame, pd.DataFrame], p: ScoreboardParameters) -> Testing:
    """Test keys: what every choice is reported on, once. Some methods are fitted on keyed prompts, so
    those of test keys alone are asked.
    """
    answered, frame = tables
    n = p.n_side_effect_prompts
    keyed = keyed_rows(frame, n, "test")
    if keyed.empty:  # a table of a user may have none of test keys, or all of them elsewhere
        keyed = keyed_rows(frame, n)
    turned = prompts_to_turn(answered, "test", p.n_prompts)
    return Testing(turned, free_rows(frame, "test", n), keyed)


@dataclass(frozen=True)
class Floor:
    """Another order of the words alone, as lab 06 counts it: what it turns, and one row per answer."""

    numbers: dict
    answers: pd.DataFrame

    @classmethod
    def of(cls, answered: pd.DataFrame, direction: str, seed: int) -> Floor:
        _, rows = rephrasing(answered, direction)
        rows = rows[rows.kind == "rephrasing_order"].reset_index(drop=True)
        codes = np.where(rows.success, TARGET[direction], CODE[START[direction]])
        codes = np.where(rows.other, OTHER_CODE, codes)
        return cls(turning(codes, rows, direction, seed), rows)


def gathered(
    p: ScoreboardParameters, board: Board, answered: pd.DataFrame, run: FinishedRun
) -> Result:
    """The stage's result: every method's row in both directions, beside the floor and the paper's."""
    material, methods = board.material, chosen_methods(p.methods)
    entries = board.entries(methods)
    floors = {d: Floor.of(answered, d, p.seed) for d in DIRECTIONS}
    rows_of = [*(one.answers for one in entries), *(one.answers for one in floors.values())]
    answers = pd.concat(rows_of, ignore_index=True).fillna({"choice": ""})
    numbers: dict = {
        "site": material.steering.site,
        "positions": material.steering.positions,
        "collateral_limit": p.collateral_limit,
        "n_candidates": p.n_candidates,
        "paper": PAPER,
        "methods": {method.name: _about(method) for method in methods},
        "lacking": {m.name: reason for m in methods if (reason := m.why_not(material))},
        "n_pairs": len(material.pairs),
        "n_train_keys": int(material.pairs.key.nunique()),
    }
    for direction in DIRECTIONS:
        own = [entry for entry in entries if entry.direction == direction]
        rows = {method.name: dict(NO_ROW) for method in methods}
        rows |= {entry.method.name: entry.numbers for entry in own}
        _compare(rows, answers[answers.direction == direction], p.seed)
        numbers[direction] = {
            "floor": floors[direction].numbers,
            "rows": rows,
            **_ranked(rows),
            "as_lab_06": as_lab_06(rows.get(PAPER), run["06_intervention"].result[direction]),
        }
    seconds = {f"{one.method.name}.{one.direction}": round(one.seconds, 2) for one in entries}
    tables = {"answers": answers, "scores": scores(numbers)}
    return Result(numbers, tables, {"shifts": kept_shifts(entries)}, seconds=seconds)


def _about(method: Method) -> dict:
    return {
        "title": method.title,
        "source": method.source,
        "read_in": method.read_in,
        "kind": method.kind,
        "directions": list(method.directions),
    }


def _compare(rows: dict[str, dict], answers: pd.DataFrame, seed: int) -> None:
    """Give every choice of every method its paired difference to the paper's same choice (None: none)."""
    for choice in CHOICES:
        found = paired(answers, PAPER, choice, seed)
        for name, row in rows.items():
            if row[choice] is not None:
                row[choice]["against_paper"] = found.get(name)


def _ranked(rows: dict[str, dict]) -> dict[str, list[str]]:
    """Methods whose kept success lies above, or below, the paper's by an interval without 0."""
    found: dict[str, list[str]] = {"above_paper": [], "below_paper": []}
    for name, row in rows.items():
        against = (row["kept"] or {}).get("against_paper")
        if against is None or against["interval"] is None:
            continue
        low, high = against["interval"]
        found["above_paper"] += [name] if low > 0 else []
        found["below_paper"] += [name] if high < 0 else []
    return found


def as_lab_06(row: dict | None, steered: dict) -> dict | None:
    """Of every choice that is the same cell as lab 06's, on as many prompts: the largest difference.

    The two labs read the same model by code of their own. None: the paper's row was left out.
    """
    if row is None or not row["candidates"]:
        return None
    found: dict[str, float | None] = {}
    for choice in CHOICES:
        mine, theirs = row[choice], steered[choice]
        found[choice] = None
        if mine is None or theirs is None or mine["n"] != theirs["n"]:
            continue
        cell = mine["setting"]
        if (cell["top_n"], cell["alpha"]) == (theirs["top_n"], theirs["alpha"]):
            asked = SHARED if mine["n_free"] == theirs["n_free"] else SHARED[:4]
            found[choice] = float(max(abs(mine[name] - theirs[name]) for name in asked))
    return found


def scores(r: dict) -> pd.DataFrame:
    """A row per method, direction and choice: what figures and tables are made of.

    `number`: of the method in the table, from 1; what has no such choice has no success.
    """
    columns = ("label", "success", "other", "stay", "n", "n_keys", "gradient_steps")
    costs = [
        f"{kind}_accuracy_{when}" for kind in ("free", "keyed") for when in ("before", "after")
    ]
    columns += (*costs, "kl_free", "kl_keyed", "validation_success")
    found = []
    for direction in DIRECTIONS:
        for number, (name, about) in enumerate(r["methods"].items(), 1):
            row = r[direction]["rows"].get(name)
            for choice in CHOICES if row and row["candidates"] else ():
                one = row[choice] or {}
                low, high = one.get("key_interval") or (None, None)
                found.append(
                    {
                        "direction": direction,
                        "method": name,
                        "number": number,
                        "title": about["title"],
                        "kind": about["kind"],
                        "read_in": about["read_in"],
                        "choice": choice,
                        "candidates": row["candidates"],
                        **{column: one.get(column) for column in columns},
                        "low": low,
                        "high": high,
                    }
                )
    table = pd.DataFrame(found)
    for kind in ("free", "keyed"):
        lost = table[f"{kind}_accuracy_before"] - table[f"{kind}_accuracy_after"]
        table[f"{kind}_lost"] = lost.astype(float)
    return table


def identity_holds(r: dict) -> bool:
    """Wherever both labs chose the same cell: do they say the same of it?"""
    every = [found for d in DIRECTIONS for found in (r[d]["as_lab_06"] or {}).values()]
    return all(found is None or found <= SAME for found in every)


def answer(r: dict, direction: str) -> str:
    """One direction's answer to the lab's question, in a line."""
    rows = {name: row["kept"] for name, row in r[direction]["rows"].items() if row["kept"]}
    steering = {n: x for n, x in rows.items() if r["methods"][n]["kind"] != "null"}
    if not steering:
        return "no method keeps the limit on lost free prompts"
    best = max(steering, key=lambda name: steering[name]["success"])
    said = [f"{r['methods'][best]['title']} {_rate(rows[best])}"]
    said += [f"the paper {_rate(rows[PAPER])}"] if PAPER in rows and best != PAPER else []
    said += [f"random {_rate(rows['random_directions'])}"] if "random_directions" in rows else []
    floor = r[direction]["floor"]["success"]
    above = [r["methods"][name]["title"] for name in r[direction]["above_paper"]]
    return (
        f"within the limit {'; '.join(said)}; another order of the words alone {floor:.0%}; surely above"
        f" the paper: {', '.join(above) or 'none'}"
    )


def _rate(x: dict) -> str:
    ends = x["key_interval"]
    return f"{x['success']:.0%}" + (f" [{ends[0]:.0%}, {ends[1]:.0%}]" if ends else "")


def listed(table: pd.DataFrame, direction: str) -> pd.DataFrame:
    """The kept candidates of a direction with all that is said of them, for the page."""
    kept = table[(table.direction == direction) & (table.choice == "kept")]
    columns = {
        "title": "method",
        "read_in": "operator from",
        "success": "success",
        "other": "other",
        "stay": "stay",
        "free_lost": "free lost",
        "keyed_lost": "keyed lost",
        "kl_free": "KL free",
        "n": "n",
        "candidates": "tried",
        "gradient_steps": "gradient steps",
        "label": "chosen",
    }
    return kept[list(columns)].rename(columns=columns).reset_index(drop=True)
