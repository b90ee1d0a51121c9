"""Open points of the reviewers: clusters and synergy, whether the flip is binary, why the
directions differ, an instruction instead, hybrid prompts.

The cell of each direction is the one that lab 06 chose on validation keys; nothing is chosen here,
and everything that is reported comes from test keys. The *margin* is log p(first token of the
rule's answer) - log p(first token of the memory's) at the decision position: positive leans to the
rule. Prompts whose two answers begin with the same token have none and are left out wherever it is
used.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from memgen.config.analyses import OpenPointsParameters
from memgen.config.training import TrainingParameters
from memgen.errors import StudyError
from memgen.labs.hybrid import hybrid
from memgen.labs.instruction import instruct
from memgen.neurons.clusters import by_cluster, cluster, coactivation, top_neurons
from memgen.stats.auc import roc_auc
from memgen.stats.intervals import number, wilson
from memgen.stats.reported import by_key, rate
from memgen.steering.answers import PHASES, beginnings, behaviors_of, written
from memgen.steering.case import Case, open_case
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.groups import N_RANDOM, groups_to_steer, pairwise, steer_groups
from memgen.steering.margins import margins
from memgen.steering.steering import Steering
from memgen.terms import BEHAVIORS, CODE, DIRECTIONS, START, TARGET

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
N_SCORED, N_BASE = 2000, 250  # prompts, at most, that lab 02 scored its model and its base on


def along_alpha(steering: Steering, case: Case, alphas: list[float]) -> tuple[dict, pd.DataFrame]:
    """Margins and behaviours along the strength at the chosen top_n; what answers that are neither
    consist of.
    """
    steps = [0.0, *alphas]
    one = cell_shift(Cell(case.cell.top_n, 1.0), steering.nmd, steering.rho)
    shifts = case.sign * np.stack([alpha * one for alpha in steps])
    tokens, valid = written(steering, shifts, case.prompts), case.distinct
    codes = behaviors_of(tokens, case.candidates)
    margin = margins(steering, shifts, case.begin_differently)
    quantiles = (
        np.quantile(margin, QUANTILES, axis=1).T
        if valid.any()
        else np.full((len(steps), len(QUANTILES)), np.nan)
    )
    shares = np.stack([np.bincount(row, minlength=3) / len(row) for row in codes])
    crossings = (np.diff(margin > 0, axis=0)).sum(0)
    partial = beginnings(tokens[1:, valid], case.candidates[valid])[
        codes[1:, valid] == CODE["other"]
    ]
    result = {
        "n": int(valid.sum()),
        "n_all": len(case.rows),
        "alphas": steps,
        "quantile_levels": list(QUANTILES),
        "quantiles": [[number(v) for v in row] for row in quantiles],
        "behaviors": {name: shares[:, CODE[name]].tolist() for name in BEHAVIORS},
        "sign_changes": {
            name: rate(hit)
            for name, hit in (
                ("never", crossings == 0),
                ("once", crossings == 1),
                ("more", crossings > 1),
            )
        },
        "other_answers": {
            name: rate(hit)
            for name, hit in (
                ("mixed", partial == 2),
                ("begun", partial == 1),
                ("neither", partial == 0),
            )
        },
    }
    names = [f"q{round(100 * level):02d}" for level in QUANTILES]
    table = pd.DataFrame(quantiles, columns=names).assign(
        alpha=steps, n=int(valid.sum()), direction=case.direction, chosen=case.cell.alpha
    )
    return result, table.assign(**{name: shares[:, CODE[name]] for name in BEHAVIORS})


def commitment(steering: Steering, case: Case) -> tuple[dict, pd.DataFrame]:
    """The chosen shift throughout, only until the first answer token is written, and only after it.

    `success`: the whole answer is the target's. `stays`: it is the one given without steering.
    `mixed`: begun as one answer and continued with tokens of the other (of the prompts whose
    answers begin differently).
    """
    delta = case.sign * cell_shift(case.cell, steering.nmd, steering.rho)[None]
    found, valid = {}, case.distinct
    for phase in PHASES:
        tokens = written(steering, delta, case.prompts, phase)[0]
        codes = behaviors_of(tokens, case.candidates)
        mixed = (beginnings(tokens, case.candidates) == 2) & (codes == CODE["other"])
        found[phase] = {
            **rate(codes == TARGET[case.direction], "success"),
            "stays": float((codes == CODE[START[case.direction]]).mean()),
            "other": float((codes == CODE["other"]).mean()),
            "mixed": rate(mixed[valid])["share"],
            "n_mixed": int(valid.sum()),
        }
    table = pd.DataFrame(
        [
            {
                "direction": case.direction,
                "phase": phase,
                "low": x["interval"][0],
                "high": x["interval"][1],
                **{name: x[name] for name in ("success", "stays", "other", "mixed", "n")},
            }
            for phase, x in found.items()
        ]
    )
    return found, table


def asymmetry(
    success: dict[str, np.ndarray],
    margin: dict[str, np.ndarray],
    distinct: dict[str, np.ndarray],
    keys: dict[str, np.ndarray],
    seed: int,
) -> dict:
    """m2g minus g2m of success, keys of both directions resampled together; and by direction the
    AUC of the unsteered |margin| for success.

    success, distinct: bool `[P]` by direction; margin: float of the distinct prompts only; keys:
    `[P]`. An AUC below 0.5: prompts with a larger initial margin are changed less often.
    """
    values = np.concatenate([success[d] for d in DIRECTIONS]).astype(float)
    is_first = np.concatenate(
        [np.full(len(success[d]), d == DIRECTIONS[0]) for d in DIRECTIONS]
    ).astype(float)

    def difference(values, is_first, weights):
        with np.errstate(invalid="ignore", divide="ignore"):
            first, second = (
                (weights * chosen) @ values / (weights @ chosen)
                for chosen in (is_first, 1 - is_first)
            )
        return first - second

    result = {
        "difference": by_key(
            difference, np.concatenate([keys[d] for d in DIRECTIONS]), values, is_first, seed=seed
        )
    }
    for d in DIRECTIONS:
        size, own = np.abs(margin[d]), success[d][distinct[d]]
        auc = by_key(
            lambda scores, labels, weights: roc_auc(labels, scores, weights),
            keys[d][distinct[d]],
            size,
            own,
            seed=seed,
        )
        result[d] = {
            "auc": auc.pop("value"),
            **auc,
            "n_success": int(own.sum()),
            "median_margin": float(np.median(size)) if len(size) else None,
        }
    return result


def compare_directions(steering: Steering, cases: dict[str, Case], seed: int) -> dict:
    """`asymmetry` of the chosen cells."""
    success, margin, distinct, keys = {}, {}, {}, {}
    for d, case in cases.items():
        chosen = case.sign * cell_shift(case.cell, steering.nmd, steering.rho)[None]
        success[d], distinct[d], keys[d] = (
            steering.outcomes(chosen, case.rows)[0] == TARGET[d],
            case.distinct,
            case.keys,
        )
        margin[d] = margins(steering, 0 * chosen, case.begin_differently)[0]
    return asymmetry(success, margin, distinct, keys, seed)


def performance(
    trained: dict, intervened: dict, frame: pd.DataFrame, n_side_effect_prompts: int, family: str
) -> dict:
    """Accuracy on free and keyed prompts of the base, the dual model and the steered model, from
    the results of labs 02 and 06: rates with Wilson intervals.

    The base was scored on validation prompts; it never saw a key, so it has no keyed accuracy. None
    where the run has no base.
    """
    free, keyed = frame[frame.kind == "free"], frame[frame.kind == "keyed"]
    n_free = {split: int((free.split == split).sum()) for split in ("validation", "test")}

    def entry(value: float | None, n: int) -> dict:
        known = value is not None and n > 0
        return {
            "accuracy": float(value) if known else None,
            "interval": list(wilson(round(value * n), n)) if known else None,
            "n": n if known else 0,
        }

    history = trained.get("base_history") or []
    base = (
        history[-1].get("by_family", {}).get(family, history[-1]["free_accuracy"])
        if history
        else None
    )
    result = {
        "base": {"free": entry(base, min(N_BASE, n_free["validation"])), "keyed": entry(None, 0)},
        "dual": {
            "free": entry(trained["free_accuracy"], min(N_SCORED, n_free["test"])),
            "keyed": entry(trained["keyed_accuracy"], min(N_SCORED // 3, len(keyed))),
        },
    }
    for d in DIRECTIONS:
        result[d] = {
            "free": entry(
                intervened[d]["free_accuracy_after"], min(n_side_effect_prompts, n_free["test"])
            ),
            "keyed": entry(
                intervened[d]["keyed_accuracy_after"], min(n_side_effect_prompts, len(keyed))
            ),
        }
    return result


def study(
    steering: Steering,
    p: OpenPointsParameters,
    answered: pd.DataFrame,
    frame: pd.DataFrame,
    arrays: dict[str, np.ndarray],
    earlier: dict,
) -> tuple[dict, dict, dict]:
    """All points: `(result, tables, seconds)` of the stage.

    `arrays`: the differentiation stage's. `earlier`: what other labs left: `trained` and
    `intervened` (results of 02 and 06), `differentiated` (result of 04), `training_parameters` (of
    02, a dictionary) and `n_side_effect_prompts` (of 06).
    """
    began, intervened = time.monotonic(), earlier["intervened"]
    if earlier["differentiated"]["site"] != steering.site:
        raise StudyError(
            "lab 04_differentiation kept the hidden states of site"
            f" {earlier['differentiated']['site']}, lab 06_intervention steers at {steering.site};"
            " run both with the same site"
        )
    cases = {d: open_case(steering, answered, d, intervened[d], p.n_prompts) for d in DIRECTIONS}
    neurons = top_neurons(steering.nmd, steering.rho, p.n_top)
    correlations = coactivation(arrays["memory"], arrays["rule"], neurons)
    labels = cluster(correlations, p.n_clusters)
    groups = groups_to_steer(neurons, labels, np.random.default_rng([p.seed, 1]))
    result: dict = {name: {} for name in ("clusters", "synergy", "binary", "commitment")}
    tables: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("clusters", "binary", "commitment")
    }
    for d, case in cases.items():
        result["synergy"][d] = pairwise(steering, case, neurons[: p.n_pairwise], p.seed)
        for name, (found, table) in {
            "clusters": steer_groups(steering, case, neurons, groups, p.seed),
            "binary": along_alpha(steering, case, p.alphas),
            "commitment": commitment(steering, case),
        }.items():
            result[name][d] = found
            tables[name].append(table)
    result["clusters"] |= {
        "n_neurons": len(neurons),
        "n_clusters": int(labels.max(initial=-1)) + 1,
        "n_draws": N_RANDOM,
        "coactivation": by_cluster(correlations, labels),
        "layers": np.bincount(neurons[:, 0], minlength=len(steering.rho)).tolist(),
    }
    result["asymmetry"] = compare_directions(steering, cases, p.seed)
    result["performance"] = performance(
        earlier["trained"],
        intervened,
        frame,
        earlier["n_side_effect_prompts"],
        p.task.split("-")[0],
    )
    result["hybrid"] = hybrid(
        steering.model, steering.tokenizer, steering.task, frame, p.n_hybrid, p.seed
    )
    steered_after = time.monotonic()
    result["instruction"] = instruct(
        steering.model,
        steering.tokenizer,
        steering.task,
        frame,
        answered,
        {d: case.rows for d, case in cases.items()},
        TrainingParameters(**earlier["training_parameters"]),
        p,
    )
    if result["instruction"]:
        for d in DIRECTIONS:
            result["instruction"][d] |= {
                "steering": {
                    name: intervened[d][name] for name in ("success", "interval", "other", "n")
                },
                "rephrasing": _rephrasing(intervened[d]),
            }
    seconds = {
        "seconds": round(time.monotonic() - began, 1),
        "instruction_seconds": round(time.monotonic() - steered_after, 1),
    }
    return (
        result,
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        seconds,
    )


def _rephrasing(chosen: dict) -> dict:
    n = chosen["rephrase_n"]
    return {
        "success": chosen["rephrase_floor"] if n else None,
        "interval": list(wilson(round(chosen["rephrase_floor"] * n), n)) if n else None,
        "n": n,
    }
