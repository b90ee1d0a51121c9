"""Lab 14: detectors of the behaviour. Fitted, chosen and turned on train keys, reported on test keys.

Two kinds are kept apart: those that can be asked before the answer is written, and those that come
after it. The second kind costs answers, and what it costs is printed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from memgen.config.detection import DetectionParameters
from memgen.errors import InapplicableError
from memgen.neurons.probes import refuse_shared_keys
from memgen.neurons.prompt_features import prompt_features
from memgen.neurons.states import LabelledStates, labelled, read_labelled
from memgen.rivals.detectors.confidence import confidence_detectors, likelihoods
from memgen.rivals.detectors.detector import Found, When, strongest
from memgen.rivals.detectors.perturbation import (
    asked_again,
    changed_prompts,
    local_memorization,
    perturbation_detectors,
    shares,
)
from memgen.rivals.detectors.roster import BLACK_BOX, DETECTORS, PROBE
from memgen.rivals.detectors.states import fitted_probe, projection
from memgen.rivals.detectors.words import prompt_interactions, prompt_only
from memgen.stats.auc import roc_auc
from memgen.stats.columns import columns, numbers
from memgen.stats.intervals import NAN, Bootstrap, interval, number
from memgen.stats.reported import between, ends, shown
from memgen.store.reader import FinishedStage
from memgen.tasks import Task
from memgen.terms import BEHAVIORS, CHANGES, GENERALIZATION, MEMORIZATION, OTHER, Change

Sides = tuple[LabelledStates, LabelledStates]  # prompts of train and of test keys
CHANGE_WORDS = {"order": "another order", "content": "other content"}


def asked(model, tokenizer, answered: pd.DataFrame, site: str, limit: int) -> Sides:
    """Original conflict prompts of train and of test keys, with states `[n, L, d]`; *other* is dropped.

    At most `limit` of each, evenly over the keys. Errors: `InapplicableError` without both behaviours.
    """
    originals = answered[answered.rephrasing == 0]
    parts = [labelled(originals, split, limit) for split in ("train", "test")]
    for split, rows in zip(("train", "test"), parts):
        for behavior in (MEMORIZATION, GENERALIZATION):
            if not (rows.behavior == behavior).any():
                raise InapplicableError(
                    f"no conflict prompt of {split} keys shows {behavior}, so there is nothing to"
                    " detect; raise n_conflict_per_key, or take a model that shows both behaviours"
                )
    refuse_shared_keys(parts[0].key.to_numpy(), parts[1].key.to_numpy())
    train, test = (read_labelled(model, tokenizer, rows, site) for rows in parts)
    return train, test


def from_states(probe: FinishedStage, sides: Sides, seed: int) -> dict[str, Found]:
    """Detectors that look inside. `probe`: lab 05, whose best layer's probe is taken as it stands."""
    train, test = sides
    result, table = probe.result, probe.table("probes")
    layer = result["best_layer"]
    at = table[(table.site == result["site"]) & (table.layer == layer - 1)].iloc[0]
    found = fitted_probe(probe.arrays("probe"), layer, float(at.cv_auc), test.states)
    return {PROBE: found, "projection": projection(train.examples, test.states, seed)}


def from_words(task: Task, tokenizer, sides: Sides, seed: int) -> dict[str, Found]:
    """Detectors that see the prompt alone."""
    train, test = sides
    old, new = prompt_features(task, tokenizer, train.rows, test.rows)
    of = train.examples
    return {
        "prompt_only": prompt_only(old, new, of.labels, of.keys, seed),
        "prompt_interactions": prompt_interactions(old, new, of.labels, of.keys, seed),
    }


def from_confidence(model, tokenizer, sides: Sides, p: DetectionParameters) -> dict[str, Found]:
    """Detectors that see how likely the model finds what it reads and writes."""
    old, new = (likelihoods(model, tokenizer, side.rows, p.temperature) for side in sides)
    labels = sides[0].examples.labels
    return confidence_detectors(old, new, labels, p.min_k, (p.n_samples, p.seed))


