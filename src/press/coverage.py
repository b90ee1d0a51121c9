"""The simulated coverage of the intervals, as the ledger's page prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from press.numbers import decimal, percent
from press.origin import made

BAND = (
    0.93,
    0.97,
)  # what a 95 % interval should hold, within the error of the simulation and a bit
NARROW, WIDE = "†", "‡"
COUNTED = "sum(case['covered'] %s for case in {0})"


class Row(NamedTuple):
    """A planted case: its quantity, what was planted, spreads in words; by task what was held."""

    quantity: str
    planted: str
    seeds_sd: str
    keys_sd: str
    held: list[str]


@dataclass(frozen=True)
class Coverage:
    """`found`: the cases as `result.json` of lab 8 holds them."""

    found: list[dict]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(case["task"] for case in self.found))

    @property
    def rows(self) -> list[Row]:
        """A row per planted case, `held` in the order of the tasks; outside the band it is marked."""
        rows: dict[tuple[str, str, str, str], dict[str, str]] = {}
        for case in self.found:
            planted = " and ".join(decimal(value) for value in case["planted"])
            spread = (decimal(case[name], 1) for name in ("seeds_sd", "keys_sd"))
            row = rows.setdefault((case["quantity"], planted, *spread), {})
            row[case["task"]] = f"{percent(case['covered'], 1)}{_mark(case['covered'])}"
        return [
            Row(*about, [held.get(task, "none") for task in self.tasks])
            for about, held in rows.items()
        ]

    @property
    def n(self) -> int:
        return made(len(self.found), "len({0})", self.found)

    @property
    def narrow(self) -> int:
        """How many cases hold the truth more rarely than the band allows."""
        return self._count(NARROW, f"< {BAND[0]}")

    @property
    def wide(self) -> int:
        """How many hold it more often."""
        return self._count(WIDE, f"> {BAND[1]}")

    @property
    def worst(self) -> str:
        """The case that holds it most rarely, in words."""
        case = min(self.found, key=lambda one: one["covered"])
        planted = " and ".join(decimal(value) for value in case["planted"])
        return (
            f"{percent(case['covered'], 1)} ({case['task']}, {case['quantity']} {planted}, sd over"
            f" seeds {decimal(case['seeds_sd'], 1)})"
        )

    def _count(self, mark: str, how: str) -> int:
        n = sum(_mark(case["covered"]) == mark for case in self.found)
        return made(n, COUNTED % how, self.found)


def _mark(covered: float) -> str:
    return NARROW if covered < BAND[0] else WIDE if covered > BAND[1] else ""
