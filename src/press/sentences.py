"""Sentences that count or compare: small functions, so that no template decides anything.

Claims are decided by the ledger (`memgen.claims.ledger`). What is counted beside them, such as the
intervals of single labs, describes and is called so on its page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from memgen.claims.ledger import tests
from memgen.claims.quantities.behaviors import GATE, in_gate
from memgen.terms import CONTRADICTED, DIRECTIONS, FORECASTS, REVERSED, SUPPORTED, VERDICTS
from press.numbers import Numbers, decimal, percent, plural
from press.origin import greatest, least, made

# How counts are made of parts of results, as the origins of numbers write it (`press.origin`)
VERDICTS_OF = "sum(case['verdict'] %s for case in {0}.values())"
VERDICTS_BY_CASE = "sum(case['verdict'] %s for claim in {0} for case in claim['cases'].values())"
VERDICTS_OVER = "sum(claim['cases'] != {} and claim['verdict'] %s for claim in {0})"
INTERVALS = (
    "sum(case['interval'][0] is not None for claim in {0} if %sclaim['margin']"
    " for case in claim['cases'].values())"
)
AS_GOOD = "sum(a >= b for a, b in zip({every}[::2], {every}[1::2]))"
HALVED = "sum(v['accuracy'] < v['alone']['accuracy'] / 2 for v in {every})"
_LIMITS = " and ".join(f"{low} <= v[{name!r}] <= {high}" for name, (low, high) in GATE.items())
IN_GATE = f"sum({_LIMITS} for v in {{every}})"


class Share(NamedTuple):
    """`k` of `n`, which is how it is written."""

    k: int
    n: int

    def __str__(self) -> str:
        return f"{self.k} of {self.n}"

    def of(self, one: str, many: str = "") -> str:
        """`3 of 5 tasks`, `1 of 1 task`."""
        return f"{self.k} of {plural(self.n, one, many)}"


class Tally(NamedTuple):
    """How many intervals lie above a limit, below it, and on both sides of it."""

    above: int
    below: int
    open: int

    @property
    def n(self) -> int:
        return sum(self)

    @property
    def lower(self) -> Share:
        return Share(self.below, self.n)

    @property
    def higher(self) -> Share:
        return Share(self.above, self.n)


@dataclass(frozen=True)
class Judged:
    """A claim of the ledger with its verdicts, as `result.json` of lab 8 holds it."""

    id: str
    name: str
    text: str
    source: str
    test: str
    threshold: float
    margin: float
    above: bool
    corrected: str
    page: str
    group: str
    track: str
    verdict: str
    effect: float | None
    interval: list[float | None] | None
    n: int
    cases: dict[str, dict]
    evidence: str

    def where(self, verdict: str = SUPPORTED) -> list[str]:
        """The tasks (or families) on which it has this verdict."""
        return [name for name, case in self.cases.items() if case["verdict"] == verdict]

    def share(self, verdict: str = SUPPORTED) -> Share:
        """On how many of the tasks on which it could be tested it has this verdict."""
        k = made(len(self.where(verdict)), VERDICTS_OF % f"== {verdict!r}", self.cases)
        return Share(k, made(len(self.cases), "len({0})", self.cases))

    @property
    def fallen(self) -> str:
        """Where it is contradicted or reversed, as a sentence ends: `inference (reversed)`, or `no task`."""
        if not self.cases:
            return "no task, for it could be tested on none"
        found = {name: case["verdict"] for name, case in self.cases.items()}
        against = [f"{n} ({v})" for n, v in found.items() if v in (CONTRADICTED, REVERSED)]
        return ", ".join(against) or "no task"

    @property
    def balance(self) -> str:
        """On how many tasks it is supported, contradicted or reversed, open: `3 · 1 · 1`."""
        of = Standing.of([case["verdict"] for case in self.cases.values()], VERDICTS_OF, self.cases)
        return f"{of.supported} · {of.contradicted + of.reversed} · {of.open}"

    def on(self, case: str) -> str:
        """Its verdict on one task (or family)."""
        return self.cases[case]["verdict"] if case in self.cases else "not tested"

    @property
    def alone(self) -> list[str]:
        """The tasks on which it rests on one seed, so that it has no interval."""
        return [name for name, case in self.cases.items() if case["n_seeds"] == 1]

    @property
    def hardest(self) -> str:
        """Its effect, with interval, on the task that is hardest on it: `0.30 (0.10 to 0.50)`."""
        return effect(self) if self.cases else "not tested"


class Standing(NamedTuple):
    """How many claims (or claims on one task) could be tested, and how many have each verdict."""

    tested: int
    supported: int
    contradicted: int
    reversed: int
    open: int

    @classmethod
    def of(cls, verdicts: list[str], expression: str, found: list | dict) -> Standing:
        """`expression`: how the verdicts of a kind are counted in `found`, a part of a result."""
        tested = made(len(verdicts), expression % f"in {list(VERDICTS)}", found)
        counts = [(verdicts.count(one), expression % f"== {one!r}") for one in VERDICTS]
        return cls(tested, *(made(n, how, found) for n, how in counts))


class Chance(NamedTuple):
    """Tests with an interval, of differences and of limits; how many of the first support a claim if
    no effect is real.
    """

    tests: int
    limits: int
    supported: float


class Ledger:
    """The judged claims of one track: `ledger["retrain"]`, or one after the other."""

    def __init__(self, claims: list[dict]):
        self.found = claims
        self.claims = {claim["id"]: Judged(**claim) for claim in claims}

    def __getitem__(self, claim: str) -> Judged:
        return self.claims[claim]

    def __iter__(self) -> Iterator[Judged]:
        return iter(self.claims.values())

    @property
    def tested(self) -> list[Judged]:
        """The claims that the run can test on some task."""
        return [claim for claim in self if claim.cases]

    @property
    def standing(self) -> Standing:
        return Standing.of([claim.verdict for claim in self.tested], VERDICTS_OVER, self.found)

    @property
    def by_case(self) -> Standing:
        """The same, a claim on one task (or family) counted as one."""
        cases = [case for claim in self.tested for case in claim.cases.values()]
        return Standing.of([case["verdict"] for case in cases], VERDICTS_BY_CASE, self.found)

    @property
    def groups(self) -> dict[str, list[Judged]]:
        """The tested claims by what they are about."""
        found: dict[str, list[Judged]] = {}
        for claim in self.tested:
            found.setdefault(claim.group, []).append(claim)
        return found

    @property
    def chance(self) -> Chance:
        """How many tests there are, and how many that chance alone would call supported."""
        found = tests([{"cases": claim.cases, "margin": claim.margin} for claim in self])
        differences, limits = (INTERVALS % no for no in ("", "not "))
        return Chance(
            made(int(found["n"]), differences, self.found),
            made(int(found["limits"]), limits, self.found),
            made(found["by_chance"], f"0.025 * {differences}", self.found),
        )

    @property
    def corrected(self) -> list[Judged]:
        """The tested claims whose test was changed after test keys had been seen."""
        return [claim for claim in self.tested if claim.corrected]

    @property
    def single(self) -> Share:
        """Task by task: how many of all tests support their claim."""
        return Share(self.by_case.supported, self.by_case.tested)

    def named(self, verdict: str) -> str:
        """The names of the tested claims with this verdict, or `none`."""
        return "; ".join(claim.name for claim in self.tested if claim.verdict == verdict) or "none"


def effect(found: Judged | dict, write=decimal) -> str:
    """An effect with its interval, if it has one: `0.30 (0.10 to 0.50)`."""
    if isinstance(found, Judged):
        found = {"effect": found.effect, "interval": found.interval}
    value, (low, _) = write(found["effect"]), found["interval"]
    return value if low is None else f"{value} ({between(found['interval'], write)})"


def between(interval: list[float | None], write=decimal) -> str:
    """`0.10 to 0.50`, or `none`."""
    return "none" if interval[0] is None else f"{write(interval[0])} to {write(interval[1])}"


def tried(cells: dict[str, list[float]]) -> str:
    """Among which cells validation keys chose: strengths, and shares of neurons."""
    alphas, shares = cells["alphas"], cells["top_ns"]
    return (
        f"alpha {', '.join(f'{alpha:g}' for alpha in sorted(alphas))} on"
        f" {percent(min(shares))} to {percent(max(shares))} of the neurons"
    )


class Thresholds(NamedTuple):
    """In words: our threshold and margin, and those for supported or contradicted on every task."""

    ours: str
    margin: str
    supported: str
    contradicted: str


def thresholds(claim: Judged) -> Thresholds:
    """For which thresholds, and which smallest effects of interest, a claim would have a verdict."""
    intervals = [case["interval"] for case in claim.cases.values()]
    known = [interval for interval in intervals if interval[0] is not None]
    right, wrong = ("above", "below") if claim.above else ("below", "above")
    ours = f"{right} {decimal(claim.threshold)}"
    margin = decimal(claim.margin) if claim.margin else "none: a limit"
    if len(known) < len(intervals) or not known:
        missing = "none: an interval is missing"
        return Thresholds(ours, margin, missing, missing)
    lows, highs = zip(*known, strict=True)
    ends = (least(lows), greatest(highs))
    support, rule_out = ends if claim.above else reversed(ends)
    distance = abs(rule_out - claim.threshold) if _beyond(claim, rule_out) else 0.0
    ruled_out = f"a threshold {right} {decimal(rule_out)}"  # what contradicts a limit
    if claim.margin:
        ruled_out = f"a margin above {decimal(distance)}"
    return Thresholds(ours, margin, f"a threshold {wrong} {decimal(support)}", ruled_out)


def _beyond(claim: Judged, end: float) -> bool:
    """Is this end of an interval on the claim's side of the threshold?"""
    return end > claim.threshold if claim.above else end < claim.threshold


