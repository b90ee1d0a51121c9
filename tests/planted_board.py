"""Results of labs 13 to 16 as they write them, with planted rates, areas, cosines and shares."""

from __future__ import annotations

from memgen.terms import DIRECTIONS

#: in which the paper's neurons are ahead of every rival, and an edit is ahead of them
RATES = {"nmd": 0.5, "caa": 0.3, "random_directions": 0.3, "optimised_retained": 0.3, "kfac": 0.8}


def row(success: float | None, n: int = 100) -> dict:
    """A method of the board; None: no candidate of it stays within the limit."""
    found = {"n": n, "n_keys": 12, "success": success}
    kept = None if success is None else found
    return {"candidates": 50, "max": found | {"success": 1.0}, "kept": kept}


def board(rows: dict[str, dict | None] | None = None, **rates: float | None) -> dict:
    """Lab 13's result. `rows`: of methods that are as they are here in both directions (None: left out)."""
    found = {name: row(rate) for name, rate in (RATES | rates).items()} | (rows or {})
    there = {name: one for name, one in found.items() if one is not None}
    return {direction: {"rows": dict(there)} for direction in DIRECTIONS}


def detection(box: float | None = 0.9, probe: float | None = 0.7) -> dict:
    """Lab 14's result."""
    aucs = {"content_unchanged": {"auc": box}, "probe": {"auc": probe}}
    return {"n_test": 100, "n_test_keys": 12, "detectors": aucs}


def correlates(refit: float = 0.9, difference: float = 0.1, beyond: float = 0.9) -> dict:
    """Lab 15's result: the held vector's cosines, and the share of its states that lie far out."""
    held = {"beyond": beyond, "n": 100, "n_keys": 12}
    one = {"held_refit": refit, "held_difference": difference, "methods": {"held": held}}
    return {"n_fit": 100, "n_train_keys": 12} | {direction: dict(one) for direction in DIRECTIONS}


def multiverse(share: float = 0.8, above: float | None = 0.5, cosine: float | None = 0.4) -> dict:
    """Lab 16's result: `share` of the specifications, `above`: Jaccard beyond chance, and agreement."""
    curves = {d: {"share": share, "n": 100, "n_keys": 12} for d in DIRECTIONS}
    halves = {"jaccard": 0.6, "above": above, "n": 60, "n_keys": 20}
    return {
        "curves": curves,
        "stability": {"halves": halves},
        "forecast": {"cosine": cosine, "separation": cosine},
    }