def ask_again(
    model, tokenizer, task: Task, sides: Sides, answered: pd.DataFrame, n: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and test prompts, changed and answered: `perturbation.asked_again`.

    Train keys fix at most a sign, so of them nothing is asked that lab 03 has not asked already.
    """
    known = answered.drop_duplicates("prompt").set_index("prompt").answer
    tables = []
    for side, split in zip(sides, ("train", "test")):
        table = changed_prompts(task, side.rows, n)
        if split == "train":
            table = table[table.prompt.isin(known.index)].reset_index(drop=True)
        tables.append(asked_again(model, tokenizer, task, side.rows, table, known))
    return tables[0], tables[1]


def from_asking_again(again: tuple[pd.DataFrame, pd.DataFrame], sides: Sides) -> dict[str, Found]:
    """Detectors that see the answers to changed prompts."""
    labels = sides[0].examples.labels
    return perturbation_detectors(*again, labels, len(sides[1]))


def report(
    found: Mapping[str, Found],
    sides: Sides,
    answered: pd.DataFrame,
    again: pd.DataFrame,
    p: DetectionParameters,
) -> tuple[dict, dict[str, pd.DataFrame]]:
    """`result.json` and tables. `again`: of the test prompts.

    `scores`: one row per test prompt: key, prompt, answer, `label` (1: rule) and a column per
    detector, higher: rule.
    `detectors`: one row per detector: its AUC, and what that has above the probe's on the same prompts,
    with intervals over keys. `price`: the same of the black box by number of further prompts.
    """
    test = sides[1].examples
    drawn = {"seed": p.seed, "n_resamples": p.n_resamples}
    probe = found[PROBE].scores

    def over_keys(statistic, *arrays: np.ndarray) -> Bootstrap:
        return interval(statistic, test.keys, *arrays, **drawn)

    def row(name: str, one: Found, further: float) -> dict:
        auc = over_keys(roc_auc, test.labels, one.scores)
        above = over_keys(_above, test.labels, one.scores, probe)
        about = {"name": name, "further": further, "train_auc": one.train_auc}
        return about | {"choice": one.choice} | columns(auc=auc, difference=above)

    runs = further_prompts(again, len(test.labels), p)
    table = pd.DataFrame(
        [row(n, found[n], runs[d.further]) for n, d in DETECTORS.items() if n in found]
    )
    curve = pd.DataFrame(
        [row(BLACK_BOX, one, k) for k, one in by_price(again, len(test.labels), p).items()]
    )
    scores = sides[1].rows[["key", "prompt", "answer"]].assign(label=test.labels)
    scores = scores.assign(**{name: found[name].scores for name in table.name})
    result = {
        **counts(sides, answered),
        "n_samples": p.n_samples,
        "temperature": p.temperature,
        "detectors": {one["name"]: _entry(one) for one in table.to_dict("records")},
        "price": [_entry(one) for one in curve.to_dict("records")],
        "price_auc": numbers(curve.auc),
        "best": {when: best(found, when) for when in ("before", "after")},
        "changes": {c: of_change(again, sides[1], c, over_keys) for c in CHANGES},
    }
    return result, {"detectors": table, "price": curve, "scores": scores, "again": again}


def _above(labels, scores, probe, weights):
    """AUC of scores less that of the probe on the same prompts, `[B]`."""
    return roc_auc(labels, scores, weights) - roc_auc(labels, probe, weights)


def further_prompts(again: pd.DataFrame, n: int, p: DetectionParameters) -> dict[str, float]:
    """Further answers that a detector costs per prompt, in the mean, by what it asks for."""
    asked_of = {change: float((again.change == change).sum() / max(n, 1)) for change in CHANGES}
    return {"nothing": 0.0, "samples": float(p.n_samples), **asked_of}


def by_price(again: pd.DataFrame, n: int, p: DetectionParameters) -> dict[int, Found]:
    """The black box with 1, 2, ... further prompts each. No number of them is chosen."""
    found = {}
    for k in range(1, p.n_perturbations + 1):
        found[k] = Found(-shares(again, n, "content", "unchanged", k), NAN)
    return found


def best(found: Mapping[str, Found], when: When) -> str:
    """The name of the detector of this kind that is best on train keys."""
    return strongest({n: one for n, one in found.items() if DETECTORS[n].when == when}).choice


def counts(sides: Sides, answered: pd.DataFrame) -> dict:
    """How many prompts and keys there are, and how many originals were dropped as *other*, by split."""
    originals = answered[answered.rephrasing == 0].drop_duplicates("prompt")
    dropped = originals[originals.behavior == OTHER].split.value_counts()
    every = originals.split.value_counts()
    return {
        "n_train": len(sides[0]),
        "n_test": len(sides[1]),
        "n_test_keys": int(sides[1].rows.key.nunique()),
        "n_rule": int(sides[1].examples.labels.sum()),
        "n_other": {split: int(dropped.get(split, 0)) for split in ("train", "test")},
        "n_originals": {split: int(every.get(split, 0)) for split in ("train", "test")},
    }


def of_change(again: pd.DataFrame, side: LabelledStates, change: Change, over_keys) -> dict:
    """What a kind of change does to test prompts: what makes the black box work, or fail.

    `same_rule`: share of the changed prompts that keep the rule's answer (the question was not really
    another one); `lost`: share answered by neither behaviour; by first behaviour, the shares of
    answers that are `unchanged` and `solved`, with intervals over keys; `limem`.
    """
    n = len(side)
    asked_of = again[again.change == change]
    unchanged, solved = (shares(again, n, change, what) for what in ("unchanged", "solved"))
    has = np.isin(np.arange(n), asked_of.row)
    right = side.examples.labels == 1
    found: dict = {
        "n": len(asked_of),
        "n_without": int((~has).sum()),
        "same_rule": number(asked_of.same_rule.mean()) if len(asked_of) else None,
        "limem": number(local_memorization(right[has], solved[has])),
    }
    for behavior, mine in zip(BEHAVIORS[:2], (~right, right)):
        rows = np.flatnonzero(has & mine)
        for name, values in (("unchanged", unchanged), ("solved", solved)):
            share = _share(values, rows, over_keys)
            found |= {f"{name}_{behavior}": share[0], f"{name}_{behavior}_interval": share[1]}
        found[f"n_{behavior}"] = len(rows)
    return found


def _share(values: np.ndarray, rows: np.ndarray, over_keys) -> tuple[float | None, list]:
    """Mean over these rows of all that have a value, with its interval over keys."""
    mine = np.zeros(len(values))
    mine[rows] = 1.0
    if not len(rows):
        return None, [None, None]
    found = over_keys(_mean_of, values, mine)
    return number(found.estimate), ends(found)


def _mean_of(values, mine, weights):
    """Weighted mean `[B]` of the values where `mine` is 1; nan where a resample drew none."""
    total = weights @ mine
    return np.divide(
        weights @ (values * mine), total, out=np.full(len(total), NAN), where=total > 0
    )


def _entry(row: dict) -> dict:
    """A row of the tables as `result.json` holds it."""
    return {
        "auc": number(row["auc"]),
        "interval": [number(row["auc_low"]), number(row["auc_high"])],
        "difference": number(row["difference"]),
        "difference_interval": [number(row["difference_low"]), number(row["difference_high"])],
        "train_auc": number(row["train_auc"]),
        "choice": row["choice"],
        "further": row["further"],
    }


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """The table of detectors, titled, by when they can be asked."""
    rows = []
    for one in table.to_dict("records"):
        about = DETECTORS[one["name"]]
        rows.append(
            {
                "asked": f"{about.when} the answer",
                "detector": about.title,
                "needs": about.needs,
                "further answers": one["further"],
                "AUC": one["auc"],
                "interval": between([number(one["auc_low"]), number(one["auc_high"])]),
                "less the probe": one["difference"],
                "its interval": between(
                    [number(one["difference_low"]), number(one["difference_high"])], "+.2f"
                ),
                "train keys": one["train_auc"],
                "chosen there": one["choice"],
            }
        )
    return pd.DataFrame(rows)


def checks(r: dict, answered: pd.DataFrame) -> list[tuple[str, bool]]:
    """What has to hold, in words, and whether it does."""
    train, test = (set(answered.key[answered.split == name]) for name in ("train", "test"))
    found = r["detectors"]
    costs = all(
        found[name]["further"] == 0 for name, one in DETECTORS.items() if one.when == "before"
    )
    return [
        ("train and test keys are disjoint", not train & test),
        ("a detector that comes before the answer costs no further one", costs),
        (
            "the probe is level with itself",
            found[PROBE]["difference"] in (0.0, None),
        ),
    ]


def in_words(r: dict) -> str:
    """The answer of the lab."""

    def told(name: str) -> str:
        one = r["detectors"][name]
        return f"{DETECTORS[name].title}, {shown(one['auc'])} {between(one['interval'])}"

    box, dropped = r["detectors"][BLACK_BOX], r["n_other"]["test"]
    stays = r["changes"]["content"]
    return (
        f"AUC on {r['n_test']} prompts of {r['n_test_keys']} test keys ({dropped} more, answered"
        f" otherwise, were dropped). Best on train keys before the answer: {told(r['best']['before'])};"
        f" after it: {told(r['best']['after'])}. {told(BLACK_BOX)}, for"
        f" {shown(box['further'], '.1f')} further answers and nothing else: above the probe by"
        f" {shown(box['difference'], '+.2f')} {between(box['difference_interval'], '+.2f')}. With other"
        f" content, {shown(stays['unchanged_memorization'], '.0%')} of the answers from memory stay,"
        f" and {shown(stays['unchanged_generalization'], '.0%')} of those by the rule."
    )
