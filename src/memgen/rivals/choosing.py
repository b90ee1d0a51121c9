"""Which candidate of a method is chosen on validation keys: for success alone, and within the limit.

Candidates that are shifts share their passes and are raced, as the cells of lab 06 are; all others are
run one after the other on every prompt. Free prompts are asked from the most successful candidate down,
until one loses no more than may be lost. Of equally good candidates the gentlest is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import pandas as pd

from memgen.rivals.interventions import Shift, on_site, untouched
from memgen.rivals.method import Candidate
from memgen.steering.choice import Collateral
from memgen.steering.outlook import COMMON, OWN, kinship
from memgen.steering.race import Leads, Limit, Table, settle_twice
from memgen.steering.steering import Steering
from memgen.terms import RULE_CODE, TARGET, Positions, Site

ELSEWHERE = 0.5  # how alike one shift acts at other positions, or at another site, as a prior


@dataclass(frozen=True)
class Tuning:
    """Prompts of validation keys. `turned`: by direction those it starts from; `free`: without a key.

    `limit`: the share of the free prompts that a candidate may answer right less often than the
    untouched model.
    """

    turned: dict[str, pd.DataFrame]
    free: pd.DataFrame
    limit: float


@dataclass(frozen=True)
class Chosen:
    """The two candidates, by place among those offered; `kept` is None where all lose too much.

    `successes`, `free_right`: of the two, of `n` and `n_free` prompts; `before`: right of the free ones
    untouched. `rows_run` of `grid_rows`; `risk`: by choice the chance of having lost the best candidate.
    """

    max: int
    kept: int | None
    successes: dict[int, int]
    free_right: dict[int, int]
    n: int
    n_free: int
    before: int
    rows_run: int
    grid_rows: int
    risk: dict[str, float]

    def named(self) -> dict[str, int]:
        """By name the place of each choice that there is."""
        return {"max": self.max} | ({} if self.kept is None else {"kept": self.kept})

    def validation(self, place: int) -> dict:
        """What the validation prompts said of a candidate."""
        return {
            "validation_success": self.successes[place] / self.n,
            "validation_n": self.n,
            "validation_free_before": self.before / self.n_free,
            "validation_free_after": self.free_right[place] / self.n_free,
            "validation_n_free": self.n_free,
        }


class Chooser:
    """Chooses among candidates on the validation prompts of one model."""

    def __init__(self, steering: Steering, tuning: Tuning):
        self.steering, self.tuning = steering, tuning

    def choose(self, candidates: list[Candidate], direction: str) -> Chosen:
        """`candidates`: gentlest first, at least one."""
        if all(isinstance(one.intervention, Shift) for one in candidates):
            return self._race([cast(Shift, one.intervention) for one in candidates], direction)
        return self._try_all(candidates, direction)

    @cached_property
    def collateral(self) -> Collateral:
        """What may be lost of the free prompts, as in lab 06."""
        return Collateral(self.steering, self.tuning.free, self.tuning.limit)

    def _race(self, shifts: list[Shift], direction: str) -> Chosen:
        rows, free = self.tuning.turned[direction], self.tuning.free
        turned = Table(
            leads_of(self.steering, shifts, rows, TARGET[direction]), alike(shifts), len(rows)
        )
        every = [*shifts, untouched(self.steering)]
        intact = self.collateral.table_of(
            leads_of(self.steering, every, free, RULE_CODE), alike(every)
        )
        most, kept, _ = settle_twice(turned, [Limit(intact, self.collateral.enough)])
        best = cast(int, most.best)  # nothing limits the first race
        chosen = {best} | (set() if kept.best is None else {kept.best})
        return Chosen(
            best,
            kept.best,
            {place: int(turned.won[place].sum()) for place in chosen},
            {place: int(intact.won[place].sum()) for place in chosen},
            len(rows),
            len(free),
            self.collateral.before,
            int(turned.run.sum()),
            turned.run.size,
            {"max": most.risk, "kept": kept.risk},
        )

    def _try_all(self, candidates: list[Candidate], direction: str) -> Chosen:
        rows, free = self.tuning.turned[direction], self.tuning.free
        won = [
            int((one.intervention.read(self.steering, rows).codes == TARGET[direction]).sum())
            for one in candidates
        ]
        best_first = sorted(range(len(won)), key=lambda place: -won[place])  # stable
        free_right: dict[int, int] = {}
        kept = None
        for place in best_first:
            read = candidates[place].intervention.read(self.steering, free)
            free_right[place] = int(read.fits[:, RULE_CODE].sum())
            if free_right[place] >= self.collateral.enough:
                kept = place
                break
        n = len(rows) * len(candidates)
        certain = {"max": 0.0, "kept": 0.0}
        return Chosen(
            best_first[0],
            kept,
            dict(enumerate(won)),
            free_right,
            len(rows),
            len(free),
            self.collateral.before,
            n,
            n,
            certain,
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
