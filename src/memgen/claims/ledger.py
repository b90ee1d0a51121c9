"""The ledger of claims: what is claimed, by whom, which test decides it, and what the runs say.

Every claim of `CLAIMS` is a quantity, measured task by task on test keys, and a threshold, fixed
before any of these intervals was computed. On one task it is `supported` if the whole 95 % interval
lies on the right side of the threshold, `contradicted` if it lies on the wrong side, and
`inconclusive` otherwise, or where there is nothing to measure. Over all tasks on which it can be
tested a claim is supported only if it is on each, and contradicted if it is on any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from memgen.claims.evidence import Evidence
from memgen.claims.quantities import (
    CARRIES,
    GATE,
    NEAR_RANDOM,
    asymmetry,
    auc,
    base_share,
    before_the_answer,
    beyond_instruction,
    deeper,
    differ,
    dual,
    format_gap,
    later,
    steers,
    transfers,
)
from memgen.stats.intervals import number
from memgen.stats.over_seeds import Effect
from memgen.tasks.families import families, one_format
from memgen.terms import CONTRADICTED, INCONCLUSIVE, SUPPORTED


@dataclass(frozen=True)
class Claim:
    """One claim; `measure` gives the effect on a case (a task, unless `cases` says otherwise)."""

    id: str
    name: str
    text: str
    source: str
    test: str
    page: str
    measure: Callable[[Evidence, str], Effect]
    threshold: float = 0.0
    above: bool = True
    cases: Callable[[Evidence], list[str]] = lambda evidence: evidence.tasks
    decide: Callable[[Evidence, str], str] | None = None  # instead of the rule on intervals

    def verdict(self, evidence: Evidence, case: str, effect: Effect) -> str:
        if self.decide:
            return self.decide(evidence, case)
        if math.isnan(effect.low) or math.isnan(effect.high):
            return INCONCLUSIVE
        good, bad = effect.low > self.threshold, effect.high < self.threshold
        if not self.above:
            good, bad = bad, good
        return SUPPORTED if good else CONTRADICTED if bad else INCONCLUSIVE


def in_gate(training: dict) -> bool:
    """Does a model show both behaviours on test keys? `training`: the result of lab 02."""
    return all(low <= training[name] <= high for name, (low, high) in GATE.items())


def passes(evidence: Evidence, task: str) -> str:
    """The gate on test keys: in every seed, in none, or in some."""
    held = {in_gate(found) for found in evidence.stage(task, "02_training")}
    return {(True,): SUPPORTED, (False,): CONTRADICTED}.get(tuple(held), INCONCLUSIVE)


CLAIMS = (
    Claim(
        "dual",
        "both behaviours",
        "One model can show both behaviours on prompts that it never saw.",
        "paper, v1 and v2",
        "gate on test keys in every seed: memory and rule at least 25 %, other at most 20 %, free"
        " prompts at least 90 % right; shown is the smaller of the two shares",
        "02_training",
        dual,
        threshold=GATE["memory_rate"][0],
        decide=passes,
    ),
    Claim(
        "differ",
        "neurons differ",
        "Neurons differ by behaviour beyond what a changed prompt alone does.",
        "paper, v1 and v2",
        "share of significant neurons in a layer, less the same for pairs whose behaviour stays:"
        " interval over seeds above 0",
        "04_differentiation",
        differ,
    ),
    Claim(
        "deeper",
        "later layers differ more",
        "Later layers differ more than early ones.",
        "paper, v1 and v2",
        "largest |rho| of the last layer less that of the first: interval over seeds above 0",
        "04_differentiation",
        deeper,
    ),
    Claim(
        "later",
        "top neurons lie late",
        "The top neurons lie in the later layers.",
        "paper, v2",
        "share of the top 5 % of neurons by |rho| in the later half of the layers, less one half:"
        " interval over seeds above 0",
        "04_differentiation",
        later,
    ),
    Claim(
        "predictable",
        "predictable",
        "The behaviour can be predicted before the answer is written.",
        "paper, v1 and v2",
        "AUC of the probe on test keys: interval above 0.5",
        "05_prediction",
        auc,
        threshold=0.5,
    ),
    Claim(
        "beyond_prompt",
        "beyond the prompt",
        "Hidden states predict it better than the prompt's tokens do.",
        "reviewers",
        "AUC of the probe less that of the prompt alone, same prompts: interval above 0",
        "05_prediction",
        lambda e, t: auc(e, t, "prompt_only"),
    ),
    Claim(
        "before_answer",
        "before the answer is read",
        "It can be predicted in layers where the answer itself cannot be read yet.",
        "ours",
        "AUC of the probe in the last layer before the logit lens reads the answer, less one half:"
        " interval over seeds above 0",
        "09_confounds",
        before_the_answer,
    ),
    Claim(
        "steer_m2g",
        "steering, m2g",
        "Steering the top neurons turns memorization to generalization more often than every"
        " control.",
        "paper, v1 and v2",
        "success on test keys less that of the strongest control, rephrasing among them: interval"
        " above 0",
        "06_intervention",
        lambda e, t: steers(e, t, "m2g"),
    ),
    Claim(
        "steer_g2m",
        "steering, g2m",
        "Steering the top neurons turns generalization to memorization more often than every"
        " control.",
        "paper, v1 and v2",
        "success on test keys less that of the strongest control, rephrasing among them: interval"
        " above 0",
        "06_intervention",
        lambda e, t: steers(e, t, "g2m"),
    ),
    Claim(
        "asymmetry",
        "m2g is easier",
        "Memory is easier to leave than to enter: m2g succeeds more often than g2m.",
        "paper, v2",
        "success of m2g less that of g2m: interval above 0",
        "11_open_points",
        asymmetry,
    ),
    Claim(
        "same_format",
        "also in one format",
        "Steering away from memory beats every control also where both answers share one format.",
        "reviewers",
        "as steer_m2g, on the tasks whose two answers look alike",
        "09_confounds",
        lambda e, t: steers(e, t, "m2g"),
        cases=lambda e: [task for task in e.tasks if one_format(task)],
    ),
    Claim(
        "format",
        "format helps",
        "It works better where the two answers differ in format than where they look alike.",
        "ours",
        "success of m2g with tagged answers less that with matched ones, same keys: interval"
        " above 0",
        "09_confounds",
        format_gap,
        cases=lambda e: families(e.tasks),
    ),
    Claim(
        "retrain",
        "steers retrains",
        "Neurons found in one model steer its retrains from the same base.",
        "paper, v2",
        "success of another model's neurons less that of random ones, same base, mean of both"
        " directions: interval above 0",
        "07_transfer",
        lambda e, t: transfers(e, t, "retrain", True),
    ),
    Claim(
        "stranger",
        "steers no strangers",
        "They do not steer models that were trained from another random start.",
        "ours",
        "the same between models without a common base: interval below ten points above random"
        " neurons",
        "07_transfer",
        lambda e, t: transfers(e, t, "retrain", False),
        threshold=NEAR_RANDOM,
        above=False,
    ),
    Claim(
        "across_tasks",
        "steers other tasks",
        "They partly steer other tasks on the same base.",
        "paper, v2",
        "success of other tasks' neurons less that of random ones, same base, mean of both"
        " directions: interval above 0",
        "07_transfer",
        lambda e, t: transfers(e, t, "task", True),
    ),
    Claim(
        "base",
        "the base carries it",
        "The base carries most of the signal, adapters add little.",
        "paper, v2",
        "mean |NMD| of the base alone over that with the adapter on, same pairs: interval over"
        " seeds above one half",
        "adapters",
        base_share,
        threshold=CARRIES,
    ),
    Claim(
        "instruction",
        "beats an instruction",
        "Steering changes sides more often than an instruction trained into the model.",
        "reviewers",
        "success of steering less that of the instruction, mean of both directions: interval over"
        " seeds above 0",
        "11_open_points",
        beyond_instruction,
    ),
)


def judge(claim: Claim, evidence: Evidence) -> dict:
    """A claim with its verdicts; `effect`, `interval`, `n` are those of the case hardest on it."""
    cases = {}
    for case in claim.cases(evidence):
        effect = claim.measure(evidence, case)
        if effect.n_seeds:
            cases[case] = {
                "verdict": claim.verdict(evidence, case, effect),
                "effect": number(effect.value),
                "interval": [number(effect.low), number(effect.high)],
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
        "above": claim.above,
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
    """One verdict: supported if it is everywhere, contradicted if it is anywhere."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else INCONCLUSIVE


def judge_all(evidence: Evidence) -> list[dict]:
    """Every claim with its verdict."""
    return [judge(claim, evidence) for claim in CLAIMS]


def verdict_on(claims: list[dict], claim: str, case: str) -> str | None:
    """The verdict of one of the judged claims on a task or family; None where it was not tested."""
    (found,) = [one for one in claims if one["id"] == claim]
    return found["cases"].get(case, {}).get("verdict")


def _sentence(cases: dict[str, dict]) -> str:
    if not cases:
        return "This run holds nothing to test it on."
    parts = []
    for name, case in cases.items():
        low, high = case["interval"]
        around = "no interval" if low is None else f"{low:.2f} to {high:.2f}"
        parts.append(f"{name} {case['effect']:.2f} ({around}; {case['verdict']})")
    return "; ".join(parts) + "."
