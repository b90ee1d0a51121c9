"""Does one method do more than another on the same prompts? Of the scoreboard and of detection; and what the
directions of single layers have in common.

Success is that within the limit on lost free prompts: a method of which no candidate stays within it
turns none, as in `quantities.steering`. A seed in which one of the two was not tried is left out. Both
labs run on models from scratch alone, whose seeds have keys of their own, so the interval is over seeds.
"""

from __future__ import annotations

from collections.abc import Callable

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.rows import by_seed
from memgen.stats.auc import CHANCE
from memgen.stats.over_seeds import Effect
from memgen.terms import DIRECTIONS

BOARD, DETECTION = "13_scoreboard", "14_detection"
CORRELATES = "15_correlates"
#: as the two rosters call them: what is held against each other here
PAPER, CAA, RANDOM, OPTIMISED = "nmd", "caa", "random_directions", "optimised_retained"
KFAC = "kfac"
PROBE, BLACK_BOX = "probe", "content_unchanged"
Row = tuple[float, int, int]  # difference of a seed, its prompts, its keys


def beyond(evidence: Evidence, task: str, direction: str, method: str, rival: str) -> Effect:
    """Success of a method less that of a rival, within the limit, same prompts of test keys."""
    rows: list[Row] = []
    for board in evidence.stage(task, BOARD):
        pair = [board[direction]["rows"].get(name) for name in (method, rival)]
        if all(row and row["max"] and row["max"]["n"] for row in pair):
            own, other = (row["kept"]["success"] if row["kept"] else 0.0 for row in pair)
            asked = pair[0]["max"]
            rows.append((own - other, asked["n"], asked["n_keys"]))
    return _of(rows)


def detects_beyond(evidence: Evidence, task: str, detector: str, rival: str) -> Effect:
    """AUC of a detector less that of a rival, or less one half where that is below chance."""
    rows: list[Row] = []
    for lab in evidence.stage(task, DETECTION):
        own, other = (lab["detectors"].get(name, {}).get("auc") for name in (detector, rival))
        if own is not None and other is not None:
            rows.append((own - max(CHANCE, other), lab["n_test"], lab["n_test_keys"]))
    return _of(rows)


def own_way(evidence: Evidence, task: str) -> Effect:
    """Cosine of the held vector with its refit less that (absolute) with the mean difference.

    At the held vector's layer; refit: of two disjoint halves of the train keys; mean over both directions.
    """
    return _of(
        [
            (
                _mean(lab, lambda x: x["held_refit"] - abs(x["held_difference"])),
                lab["n_fit"],
                lab["n_train_keys"],
            )
            for lab in evidence.stage(task, CORRELATES)
        ]
    )


def far_out(evidence: Evidence, task: str) -> Effect:
    """Share of the states shifted by the held vector that lie further out than 95 % of the untouched ones.

    States of test keys at the vector's layer and chosen dose; mean over both directions.
    """
    return _of(
        [
            (
                _mean(lab, lambda x: x["methods"]["held"]["beyond"]),
                min(lab[d]["methods"]["held"]["n"] for d in DIRECTIONS),
                min(lab[d]["methods"]["held"]["n_keys"] for d in DIRECTIONS),
            )
            for lab in evidence.stage(task, CORRELATES)
        ]
    )


def _mean(lab: dict, number: Callable[[dict], float]) -> float:
    return sum(number(lab[d]) for d in DIRECTIONS) / len(DIRECTIONS)


def _of(rows: list[Row]) -> Effect:
    return by_seed(*([row[column] for row in rows] for column in range(3)))
