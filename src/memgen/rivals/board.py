"""The board: every method under one protocol, from its candidates to a row of the table.

Train keys fit (`Material`), validation keys choose (`Tuning`), test keys report, once (`Testing`). Of
every method and direction two candidates are reported: `max`, the most successful one, and `kept`, the
most successful of those that lose no more free prompts than may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from memgen.rivals.choosing import Chooser, Chosen, Tuning
from memgen.rivals.interventions import Intervention, Read, Shift, untouched
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method, thinned
from memgen.stats.intervals import weighted_mean
from memgen.stats.reported import by_key
from memgen.steering.side_effects import divergence
from memgen.steering.steering import outcome_rows, summary
from memgen.terms import DIRECTIONS, MEMORY_CODE, RULE_CODE, TARGET

OPPOSITE = dict(zip(DIRECTIONS, reversed(DIRECTIONS)))


@dataclass(frozen=True)
class Testing:
    """Prompts of test keys. `turned`: by direction those it starts from; `free`, `keyed`: for the cost."""

    turned: dict[str, pd.DataFrame]
    free: pd.DataFrame
    keyed: pd.DataFrame


@dataclass(frozen=True)
class Entry:
    """One method in one direction. `numbers`: of the method, and of `max` and `kept` (None: none).

    `answers`: one row per test prompt and choice; `seconds`: CPU seconds that it took; `chosen`: the
    candidates, by choice.
    """

    method: Method
    direction: str
    numbers: dict
    answers: pd.DataFrame
    seconds: float
    chosen: dict[str, Candidate] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """One model, and the prompts that every method is chosen and judged on.

    `known`: by method and direction what was chosen already, among the same candidates on the same prompts.
    """

    material: Material
    tuning: Tuning
    testing: Testing
    known: Mapping[tuple[str, str], Chosen] = field(default_factory=dict)
    _untouched: dict[str, Read] = field(default_factory=dict, repr=False)

    @cached_property
    def chooser(self) -> Chooser:
        return Chooser(self.material.steering, self.tuning)

    def entries(self, methods: Iterable[Method]) -> list[Entry]:
        """A row for every method that applies, and direction that it has."""
        return [
            self.entry(method, direction)
            for method in methods
            if not method.why_not(self.material)
            for direction in method.directions
        ]

    def entry(self, method: Method, direction: str) -> Entry:
        """Fit, choose, report. Errors: `ValueError` if the method offers no candidate."""
        began = time.process_time()
        offered = method.candidates(self.material, direction)
        if not offered:
            raise ValueError(f"method {method.name} offers no candidate for {direction}")
        candidates = thinned(offered, self.material.effort.budget)
        known = self.known.get((method.name, direction))
        chosen = known or self.chooser.choose(candidates, direction)
        numbers: dict = {
            "candidates": len(candidates),
            "rows_run": chosen.rows_run,
            "grid_rows": chosen.grid_rows,
            "risk": chosen.risk,
            "max": None,
            "kept": None,
        }
        answers, seen = [], {}
        for name, place in chosen.named().items():
            if place not in seen:  # often one candidate is both
                seen[place] = self._judged(method, candidates[place], direction)
            found, rows = seen[place]
            numbers[name] = found | chosen.validation(place)
            answers.append(rows.assign(choice=name))
        table = pd.concat(answers, ignore_index=True)
        by_choice = {name: candidates[place] for name, place in chosen.named().items()}
        return Entry(method, direction, numbers, table, time.process_time() - began, by_choice)

    def _judged(
        self, method: Method, candidate: Candidate, direction: str
    ) -> tuple[dict, pd.DataFrame]:
        """A candidate on test keys: what it turns, what stays, what it costs; and one row per answer."""
        done, rows = candidate.intervention, self.testing.turned[direction]
        codes = self._read(done, rows).codes
        stayed = self._read(done, self.testing.turned[OPPOSITE[direction]]).codes
        about = {
            "label": candidate.label,
            "setting": dict(candidate.setting),
            "strength": float(candidate.strength),
            "gradient_steps": candidate.gradient_steps,
        }
        turned = turning(codes, rows, direction, self.material.seed)
        stay = {"stay": float((stayed == TARGET[direction]).mean()), "n_stay": len(stayed)}
        answers = outcome_rows(method.name, codes, rows, direction)
        return about | turned | stay | self._cost(done), answers

    def _cost(self, done: Intervention) -> dict:
        """Accuracy on free and keyed prompts, before and after, and KL(untouched || changed) there."""
        found: dict = {}
        for name, code in (("free", RULE_CODE), ("keyed", MEMORY_CODE)):
            rows = getattr(self.testing, name)
            if name not in self._untouched:
                self._untouched[name] = self._read(untouched(self.material.steering), rows)
            before = self._untouched[name]
            same = isinstance(done, Shift) and done.changes_nothing
            after = before if same else self._read(done, rows)
            found[f"n_{name}"] = len(rows)
            found[f"{name}_accuracy_before"] = before.right(code)
            found[f"{name}_accuracy_after"] = after.right(code)
            found[f"kl_{name}"] = divergence(before.log_probs, after.log_probs)
        return found

    def _read(self, done: Intervention, rows: pd.DataFrame) -> Read:
        return done.read(self.material.steering, rows)


def turning(codes: np.ndarray, rows: pd.DataFrame, direction: str, seed: int) -> dict:
    """Success on these prompts with Wilson's interval, `key_interval` over keys, *other*, n, n_keys."""
    won = (codes == TARGET[direction]).astype(float)
    over_keys = by_key(weighted_mean, rows.key.to_numpy(), won, seed=seed)
    return summary(codes, direction) | {
        "key_interval": over_keys["interval"],
        "n_keys": over_keys["n_keys"],
    }


def paired(answers: pd.DataFrame, reference: str, choice: str, seed: int) -> dict[str, dict]:
    """By method the success less that of `reference` on the same prompts, with its interval over keys.

    `answers`: of one direction, rows of every method in the same order. A method without this choice,
    and one that was asked other prompts, has none.
    """
    chosen = answers[answers.choice == choice]
    by_method = {name: rows.reset_index(drop=True) for name, rows in chosen.groupby("kind")}
    if reference not in by_method:
        return {}
    own, found = by_method.pop(reference), {}
    for name, rows in by_method.items():
        if len(rows) == len(own) and (rows.key == own.key).all():
            gained = rows.success.to_numpy(float) - own.success.to_numpy(float)
            found[str(name)] = by_key(weighted_mean, own.key.to_numpy(), gained, seed=seed)
    return found
