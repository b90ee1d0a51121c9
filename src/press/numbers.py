"""What the pages of the book are made from: a finished run, its numbers in prose, and the lab
pages.

Nothing here knows Sphinx. A prose page is a Jinja2 template; :class:`Numbers` is all it can ask
for. A number that the run does not hold is an error, never a gap in a sentence.
"""

from __future__ import annotations

from memgen.claims.quantities import families
from memgen.stats.intervals import pooled
from memgen.terms import STUDY
from press.errors import BookError
from press.run import PER_TASK, TITLES, Lab, Run

SPACE, JOIN = "\u00a0", "\u2060"  # a number and its unit, a range and its dash stay on one line
NOTHING = (  # a number that is not defined in a run, such as an AUC where only one behaviour occurred
    "n/a"
)


def percent(x: float | None, digits: int = 0) -> str:
    return NOTHING if x is None else f"{100 * x:.{digits}f}{SPACE}%"


def decimal(x: float | None, digits: int = 2) -> str:
    if x is None:
        return NOTHING
    text = f"{x:,.{digits}f}".replace(",", SPACE)
    return (
        text.replace("-", "−") if float(f"{x:.{digits}f}") else text.lstrip("-")
    )  # a true minus, and none before zero


def seconds(x: float) -> str:
    """A duration to read: `48 s`, `2 min 05 s`, `1 h 12 min`."""
    x = round(x)
    if x < 120:
        return f"{x} s"
    return (
        f"{x // 60} min {x % 60:02d} s" if x < 7200 else f"{x // 3600} h {x % 3600 // 60:02d} min"
    )


class Numbers:
    """What a template can ask a run. A `key` is a dotted path into `result.json`, e.g.
    `m2g.controls.low_rho`.

    A path element may be an index (`auc.0`) or, on a list, `max`, `min`, `first` or `last`
    (`auc.max`). A number that the run left undefined (null) is None; the mean is over the seeds
    where it is defined.
    """

    AGGREGATES = {"max": max, "min": min, "first": lambda xs: xs[0], "last": lambda xs: xs[-1]}

    def __init__(self, run: Run):
        self.run, self.tasks = run, run.tasks

    def has(self, *tasks: str) -> bool:
        """Are all these tasks part of the run?"""
        return set(tasks) <= set(self.tasks)

    def result(self, stage: str, task: str = STUDY) -> dict:
        """The whole `result.json` of a lab that runs once."""
        return self._labs(task, stage)[0].result

    def values(self, task: str, stage: str, key: str) -> list:
        """One value a seed, in the order of the seeds."""
        return [self._follow(lab, key) for lab in self._labs(task, stage)]

    def mean(self, task: str, stage: str, key: str) -> float | None:
        values = self._defined(task, stage, key)
        return sum(values) / len(values) if values else None

    def total(self, task: str, stage: str, key: str) -> int:
        return sum(self.values(task, stage, key))

    def rate(self, task: str, stage: str, key: str) -> str:
        """Mean over seeds with the range, for a sentence: `88 % (85 to 90 % over 3 seeds)`."""
        return self._spread(task, stage, key, lambda x: f"{100 * x:.0f}", f"{SPACE}%")

    def score(self, task: str, stage: str, key: str, digits: int = 2) -> str:
        """The same for a number that is no rate: `0.95 (0.93 to 0.97 over 3 seeds)`."""
        return self._spread(task, stage, key, lambda x: decimal(x, digits), "")

    def cell(self, task: str, stage: str, key: str, digits: int | None = None) -> str:
        """Mean over seeds with the range, for a table: `88 % (85–90)`, or `0.95 (0.93–0.97)` where
        `digits` is given.
        """
        values = self._defined(task, stage, key)
        if not values:
            return NOTHING

        def write(x):
            return f"{100 * x:.0f}" if digits is None else decimal(x, digits)

        low, high, mean = write(min(values)), write(max(values)), write(sum(values) / len(values))
        between = " to " if min(values) < 0 else f"{JOIN}–{JOIN}"
        return (
            mean
            + (f"{SPACE}%" if digits is None else "")
            + (f"{SPACE}({low}{between}{high})" if low != high else "")
        )

    def pooled(self, task: str, direction: str) -> dict:
        """Steering success over the prompts of all seeds: `success`, `low`, `high` (Wilson), `n`,
        `seeds`.
        """
        rates = self.values(task, "06_intervention", f"{direction}.success")
        return pooled(list(zip(rates, self.values(task, "06_intervention", f"{direction}.n"))))

    def controls(self, task: str, direction: str) -> dict[str, dict]:
        """The same for every control, and for rephrasing alone, in the order of the result. `n`
        counts prompts times draws.
        """
        found = self.values(task, "06_intervention", direction)
        pools = {}
        for name in self.values(task, "06_intervention", f"{direction}.controls")[0]:
            pools[name] = pooled(
                [(f["controls"][name], f.get("control_n", {}).get(name, f["n"])) for f in found]
            )
        pools["rephrasing"] = pooled(
            [(f["rephrase_floor"], f.get("rephrase_n", f["n"])) for f in found]
        )
        return pools

    def transfer(self, task: str, kind: str, direction: str) -> dict[str, dict | None]:
        """Mean success and random control of the cells of a transfer matrix: `own` model, `shared`
        base, `stranger`.

        `kind`: `retrain` or `task`. None where the run has no such cell. A source shares the
        target's base if the result says so.
        """
        (found,) = self.values(task, PER_TASK, kind)
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
                    "success": sum(s for s, _ in cells) / len(cells),
                    "control": sum(c for _, c in cells) / len(cells),
                    "cells": len(cells),
                }
                if cells
                else None
            )
            for name, cells in groups.items()
        }

    def families(self) -> list[tuple[str, str, str]]:
        """`(family, tagged task, matched task)` for every family of which both variants are in the
        run.
        """
        return [(f, f"{f}-tagged", f"{f}-matched") for f in families(self.tasks)]

    def _defined(self, task: str, stage: str, key: str) -> list:
        return [value for value in self.values(task, stage, key) if value is not None]

    def _labs(self, task: str, stage: str) -> list[Lab]:
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
        mean = write(sum(values) / len(values)) + unit
        if len(values) == 1:
            return f"{mean} (one seed)"
        return (
            f"{mean} ({write(min(values))} to {write(max(values))}{unit} over {len(values)} seeds)"
        )

    def _follow(self, lab: Lab, key: str):
        value = lab.result
        for part in key.split("."):
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part in self.AGGREGATES and value:
                defined = [x for x in value if x is not None]
                value = self.AGGREGATES[part](defined) if defined else None
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                there = ", ".join(value) if isinstance(value, dict) else type(value).__name__
                raise BookError(
                    f"{lab.folder / 'result.json'} has no key {key!r}: at {part!r} it holds {there}"
                )
        return value
