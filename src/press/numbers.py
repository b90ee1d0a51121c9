"""The numbers of a finished run as prose asks for them, and how they are written.

A number that the run does not hold is an error, never a gap in a sentence. What counts or compares
is in `press.sentences`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import numpy as np
import pandas as pd

from memgen.claims.quantities.steering import STEERED
from memgen.stages import TITLES
from memgen.stats.intervals import pooled
from memgen.store.artifacts import RESULT
from memgen.tasks.families import families, variants
from memgen.terms import STUDY
from press.errors import BookError
from press.origin import bare, greatest, least, made, mean, plain, total, traced, writer
from press.run import SYNTHESIS, ExecutedLab, Run

SPACE, JOIN = "\u00a0", "\u2060"  # a number and its unit, a range and its dash stay on one line
MINUS = "−"  # a true one, which stays with its digits; before a zero there is none
RATES, ENDS = "steering.json", ("low", "high")  # a table of the synthesis, for who reads no parquet
COUNTS = ("n", "n_kept", "n_seeds")
#: `pooled` as an origin writes it: of a rate, its number of answers, the next rate, ...
POOLED = "sum(round(k * n) for k, n in zip({every}[::2], {every}[1::2])) / sum({every}[1::2])"
#: success within the limit on lost free prompts, of a direction of lab 06: without such a cell, none
WITHIN = "({0}['success'] if {0}['kept_exists'] else 0.0)"
NOTHING = "n/a"  # not defined in a run, such as an AUC where only one behaviour occurred


@writer
def per_cent(x: float, digits: int = 0) -> str:
    """A rate in per cent; halves go up, as on the live page: 17 of 40 is 43."""
    text = f"{math.floor(100 * x * 10**digits + 0.5 + 1e-9) / 10**digits:.{digits}f}"
    return text.replace("-", MINUS)


@writer
def percent(x: float | None, digits: int = 0) -> str:
    return NOTHING if x is None else f"{per_cent(x, digits)}{SPACE}%"


@writer
def decimal(x: float | None, digits: int = 2) -> str:
    if x is None:
        return NOTHING
    text = f"{x:,.{digits}f}".replace(",", SPACE)
    return text.replace("-", MINUS) if float(f"{x:.{digits}f}") else text.lstrip("-")


def processors(machine: Mapping) -> str:
    """The machine of a run that is recorded, in words."""
    return f"{machine['cores']} cores of {machine['processor']}"


@writer
def seconds(x: float) -> str:
    """A duration to read: `48 s`, `2 min 05 s`, `1 h 12 min`."""
    x = round(x)
    if x < 120:
        return f"{x} s"
    if x < 7200:
        return f"{x // 60} min {x % 60:02d} s"
    return f"{x // 3600} h {x % 3600 // 60:02d} min"


def agree(n: int, one: str, many: str) -> str:
    """The form of a word that goes with a number, such as `holds` or `hold`."""
    return one if n == 1 else many


def plural(n: int, one: str, many: str = "") -> str:
    """`1 task`, `5 tasks`. `many`: where it is not `one` with an s."""
    return f"{n} {agree(n, one, many or one + 's')}"


def listed(names: list[str]) -> str:
    """Names in brackets to follow their number: ` (cipher-tagged, inference)`; nothing for none."""
    return f" ({', '.join(names)})" if names else ""


def span(values: Iterable[float | None], write: Callable = percent) -> str:
    """The lowest to the highest of some numbers: `21 % to 88 %`; one of them if they read alike."""
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    low, high = write(least(known)), write(greatest(known))
    return low if bare(low) == bare(high) else f"{low} to {high}"


def cell_of(values: list[float], digits: int | None = None) -> str:
    """Mean with the range, where a line may end between: `88 % (85–90)`, with `digits`
    `0.95 (0.93–0.97)`; `n/a` of no value.
    """
    if not values:
        return NOTHING

    def write(x):
        return per_cent(x) if digits is None else decimal(x, digits)

    low, high = write(least(values)), write(greatest(values))
    between = " to " if min(values) < 0 else f"{JOIN}–{JOIN}"
    return (
        write(mean(values))
        + (f"{SPACE}%" if digits is None else "")
        + (f" ({low}{between}{high})" if bare(low) != bare(high) else "")
    )


class Numbers:
    """What a template asks a run; `key`: a path in `result.json`, e.g. `m2g.controls.low_rho`.

    A path element may be an index (`auc.0`) or, on a list, `max`, `min`, `first` or `last`,
    `length`, and `sum` on a list or dictionary of counts. A number that the run left undefined
    (null) is None; the mean is over the seeds where it is defined.
    """

    AGGREGATES = {
        "max": greatest,
        "min": least,
        "sum": total,
        "length": lambda xs: made(len(xs), "len({0})", xs),
        "first": lambda xs: xs[0],
        "last": lambda xs: xs[-1],
    }

    def __init__(self, run: Run):
        self.run, self.tasks = run, run.tasks

    @cached_property
    def rates(self) -> dict:
        """Success of steering and of all that it is held against, as `steering_rates` has it."""
        (lab,) = self._labs(STUDY, SYNTHESIS)
        found = steering_rates(lab)
        return traced(found, lab.at(RATES)) if lab.sourced else found

    def has(self, *tasks: str) -> bool:
        """Are all these tasks part of the run?"""
        return set(tasks) <= set(self.tasks)

    def result(self, stage: str, task: str = STUDY) -> dict:
        """The whole `result.json` of a lab that runs once."""
        return self._labs(task, stage)[0].result

    def results(self, task: str, stage: str) -> list[dict]:
        """`result.json` of every seed, in the order of the seeds."""
        return [lab.result for lab in self._labs(task, stage)]

    def values(self, task: str, stage: str, key: str) -> list:
        """One value per seed, in the order of the seeds."""
        return [self._follow(lab, key) for lab in self._labs(task, stage)]

    def mean(self, task: str, stage: str, key: str) -> float | None:
        values = self._defined(task, stage, key)
        return mean(values) if values else None

    def total(self, task: str, stage: str, key: str) -> int:
        return total(self.values(task, stage, key))

    def overall(self, stage: str, key: str) -> int:
        """The total over all tasks."""
        return total(x for task in self.tasks for x in self.values(task, stage, key))

    def first_seeds(self, stage: str, key: str) -> int:
        """The total over all tasks, the first seed of each."""
        return total(self.values(task, stage, key)[0] for task in self.tasks)

    def means(self, stage: str, key: str) -> list[float | None]:
        """The mean of every task that has the lab."""
        return [self.mean(task, stage, key) for task in self.run.tasks_of(stage)]

    def rate(self, task: str, stage: str, key: str) -> str:
        """Mean over seeds with the range, for a sentence: `88 % (85 to 90 % over 3 seeds)`."""
        return self._spread(task, stage, key, per_cent, f"{SPACE}%")

    def score(self, task: str, stage: str, key: str, digits: int = 2) -> str:
        """The same for a number that is no rate: `0.95 (0.93 to 0.97 over 3 seeds)`."""
        return self._spread(task, stage, key, lambda x: decimal(x, digits), "")

    def cell(self, task: str, stage: str, key: str, digits: int | None = None) -> str:
        """Mean over seeds with the range: `88 % (85–90)`, with `digits` `0.95 (0.93–0.97)`."""
        return cell_of(self._defined(task, stage, key), digits)

    def success(self, task: str, direction: str, kind: str = STEERED) -> dict:
        """Mean of the seeds' success, its interval over seeds, `n`; nothing where it was not run.

        Within the limit on lost free prompts, which `n_kept` of `n_seeds` seeds can keep.
        """
        found = self.rates.get(task, {}).get(direction, {})
        return found.get(kind) or dict.fromkeys(("success", *ENDS, *COUNTS))

    def within(self, task: str, direction: str) -> list[float]:
        """Success of every seed within the limit on lost free prompts; 0 where no cell keeps it."""
        found = self.values(task, "06_intervention", direction)
        return [made(x["success"] if x["kept_exists"] else 0.0, WITHIN, x) for x in found]

    def taught(self, task: str) -> str:
        """Which keys were trained with the rule's answer, too, and whether a controller dosed it."""
        design = self._labs(task, "01_dataset_design")[0]
        training = self._labs(task, "02_training")[0].manifest["parameters"]
        gate = design.manifest["parameters"].get("n_gate_keys", 0)
        who = {
            "keys": "every key, those of the test split too",
            "gate": f"{gate} gate keys, which nothing is measured on",
            "none": "no key",
        }[design.result["contrast_on"]]
        return f"{who}; with `balance`" if training.get("balance") else who

    def by_layer(
        self, task: str, stage: str, key: str, digits: int | None = None, seed: int | None = None
    ) -> str:
        """Mean over seeds (or one seed's) of each entry of a list, first layer first: `2 · 30 · 70 %`."""
        labs = self._labs(task, stage)
        if seed is not None:
            labs = [lab for lab in labs if lab.seed == str(seed)]
        lists = [found for lab in labs if (found := self._follow(lab, key)) is not None]
        if not lists:
            return NOTHING
        known = ([x for x in layer if x is not None] for layer in zip(*lists, strict=True))
        means = [mean(layer) if layer else None for layer in known]
        if digits is not None:
            return " · ".join(decimal(x, digits) for x in means)
        return " · ".join(NOTHING if x is None else per_cent(x) for x in means) + f"{SPACE}%"

    def by_setting(self, task: str, direction: str) -> dict[str, str] | None:
        """Success where a prompt is nearer to settings answered from memory, to neither, to the rule's.

        `n` and by name the success, each as three entries of a cell; the seeds' answers are pooled.
        None: the task has no settings.
        """
        lists = self._defined(task, "06_intervention", f"{direction}.by_setting")
        rows = [row for rows in lists for row in rows]
        if not rows:
            return None
        names = [name for name, value in rows[0].items() if isinstance(value, dict)]
        written: dict[str, list[str]] = {name: [] for name in ("n", *names)}
        for sign in (-1, 0, 1):
            same = [row for row in rows if np.sign(row["nearness"]) == sign]
            for name in names:
                rates = [(one["success"] or 0, one["n"]) for one in (row[name] for row in same)]
                rate = pooled([(plain(k), plain(n)) for k, n in rates])
                share = made(rate["success"], POOLED, *(x for pair in rates for x in pair))
                written[name].append(per_cent(share) if rate["n"] > 0 else NOTHING)
            written["n"].append(str(total(row[names[0]]["n"] for row in same)))
        return {name: " · ".join(of) for name, of in written.items()}

    def controls(self, task: str, direction: str) -> dict[str, dict]:
        """The same for every control, and for rephrasing alone. `n` counts prompts times draws."""
        found = self.rates.get(task, {}).get(direction, {})
        return {kind: rates for kind, rates in found.items() if kind != STEERED}

    def successes(self, direction: str) -> list[float]:
        """Success on every task, mean of the seeds."""
        return [self.success(task, direction)["success"] for task in self.tasks]

    def overlap(self, task: str, share: str = "overlap") -> dict[str, float | None]:
        """Mean share of top neurons in common: pairs of a `shared` base, `stranger`; or None.

        `share`: `overlap_by_layer` is what the numbers in each layer alone would give.
        """
        (found,) = self.values(task, "07_transfer", "retrain")
        pairs: dict[bool, list[float]] = {True: [], False: []}
        for i, base in enumerate(found["base"]):
            for j in range(i):
                pairs[base == found["base"][j]].append(found[share][i][j])
        shared, stranger = (mean(v) if v else None for v in pairs.values())
        return {"shared": shared, "stranger": stranger}

    def transfer(self, task: str, kind: str, direction: str) -> dict[str, dict | None]:
        """Mean success and control in a transfer matrix: `own` model, `shared` base, `stranger`.

        `kind`: `retrain` or `task`. None: no such cell. The result says who shares a base.
        """
        (found,) = self.values(task, "07_transfer", kind)
        groups: dict[str, list] = {"own": [], "shared": [], "stranger": []}
        base = found.get("base")
        for i, source in enumerate(found["sources"]):
            for j, target in enumerate(found["targets"]):
                shared = base[i] == base[j] if base else found["shares_base"][i]
                group = "own" if source == target else "shared" if shared else "stranger"
                if found[direction][i][j] is not None:
                    groups[group].append(
                        (found[direction][i][j], found["control"][direction][i][j])
                    )
        return {
            name: (
                {
                    "success": mean([s for s, _ in cells]),
                    "control": mean([c for _, c in cells]),
                    "cells": made(len(cells), "len({every})", *(s for s, _ in cells)),
                }
                if cells
                else None
            )
            for name, cells in groups.items()
        }

    def families(self) -> list[tuple[str, str, str]]:
        """`(family, tagged task, matched task)` of every family with both variants in the run."""
        return [(family, *variants(family)) for family in families(self.tasks)]

    def twin(self, task: str) -> str | None:
        """The task with the same keys whose two answers look alike, if the run has it."""
        return next((matched for _, tagged, matched in self.families() if tagged == task), None)

    def _defined(self, task: str, stage: str, key: str) -> list:
        return [value for value in self.values(task, stage, key) if value is not None]

    def _labs(self, task: str, stage: str) -> list[ExecutedLab]:
        if stage not in TITLES:
            raise BookError(f"stage {stage!r} is unknown; choose one of {', '.join(TITLES)}")
        labs = self.run.of(stage, task)
        if not labs:
            raise BookError(
                f"task {task!r} is not part of this run ({', '.join(self.tasks)}); guard it with"
                " `has()`"
            )
        return labs

    def _spread(self, task, stage, key, write, unit) -> str:
        values = self._defined(task, stage, key)
        if not values:
            return NOTHING
        middle = write(mean(values)) + unit
        if len(values) == 1:
            return f"{middle} (one seed)"
        n = made(len(values), "len({every})", *values)
        return (
            f"{middle} ({write(least(values))} to {write(greatest(values))}{unit} over {n} seeds)"
        )

    def _follow(self, lab: ExecutedLab, key: str):
        value, key = lab.result, bare(key)  # a key may be made with a number of a result
        for part in key.split("."):
            if value is None:  # a whole part that the run left undefined
                return None
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part in self.AGGREGATES and value:
                defined = [x for x in value if x is not None]
                value = self.AGGREGATES[part](defined) if defined else None
            elif isinstance(value, dict) and part == "sum":
                value = total(value.values())
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                there = ", ".join(value) if isinstance(value, dict) else type(value).__name__
                raise BookError(
                    f"{lab.folder / RESULT} has no key {key!r}: at {part!r} it holds {there}"
                )
        return value


def steering_rates(lab: ExecutedLab) -> dict:
    """The synthesis' table of steering by task, direction, kind: `success`, `low`, `high`, counts."""
    found: dict = {}
    for row in lab.kept.table("steering").itertuples():
        ends = {end: None if pd.isna(getattr(row, end)) else getattr(row, end) for end in ENDS}
        kinds = found.setdefault(row.task, {}).setdefault(row.direction, {})
        counts = {name: int(getattr(row, name)) for name in COUNTS}
        kinds[row.kind] = {"success": float(row.rate), **ends, **counts}
    return found
