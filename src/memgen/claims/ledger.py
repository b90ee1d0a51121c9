"""The ledger of claims: what the runs say about each claim of the catalogue, by one rule.

On one task a claim is about an effect, measured in every seed on test keys, with a 95 % interval
over seeds (`memgen.stats.over_seeds`). Its distance from the threshold, turned so that a positive
one speaks for the claim, decides together with the smallest effect of interest (`margin`). The
verdict is the first of these that is true:

* `supported`: the whole interval lies on the claim's side of the threshold, and effects of interest
  are in it;
* `reversed`: the whole interval lies on the other side of the threshold, and the effect is as large
  as the margin;
* `contradicted`: the whole interval lies below the margin, so an effect of interest is ruled out
  (equivalence; a small effect on the claim's side is contradicted, too);
* `open`: anything else, or nothing to measure.

A claim without a margin is a limit ("at most a tenth"): it is supported or contradicted by the side
on which the whole interval lies. Over all tasks on which it can be tested a claim has a verdict only
if it has the same on each; else it is `open`, and the verdicts of the tasks stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from memgen.claims.evidence import Evidence
from memgen.stats.intervals import number
from memgen.stats.over_seeds import Effect
from memgen.terms import CONTRADICTED, OPEN, REVERSED, SUPPORTED


def _all_tasks(evidence: Evidence) -> list[str]:
    return evidence.tasks


@dataclass(frozen=True)
class Claim:
    """One claim; `measure` gives the effect on a case (a task, unless `cases` says otherwise).

    `threshold`: the value at which there is nothing; `above`: the claim is about values above it;
    `margin`: the smallest distance from it that would matter (0: the threshold itself is the
    limit). `corrected`: what of the test was changed after test keys of the study had been seen, and
    which way that goes; until other seeds decide, its verdicts are to be read with that.
    """

    id: str
    name: str
    text: str
    source: str
    test: str
    page: str
    measure: Callable[[Evidence, str], Effect]
    threshold: float = 0.0
    margin: float = 0.0
    above: bool = True
    corrected: str = ""
    cases: Callable[[Evidence], list[str]] = _all_tasks

    def verdict(self, effect: Effect) -> str:
        sign = 1 if self.above else -1
        ends = (sign * (end - self.threshold) for end in (effect.low, effect.high))
        low, high = sorted(ends)
        if math.isnan(low) or math.isnan(high):
            return OPEN
        if low > 0 and high >= self.margin:
            return SUPPORTED
        if high < 0 and sign * (effect.value - self.threshold) <= -self.margin < 0:
            return REVERSED
        return CONTRADICTED if high < self.margin else OPEN


def judge(claim: Claim, evidence: Evidence) -> dict:
    """A claim with its verdicts; `effect`, `interval`, `n` are those of the case hardest on it."""
    cases = {}
    for case in claim.cases(evidence):
        effect = claim.measure(evidence, case)
        if effect.n_seeds:
            cases[case] = {
                "verdict": claim.verdict(effect),
                "effect": number(effect.value),
                "interval": [number(effect.low), number(effect.high)],
                "detectable": number(effect.detectable),
                "n": effect.n,
                "n_keys": effect.n_keys,
                "n_seeds": effect.n_seeds,
            }
    hardest = min(
        cases.values(),
        key=lambda case: (case["effect"] - claim.threshold) * (1 if claim.above else -1),
        default=None,
    )
    return {
        "id": claim.id,
        "name": claim.name,
        "text": claim.text,
        "source": claim.source,
        "test": claim.test,
        "threshold": claim.threshold,
        "margin": claim.margin,
        "above": claim.above,
        "corrected": claim.corrected,
        "page": claim.page,
        "track": evidence.track,
        "verdict": over_cases([case["verdict"] for case in cases.values()]),
        "effect": hardest and hardest["effect"],
        "interval": hardest and hardest["interval"],
        "n": hardest["n"] if hardest else 0,
        "cases": cases,
        "evidence": _sentence(cases),
    }


def over_cases(verdicts: list[str]) -> str:
    """One verdict: that which all cases share, else `open`."""
    found = set(verdicts)
    return found.pop() if len(found) == 1 else OPEN


def judge_all(evidence: Evidence, groups: dict[str, tuple[Claim, ...]]) -> list[dict]:
    """Every claim with its verdict and the name of its group."""
    return [
        judge(claim, evidence) | {"group": group}
        for group, claims in groups.items()
        for claim in claims
    ]


def verdict_on(claims: list[dict], claim: str, case: str) -> str | None:
    """The verdict of one of the judged claims on a task or family; None where it was not tested."""
    (found,) = [one for one in claims if one["id"] == claim]
    return found["cases"].get(case, {}).get("verdict")


def tests(claims: list[dict]) -> dict[str, float]:
    """How many tests of differences and of limits there are, and how many chance would support.

    A test of a difference that is not there supports its claim with probability 2.5 %. A limit has no
    value at which there is nothing: a claim that something is small is right where there is nothing.
    """
    n = {
        kind: sum(
            case["interval"][0] is not None
            for claim in claims
            if bool(claim["margin"]) == kind
            for case in claim["cases"].values()
        )
        for kind in (True, False)
    }
    return {"n": n[True], "limits": n[False], "by_chance": 0.025 * n[True]}


def _sentence(cases: dict[str, dict]) -> str:
    if not cases:
        return "This run holds nothing to test it on."
    parts = []
    for name, case in cases.items():
        low, high = case["interval"]
        around = "no interval" if low is None else f"{low:.2f} to {high:.2f}"
        parts.append(f"{name} {case['effect']:.2f} ({around}; {case['verdict']})")
    return "; ".join(parts) + "."