def sees(names: Iterable[str | None]) -> str:
    """What the forecasts of these names see, each once in the order of the study; `none` for None."""
    chosen = set(names)
    words = [text for name, text in FORECASTS.items() if name in chosen]
    return ", ".join(words + ["none"] * (None in chosen))


def most_first(shares: dict[str, Share]) -> str:
    """`one neuron (12 of 30), another ranking (0 of 30)`, the largest share first."""
    order = sorted(shares.items(), key=lambda one: -one[1].k / max(one[1].n, 1))
    return ", ".join(f"{name} ({share})" for name, share in order)


@dataclass(frozen=True)
class Counts:
    """Counts over the labs of a run: descriptions of single models, not verdicts.

    `key`: as in :class:`Numbers`; a star: both directions, each with task and seed a *case*.
    """

    numbers: Numbers

    def beyond(self, stage: str, key: str, limit: float, task: str | None = None) -> Share:
        """How many numbers lie above the limit, of those that are defined."""
        known = [value for value in self._values(stage, key, task) if value is not None]
        k = sum(value > limit for value in known)
        return Share(made(k, f"sum(v > {limit} for v in {{every}})", *known), _n(known))

    def against(self, stage: str, key: str, limit: float = 0.0, task: str | None = None) -> Tally:
        """On which side of the limit the defined intervals lie, as wholes."""
        known = [interval for interval in self._values(stage, key, task) if interval is not None]
        sides = [_side(interval, limit) for interval in known]
        hows = ("v[0] > {0}", "v[1] < {0}", "v[0] <= {0} <= v[1]")
        asked = [f"None not in v and {how.format(limit)}" for how in hows]
        asked[2] = f"not ({asked[0]} or {asked[1]})"
        return Tally(
            *(
                made(sides.count(i), f"sum({how} for v in {{every}})", *known)
                for i, how in enumerate(asked)
            )
        )

    def as_good(self, stage: str, key: str, other: str, without: tuple[str, ...] = ()) -> Share:
        """How often the rate `key` is at least the rate `other`, where that is above 0."""
        rates = [
            (rate, reference)
            for task in self.numbers.tasks
            if task not in without
            for rate, reference in zip(
                self._values(stage, key, task), self._values(stage, other, task), strict=True
            )
            if reference and rate is not None
        ]
        k, all_of = sum(rate >= reference for rate, reference in rates), sum(rates, ())
        n = made(len(rates), "len({every}) // 2", *all_of)
        return Share(made(k, AS_GOOD, *all_of), n)

    def halved(self, stage: str, *keys: str) -> Share:
        """How often an accuracy falls below half of that of the same prompts alone."""
        found = [x for key in keys for x in self._values(stage, key) if x["n"]]
        k = sum(x["accuracy"] < x["alone"]["accuracy"] / 2 for x in found)
        return Share(made(k, HALVED, *found), _n(found))

    def in_gate(self) -> Share:
        """How many models show both behaviours on test keys, by the ledger's gate."""
        found = self._values("02_training")
        k = sum(in_gate(training) for training in found)
        return Share(made(k, IN_GATE, *found), _n(found))

    def marked(self, task: str, stage: str, key: str, name: str) -> str:
        """One dagger for each seed whose list at `key` holds the name, behind a space."""
        seeds = sum(name in names for names in self.numbers.values(task, stage, key))
        return f" {'†' * seeds}" if seeds else ""

    def _values(self, stage: str, key: str = "", task: str | None = None) -> list:
        tasks = self.numbers.run.tasks_of(stage) if task is None else [task]
        keys = [key.replace("*", d) for d in DIRECTIONS] if "*" in key else [key]
        if not key:
            return [found for t in tasks for found in self.numbers.results(t, stage)]
        return [x for t in tasks for k in keys for x in self.numbers.values(t, stage, k)]


def _n(known: list) -> int:
    return made(len(known), "len({every})", *known)


def _side(interval: list[float | None], limit: float) -> int:
    """0 above the limit, 1 below it, 2 on both sides or undefined."""
    low, high = interval
    if low is None or high is None:
        return 2
    return 0 if low > limit else 1 if high < limit else 2
