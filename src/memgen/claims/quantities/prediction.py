"""Can the behaviour be predicted? AUCs of the probe and of what it has to beat."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.rows import of
from memgen.stats.auc import CHANCE, roc_auc
from memgen.stats.over_seeds import NOTHING, Effect, over_keys, over_seeds


def auc(evidence: Evidence, task: str) -> Effect:
    """AUC of the best layer's probe."""
    return _over_keys(evidence, task, lambda found: found["probe"], ("probe",))


def beyond(evidence: Evidence, task: str, baseline: str) -> Effect:
    """AUC of the probe less that of a baseline, or less one half where that is below chance."""
    return _over_keys(
        evidence,
        task,
        lambda found: found["probe"] - np.fmax(CHANCE, found[baseline]),
        ("probe", baseline),
    )


def _over_keys(evidence: Evidence, task: str, combine, columns: tuple[str, ...]) -> Effect:
    """`combine({column: AUC [B]})` in every seed: scores of two models are not on one scale."""
    rows = of(evidence.scores, task)
    if not set(columns) <= set(rows):
        return NOTHING
    rows = rows.dropna(subset=list(columns)).reset_index(drop=True)
    if rows.empty:
        return NOTHING
    units = rows[["seed", "key"]].drop_duplicates().reset_index(drop=True)
    place = pd.MultiIndex.from_frame(units).get_indexer(
        pd.MultiIndex.from_frame(rows[["seed", "key"]])
    )
    label = rows.label.to_numpy()

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, place]  # [B, prompts]; a row holds the keys of one seed
        return combine({c: roc_auc(label, rows[c].to_numpy(), drawn) for c in columns})

    return over_keys(
        statistic,
        units.seed.to_numpy(),
        units.key.to_numpy(),
        len(rows),
        shared_keys=evidence.shared_keys,
    )


def _layers(evidence: Evidence, task: str, value) -> dict[int, float | None]:
    """By seed a number of the probe's AUC by layer; None where one is undefined."""
    found = {
        seed: stages["05_prediction"]["auc"]
        for seed, stages in evidence.of_seeds(task)
        if "05_prediction" in stages
    }
    return {
        seed: None if None in auc or len(auc) < 2 else float(value(auc))
        for seed, auc in found.items()
    }


def deeper(evidence: Evidence, task: str) -> Effect:
    """AUC of the last layer's probe less that of the first layer's."""
    differences = _layers(evidence, task, lambda auc: auc[-1] - auc[0])
    return over_seeds(list(differences.values()), *_prompts(evidence, task))


def _step(counts: list[int]) -> float:
    """The smallest step of a rate over these numbers of prompts: one over the fewest of a seed."""
    return 1 / max(min(counts, default=1), 1)


def _prompts(evidence: Evidence, *tasks: str) -> tuple[int, float]:
    """How many prompts these tasks' AUCs rest on, and one over the fewest of a seed: their step."""
    counts = [f["n_test"] for task in tasks for f in evidence.stage(task, "05_prediction")]
    return sum(counts), _step(counts)


def last_layer(evidence: Evidence, case: str) -> Effect:
    """What the last layer's AUC adds to the mean of those before it: one task's less another's.

    `case`: `arithmetic-tagged against inference`.
    """
    return _both(
        evidence, case, lambda auc: auc[-1] - np.mean(auc[:-1]), lambda one, other: one - other
    )


def last_layer_only(evidence: Evidence, case: str, separates: float) -> Effect:
    """By how much the last layer's AUC is above `separates` in one task and below it in another.

    In every seed the smaller of the two distances. `case`: as above.
    """
    return _both(
        evidence,
        case,
        lambda auc: auc[-1],
        lambda one, other: min(one - separates, separates - other),
    )


def _both(evidence: Evidence, case: str, value, combine) -> Effect:
    """`combine` of a number of the AUC by layer in two tasks, over the seeds that both have."""
    one, other = case.split(AGAINST)
    of_one, of_other = (_layers(evidence, task, value) for task in (one, other))
    pairs = [(of_one[seed], of_other[seed]) for seed in of_one.keys() & of_other.keys()]
    found = [None if None in pair else combine(*pair) for pair in pairs]
    return over_seeds(found, *_prompts(evidence, one, other))


AGAINST = " against "


def tagged_against_inference(evidence: Evidence) -> list[str]:
    """The case of the paper: addition with tags, and inference."""
    pair = ("arithmetic-tagged", "inference")
    return [AGAINST.join(pair)] if set(pair) <= set(evidence.tasks) else []


def before_the_answer(evidence: Evidence, task: str) -> Effect:
    """Gain of the probe over the strongest baseline in the last layer that cannot read the answer.

    Over the seeds in which the lens is not told from chance there, on test keys: elsewhere the
    answer can be read already, whatever train keys say.
    """
    lenses = [f["lens"] for f in evidence.stage(task, "09_confounds")]
    found = [lens for lens in lenses if lens["before_answer"]]
    n = [lens["n"] for lens in found]
    return over_seeds([lens["gain_before"] for lens in found], sum(n), _step(n))
