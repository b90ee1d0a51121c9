"""The last committed outcome of `make bench-peers` for the page Performance."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from memgen.config.analyses import InterventionParameters
from memgen.figures.performance import WORKS, against_peers, growing
from memgen.figures.style import Drawing
from memgen.models.cost import SHAPES, Shape, answer_memory, answer_operations, pass_operations
from memgen.store.files import read_json
from memgen.terms import DIRECTIONS
from press.errors import BookError
from press.race import Race

OURS, NOISE, BARE, HOOKS = "ours", "ours again", "bare passes", "plain hooks"
#: what makes an outcome a record; one with fewer rounds, or from a busy machine, is called a trial
LEAST_ROUNDS, MOST_WAITING = 5, 1.15
SIZES = {"study": "the study's model", "gpt2": "GPT-2's shape", "smoke": "a toy"}
#: the estimate for one graphics card: its peak in bfloat16 as the maker's data sheet of the A100 has
#: it, and the share of it that is assumed to be reached
CARD, PEAK, SHARE = "NVIDIA A100 (80 GB)", 312e12, 0.3
#: and for prompts in words rather than in the study's short codes
TOKENS, NEW, ROWS = 64, 8, 512
TRICKS = ("trick", "where", "ratio", "verdict", "how measured")


@dataclass(frozen=True)
class Standing:
    """Peers (with work and size) by what the medians say, beyond the noise or within it."""

    slower: list[str]
    within: list[str]
    faster: list[str]

    @property
    def n_slower(self) -> int:
        return len(self.slower)

    @property
    def n_within(self) -> int:
        return len(self.within)

    @property
    def n_faster(self) -> int:
        return len(self.faster)


@dataclass(frozen=True)
class Performance:
    """Rounds of all engines, curves of growth, how they were made; empty before they were."""

    rounds: pd.DataFrame = field(default_factory=pd.DataFrame)
    growth: pd.DataFrame = field(default_factory=pd.DataFrame)
    about: dict[str, Any] = field(default_factory=dict)
    tricks: list[dict[str, str]] = field(default_factory=list)
    race: Race | None = None

    @cached_property
    def _by_work(self) -> list[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
        """Size, work, its rounds, and their CPU seconds: a row per round, a column per engine."""
        return [
            (size, work, part, part.pivot(index="round", columns="engine", values="cpu_seconds"))
            for (size, work), part in self.rounds.groupby(["size", "work"], sort=False)
        ]

    @cached_property
    def ratios(self) -> pd.DataFrame:
        """By size, work and engine: CPU and wall seconds, GiB, and the ratio to ours in each round.

        `ratio`, `low`, `high`: median, lowest and highest over rounds.
        """
        rows = []
        for size, work, part, seconds in self._by_work:
            for name, of in part.groupby("engine", sort=False):
                ratio = seconds[name] / seconds[OURS]
                rows.append(
                    {
                        "size": size,
                        "work": work,
                        "engine": name,
                        "cpu": of.cpu_seconds.median(),
                        "wall": of.wall_seconds.median(),
                        "gib": of.peak_bytes.max() / 2**30,
                        "ratio": ratio.median(),
                        "low": ratio.min(),
                        "high": ratio.max(),
                    }
                )
        return pd.DataFrame(rows)

    @property
    def n_rounds(self) -> int:
        return int(self.about["rounds"])

    @cached_property
    def waiting(self) -> float:
        """Seconds by the clock per CPU second, the median: 1 on a machine that does nothing else."""
        return float((self.rounds.wall_seconds / self.rounds.cpu_seconds).median())

    @property
    def trial(self) -> str:
        """Why this outcome is only a trial, in words; '' if it is a record."""
        why = []
        if self.n_rounds < LEAST_ROUNDS:
            why.append("there were few rounds")
        if self.waiting > MOST_WAITING:
            why.append("other programs kept the machine busy")
        if self.about["commit"].endswith("+"):
            why.append("the code had changes that no commit holds")
        return ", and ".join(why)

    @property
    def beside_bare(self) -> list[dict[str, Any]]:
        """By size and work, medians over rounds: `share`, ours per CPU second of the bare passes of
        the same rows, and `times`, plain hooks per CPU second of ours.
        """
        found = []
        for size, work, _, seconds in self._by_work:
            if {BARE, HOOKS} <= set(seconds):
                found.append(
                    {
                        "size": SIZES[size],
                        "work": WORKS[work],
                        "share": (seconds[OURS] / seconds[BARE]).median(),
                        "times": (seconds[HOOKS] / seconds[OURS]).median(),
                    }
                )
        return found

    @property
    def tables(self) -> list[dict[str, Any]]:
        """A table per size and work, in words, with a row per engine that could be timed."""
        return [
            {
                "size": SIZES[size],
                "work": WORKS[work],
                "asked": _asked(self.about["sizes"][size]["shape"], work),
                "found": _found(
                    self.about["sizes"][size]["engines"][OURS]["agreement"].get(work, {})
                ),
                "rows": [self._row(one, size, work) for one in part.to_dict("records")],
                "noise": part[part.engine == NOISE].to_dict("records"),
            }
            for (size, work), part in self.ratios.groupby(["size", "work"], sort=False)
        ]

    def _row(self, one: dict[str, Any], size: str, work: str) -> dict[str, Any]:
        engine = self.about["sizes"][size]["engines"][one["engine"]]
        agreed = engine["agreement"].get(work, {})
        notes = engine["notes"].get(work.split(" ")[0], "")
        return one | {"agreement": _agreement(agreed), "note": notes}

    @property
    def lacking(self) -> list[dict[str, str]]:
        """Who could not be timed at what, and what it said."""
        found = []
        for size, of_size in self.about.get("sizes", {}).items():
            for name, engine in of_size["engines"].items():
                why = engine["cannot"] | ({"all": engine["lacks"]} if engine["lacks"] else {})
                found += [
                    {
                        "size": SIZES[size],
                        "engine": name,
                        "work": WORKS.get(work, work),
                        "why": " ".join(said.replace("|", "/").split()),
                    }
                    for work, said in why.items()
                ]
        return found

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """Of every engine's own packages, by engine."""
        found: dict[str, dict[str, str]] = {}
        for of_size in self.about["sizes"].values():
            for name, engine in of_size["engines"].items():
                found[name] = engine["versions"] or found.get(name, {})
        return {name: packages for name, packages in found.items() if packages}

    @cached_property
    def standing(self) -> Standing:
        """Every peer at every work and size, held against the highest and lowest round of the noise."""
        found = Standing([], [], [])
        for (size, work), part in self.ratios.groupby(["size", "work"], sort=False):
            noise = part[part.engine == NOISE]
            low, high = (1.0, 1.0) if noise.empty else (noise.low.min(), noise.high.max())
            for one in part.itertuples():
                if one.engine.startswith(OURS) or one.engine == BARE:
                    continue
                beyond = found.slower if one.ratio > high else found.faster
                rows = found.within if low <= one.ratio <= high else beyond
                rows.append(f"{one.engine}, {WORKS[work]}, {SIZES[size]}")
        return found

    @property
    def n_compared(self) -> int:
        """Peer, work and size together."""
        return self.standing.n_slower + self.standing.n_within + self.standing.n_faster

    @cached_property
    def drawings(self) -> dict[str, Drawing]:
        """The two figures, by name."""
        others = self.ratios[~self.ratios.engine.isin([OURS, BARE])]
        drawn = [against_peers(others, SIZES, NOISE), growing(self.medians)]
        return {drawing.name: drawing for drawing in drawn}

    # -- growth and limit --------------------------------------------------------------------------
    @cached_property
    def medians(self) -> pd.DataFrame:
        """Over rounds, by axis, value, work and engine."""
        keys = ["axis", "value", "work", "engine"]
        return (
            self.growth.groupby(keys, sort=False)[["cpu_seconds", "operations"]]
            .median()
            .reset_index()
        )

    @property
    def limit(self) -> float:
        """Operations a second of the large matrix product, the median."""
        limit = self.about["limit"]
        return float(limit["operations"] / pd.Series(limit["seconds"]).median())

    @property
    def shares(self) -> list[dict[str, Any]]:
        """By width: which share of the limit the bare pass and our capture reach."""
        wide = self.medians[self.medians.axis == "width"]
        found = []
        for value, part in wide.groupby("value"):
            table = part.set_index(["work", "engine"])
            speed = table.operations / table.cpu_seconds
            found.append(
                {
                    "width": value,
                    "forward": speed["forward", "bare"] / self.limit,
                    "capture": speed["capture", OURS] / self.limit,
                }
            )
        return found

    def power(self, axis: str, work: str) -> float | None:
        """The power of an axis with which our cost grows over its last step; None if not measured."""
        of = self.medians.query("axis == @axis and work == @work and engine == @OURS")
        of = of.sort_values("value").tail(2)
        if len(of) < 2:
            return None
        (x0, x1), (y0, y1) = of.value, of.cpu_seconds
        return math.log(y1 / y0) / math.log(x1 / x0)

    @property
    def axes(self) -> list[dict[str, Any]]:
        """By axis: its values, and the power with which capture and sweep grow at its end."""
        return [
            {
                "axis": axis,
                "values": sorted(set(part.value)),
                "capture": self.power(axis, "capture"),
                "sweep": self.power(axis, "sweep"),
            }
            for axis, part in self.medians.groupby("axis", sort=False)
        ]


