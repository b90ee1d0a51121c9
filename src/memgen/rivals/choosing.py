"""Which candidate of a method is chosen on validation keys: for success alone, and within the limit.

Candidates that are shifts share their passes and are raced, as the cells of lab 06 are; all others are
run one after the other on every prompt. Free prompts are asked from the most successful candidate down,
until one loses no more than may be lost. Of equally good candidates the gentlest is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import numpy as np
import pandas as pd

from memgen.rivals.interventions import Shift, on_site, untouched
from memgen.rivals.method import Candidate
from memgen.steering.choice import RIGHT, Collateral
from memgen.steering.outlook import COMMON, OWN, kinship
from memgen.steering.race import Leads, Limit, Table, settle_twice
from memgen.steering.steering import Steering
from memgen.terms import TARGET, Positions, Site, Spared

ELSEWHERE = 0.5  # how alike one shift acts at other positions, or at another site, as a prior


@dataclass(frozen=True)
class Tuning:
    """Prompts of validation keys. `turned`: by direction those it starts from; `free`: without a key.

    `limit`: the share of the free prompts that a candidate may answer right less often than the
    untouched model. `facts`: keyed prompts that are held to it, too, counted apart (none: they are not),
    as in lab 06 those of a task without training.
    """

    turned: dict[str, pd.DataFrame]
    free: pd.DataFrame
    limit: float
    facts: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class Chosen:
    """The two candidates, by place among those offered; `kept` is None where all lose too much.

    `successes`: of the two, of `n` prompts. By kind of what should stay, `right`: of the two, of `n_spared`
    prompts, and `before` untouched. `rows_run` of `grid_rows`; `risk`: by choice the chance of having lost
    the best candidate.
    """

    max: int
    kept: int | None
    successes: dict[int, int]
    right: dict[Spared, dict[int, int]]
    n: int
    n_spared: dict[Spared, int]
    before: dict[Spared, int]
    rows_run: int
    grid_rows: int
    risk: dict[str, float]

    def named(self) -> dict[str, int]:
        """By name the place of each choice that there is."""
        return {"max": self.max} | ({} if self.kept is None else {"kept": self.kept})

    def validation(self, place: int) -> dict:
        """What the validation prompts said of a candidate."""
        found: dict = {
            "validation_success": self.successes[place] / self.n,
            "validation_n": self.n,
        }
        for kind, n in self.n_spared.items():
            found[f"validation_{kind}_before"] = self.before[kind] / n
            found[f"validation_{kind}_after"] = self.right[kind][place] / n
            found[f"validation_n_{kind}"] = n
        return found


class Chooser:
    """Chooses among candidates on the validation prompts of one model."""

    def __init__(self, steering: Steering, tuning: Tuning):
        self.steering, self.tuning = steering, tuning

    def choose(self, candidates: list[Candidate], direction: str) -> Chosen:
        """`candidates`: gentlest first, at least one."""
        if all(isinstance(one.intervention, Shift) for one in candidates):
            shifts = [cast(Shift, one.intervention) for one in candidates]
            if len(shifts) == 1 and shifts[0].changes_nothing:
                return self._nothing(direction)
            return self._race(shifts, direction)
        return self._try_all(candidates, direction)

    def _nothing(self, direction: str) -> Chosen:
        """The untouched model: it turns none of the prompts that start from its answer, and loses nothing."""
        right = {one.kind: {0: one.before} for one in self.collaterals}
        run, certain = (0, (1, len(self.tuning.turned[direction]))), {"max": 0.0, "kept": 0.0}
        return self._chosen((0, 0), {0: 0}, right, run, certain)

    @cached_property
    def collaterals(self) -> list[Collateral]:
        """What may be lost of the free prompts, and of the facts, as in lab 06."""
        tuning, kinds = self.tuning, {"free": self.tuning.free, "keyed": self.tuning.facts}
        return [
            Collateral(self.steering, rows, tuning.limit, cast(Spared, kind))
            for kind, rows in kinds.items()
            if len(rows)
        ]

    def _race(self, shifts: list[Shift], direction: str) -> Chosen:
        rows, every = self.tuning.turned[direction], [*shifts, untouched(self.steering)]
        turned = Table(
            leads_of(self.steering, shifts, rows, TARGET[direction]), alike(shifts), len(rows)
        )
        intact = {
            one.kind: one.table_of(
                leads_of(self.steering, every, one.rows, RIGHT[one.kind]), alike(every)
            )
            for one in self.collaterals
        }
        limits = [Limit(intact[one.kind], one.enough) for one in self.collaterals]
        most, kept, _ = settle_twice(turned, limits)
        best = cast(int, most.best)  # nothing limits the first race
        chosen = {best} | (set() if kept.best is None else {kept.best})
        return self._chosen(
            (best, kept.best),
            {place: int(turned.won[place].sum()) for place in chosen},
            {k: {place: int(of.won[place].sum()) for place in chosen} for k, of in intact.items()},
            (int(turned.run.sum()), turned.run.shape),
            {"max": most.risk, "kept": kept.risk},
        )

    def _try_all(self, candidates: list[Candidate], direction: str) -> Chosen:
        rows = self.tuning.turned[direction]
        won = [
            int((one.intervention.read(self.steering, rows).codes == TARGET[direction]).sum())
            for one in candidates
        ]
        best_first = sorted(range(len(won)), key=lambda place: -won[place])  # stable
        right: dict[Spared, dict[int, int]] = {one.kind: {} for one in self.collaterals}
        kept = None
        for place in best_first:
            for one in self.collaterals:
                read = candidates[place].intervention.read(self.steering, one.rows)
                right[one.kind][place] = int(read.fits[:, RIGHT[one.kind]].sum())
            if all(right[one.kind][place] >= one.enough for one in self.collaterals):
                kept = place
                break
        run, shape = len(candidates) * len(rows), (len(candidates), len(rows))
        certain = {"max": 0.0, "kept": 0.0}
        return self._chosen(
            (best_first[0], kept), dict(enumerate(won)), right, (run, shape), certain
        )

    def _chosen(
        self,
        two: tuple[int, int | None],
        successes: dict[int, int],
        right: dict[Spared, dict[int, int]],
        run: tuple[int, tuple[int, ...]],
        risk: dict[str, float],
    ) -> Chosen:
        """`two`: `max` and `kept`; `run`: rows that were run, and candidates and prompts of the grid."""
        rows_run, (n_candidates, n) = run
        return Chosen(
            *two,
            successes,
            right,
            n,
            {one.kind: one.n for one in self.collaterals},
            {one.kind: one.before for one in self.collaterals},
            rows_run,
            n_candidates * n,
            risk,
        )


def _places(shifts: list[Shift]) -> dict[tuple[Site, Positions], np.ndarray]:
    """The shifts that one sweep can run, by site and positions."""
    found: dict[tuple[Site, Positions], list[int]] = {}
    for place, one in enumerate(shifts):
        found.setdefault((one.site, one.positions), []).append(place)
    return {where: np.array(places) for where, places in found.items()}


def leads_of(
    steering: Steering, shifts: list[Shift], rows: pd.DataFrame, target_code: int
) -> Leads:
    """The leads of an answer under these shifts, whatever positions and sites they are at."""
    groups = [
        (
            places,
            on_site(steering, site).leads(
                np.stack([shifts[place].delta for place in places]), rows, target_code, positions
            ),
        )
        for (site, positions), places in _places(shifts).items()
    ]
    group_of, within = np.empty((2, len(shifts)), dtype=int)
    for number, (places, _) in enumerate(groups):
        group_of[places], within[places] = number, np.arange(len(places))

    def leads(cells: np.ndarray, prompts: np.ndarray) -> np.ndarray:
        found = np.empty(len(cells))
        for number in np.unique(group_of[cells]):
            here = group_of[cells] == number
            found[here] = groups[number][1](within[cells[here]], prompts[here])
        return found

    return leads


def alike(shifts: list[Shift]) -> np.ndarray:
    """`kinship` of the shifts, less of it where they are at other positions or sites."""
    kin, groups = kinship(np.stack([one.delta for one in shifts])), _places(shifts)
    if len(groups) == 1:
        return kin
    group = np.empty(len(shifts), dtype=int)
    for number, places in enumerate(groups.values()):
        group[places] = number
    own = OWN * np.eye(len(kin))
    # the product of two correlations is one again (Schur)
    share = np.where(group[:, None] == group, 1.0, ELSEWHERE)
    return COMMON + (kin - COMMON - own) * share + own
