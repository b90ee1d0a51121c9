"""Do the findings hang on a choice? Of lab 16: specifications, the set of neurons, the forecast.

The lab runs on models from scratch, whose seeds have keys of their own, so intervals are over seeds.
"""

from __future__ import annotations

import math

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.rows import by_seed
from memgen.claims.quantities.steering import within_limit
from memgen.stats.over_seeds import Effect, over_seeds
from memgen.stats.ranks import FEWEST, spearman
from memgen.terms import DIRECTIONS

LAB = "16_multiverse"
EVERY_TASK = "over the tasks"
STEP = 0.1  # by which a rank correlation of five tasks can change


def specifications(evidence: Evidence, task: str) -> Effect:
    """Share of the specifications in which steering is ahead beyond chance, mean of both directions."""
    values, prompts, keys = [], [], []
    for found in evidence.stage(task, LAB):
        curves = [found["curves"][direction] for direction in DIRECTIONS]
        values.append(sum(one["share"] for one in curves) / len(curves))
        prompts.append(sum(one["n"] for one in curves))
        keys.append(max(one["n_keys"] for one in curves))
    return by_seed(values, prompts, keys)


def stability(evidence: Evidence, task: str) -> Effect:
    """Jaccard of the top neurons of two halves of the train keys, less that of random sets as large."""
    found = [one["stability"]["halves"] for one in evidence.stage(task, LAB)]
    known = [one for one in found if one["above"] is not None]
    return by_seed(*([one[name] for one in known] for name in ("above", "n", "n_keys")))


def forecast(evidence: Evidence, case: str) -> Effect:
    """Rank correlation, over the tasks, of the pairs' agreement with the success of steering.

    One per seed, the mean of both directions; success on test keys within the limit on lost free
    prompts. A seed with fewer than `FEWEST` tasks, or in which nothing differs, is left out.
    """
    seeds = sorted({seed for task in evidence.tasks for seed, _ in evidence.of_seeds(task)})
    values, n = [], 0
    for seed in seeds:
        runs = [
            stages for task in evidence.tasks for s, stages in evidence.of_seeds(task) if s == seed
        ]
        runs = [stages for stages in runs if LAB in stages and "06_intervention" in stages]
        agreement = [stages[LAB]["forecast"]["cosine"] for stages in runs]
        found = []
        for direction in DIRECTIONS:
            reached = [
                within_limit(stages, direction, stages["06_intervention"][direction]["success"])
                for stages in runs
            ]
            found.append(spearman(agreement, reached))
        known = [value for value in found if not math.isnan(value)]
        values.append(sum(known) / len(known) if known else None)
        n += len(runs) if known else 0
    return over_seeds(values, n, STEP)


def over_tasks(evidence: Evidence) -> list[str]:
    """The one case of the forecast, where there are tasks enough for it."""
    return [EVERY_TASK] if len(evidence.tasks) >= FEWEST else []