def _asked(shape: dict[str, Any], work: str) -> str:
    """How much was done, in words."""
    if work == "capture":
        return f"{shape['captured']} prompts of {shape['tokens']} tokens"
    cells = 2 * len(shape["alphas"]) * len(shape["top_ns"])  # all layers, and the upper half
    return (
        f"{cells} cells on {shape['swept']} prompts of {shape['tokens']} tokens, answers of at most"
        f" {shape['new']}"
    )


def _found(agreement: dict[str, Any]) -> str:
    """How many answers were which, in words; '' for a capture."""
    if "codes" not in agreement:
        return ""
    first, second, neither = agreement["codes"]
    return (
        f" With plain hooks {first} answers are the unsteered ones, {second} the others,"
        f" {neither} neither."
    )


def _agreement(found: dict[str, Any]) -> str:
    """How an engine's results compare with those of plain hooks, in words."""
    if "differ" in found:
        return f"{found['differ']} of {found['n']} answers differ"
    if "largest_difference" in found:
        return f"at most {found['largest_difference']:.0e} standard deviations"
    return "not compared"


@dataclass(frozen=True)
class Estimate:
    """What a model of a published shape would cost on one card: computed, not measured."""

    name: str
    shape: Shape

    @property
    def cells(self) -> int:
        """Of the study's own grid, in both directions."""
        defaults = InterventionParameters.model_fields
        grid = len(defaults["alphas"].default) * len(defaults["top_ns"].default)
        return grid * len(DIRECTIONS)

    @property
    def prompts(self) -> int:
        return int(InterventionParameters.model_fields["n_prompts"].default)

    @property
    def capture_seconds(self) -> float:
        return self.prompts * pass_operations(self.shape, TOKENS, 0) / (SHARE * PEAK)

    @property
    def sweep_seconds(self) -> float:
        """The whole grid, no row left out."""
        rows = self.cells * self.prompts
        return rows * answer_operations(self.shape, TOKENS, NEW) / (SHARE * PEAK)

    @property
    def gib(self) -> float:
        """Weights, keys and values of a batch in bfloat16."""
        return answer_memory(self.shape, ROWS, TOKENS + NEW) / 2**30


def estimates() -> dict[str, Any]:
    """The models, and what was assumed."""
    return {
        "models": [Estimate(name, shape) for name, shape in SHAPES.items()],
        "card": CARD,
        "peak": PEAK / 1e12,
        "share": SHARE,
        "tokens": TOKENS,
        "new": NEW,
        "rows": ROWS,
    }


def performance(root: Path, source: Path) -> Performance:
    """The outcome in `data/reference/performance`, its figures staged in `source`."""
    folder = root / "data" / "reference" / "performance"
    tricks, race = _tricks(folder / "tricks.csv"), Race.of(folder)
    if not (folder / "results.csv").is_file():
        return Performance(tricks=tricks, race=race)
    found = Performance(
        pd.read_csv(folder / "results.csv"),
        pd.read_csv(folder / "growth.csv"),
        read_json(folder / "about.json"),
        tricks,
        race,
    )
    for drawing in found.drawings.values():
        drawing.save(source / "figures" / f"{drawing.name}.png")
    return found


def _tricks(path: Path) -> list[dict[str, str]]:
    """Rows of the table of tricks; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf8", newline="") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != TRICKS:
            raise BookError(f"{path}: its columns are {rows.fieldnames}, not {', '.join(TRICKS)}")
        return list(rows)
