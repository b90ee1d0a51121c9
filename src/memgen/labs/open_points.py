"""Open points of the reviewers: groups of neurons, a binary flip, directions, instruction, hybrids.

The cells are those that lab 06 chose on validation keys; nothing is chosen here, and what is
reported comes from test keys. For the *margin* see `steering.margins`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from memgen.config.analyses import OpenPointsParameters
from memgen.errors import StudyError
from memgen.labs.instruction import instruct
from memgen.neurons.clusters import by_cluster, cluster, coactivation, top_neurons
from memgen.stats.auc import roc_auc
from memgen.stats.intervals import number
from memgen.stats.reported import between, by_key, known_rate, rate, shown
from memgen.steering.answers import PHASES, beginnings, behaviors_of, written
from memgen.steering.case import Case
from memgen.steering.cells import Cell
from memgen.steering.groups import N_RANDOM, groups_to_steer, pairwise, steer_groups
from memgen.steering.margins import margins
from memgen.steering.steering import Steering
from memgen.store.reader import FinishedStage
from memgen.terms import BEHAVIORS, CODE, DIRECTIONS, OTHER_CODE, START, TARGET
from memgen.training.instructions import Syllabus

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
N_SCORED, N_BASE = 2000, 250  # prompts, at most, that lab 02 scored its model and its base on


def pair_states(differentiated: FinishedStage, site: str) -> tuple[np.ndarray, np.ndarray]:
    """`(memory, rule)` states `[pairs, L, d]` of the train pairs that lab 04 kept, at a site."""
    if differentiated.result["site"] != site:
        raise StudyError(
            "lab 04_differentiation kept the hidden states of site"
            f" {differentiated.result['site']}, lab 06_intervention steers at {site}; run both with"
            " the same site"
        )
    arrays = differentiated.arrays("arrays")
    return arrays["memory"], arrays["rule"]


def in_both(
    cases: dict[str, Case], measure: Callable[[Case], tuple[dict, pd.DataFrame]]
) -> tuple[dict, pd.DataFrame]:
    """What is measured in each direction: results by direction, tables one below the other."""
    found = {direction: measure(case) for direction, case in cases.items()}
    tables = [table for _, table in found.values()]
    return {d: result for d, (result, _) in found.items()}, pd.concat(tables, ignore_index=True)


def act_in_groups(
    steering: Steering,
    cases: dict[str, Case],
    states: tuple[np.ndarray, np.ndarray],
    p: OpenPointsParameters,
) -> tuple[dict, dict, pd.DataFrame]:
    """`(clusters, synergy, table)`: clusters beside random groups, pairs; ranked on train keys."""
    neurons = top_neurons(steering.nmd, steering.rho, p.n_top)
    correlations = coactivation(*states, neurons)
    labels = cluster(correlations, p.n_clusters)
    groups = groups_to_steer(neurons, labels, np.random.default_rng([p.seed, 1]))
    found, table = in_both(
        cases, lambda case: steer_groups(steering, case, neurons, groups, p.seed)
    )
    synergy = {
        d: pairwise(steering, case, neurons[: p.n_pairwise], p.seed) for d, case in cases.items()
    }
    found |= {
        "n_neurons": len(neurons),
        "n_clusters": int(labels.max(initial=-1)) + 1,
        "n_draws": N_RANDOM,
        "coactivation": by_cluster(correlations, labels),
        "layers": np.bincount(neurons[:, 0], minlength=len(steering.rho)).tolist(),
    }
    return found, synergy, table


def along_alpha(steering: Steering, case: Case, alphas: list[float]) -> tuple[dict, pd.DataFrame]:
    """Margins and behaviours along alpha at the chosen top_n; what the other answers consist of."""
    steps = [0.0, *alphas]
    one = steering.shift(Cell(case.cell.top_n, 1.0))
    shifts = case.sign * np.stack([alpha * one for alpha in steps])
    tokens, valid = written(steering, shifts, case.prompts), case.distinct
    codes = behaviors_of(tokens, case.candidates, *steering.marks)
    margin = margins(steering, shifts, case.begin_differently)
    quantiles = (
        np.quantile(margin, QUANTILES, axis=1).T
        if valid.any()
        else np.full((len(steps), len(QUANTILES)), np.nan)
    )
    shares = np.stack([np.bincount(row, minlength=3) / len(row) for row in codes])
    crossings = (np.diff(margin > 0, axis=0)).sum(0)
    of_others = codes[1:, valid] == OTHER_CODE
    partial = beginnings(tokens[1:, valid], case.candidates[valid])[of_others]
    result = {
        "n": int(valid.sum()),
        "n_all": len(case.rows),
        "alphas": steps,
        "quantile_levels": list(QUANTILES),
        "quantiles": [[number(v) for v in row] for row in quantiles],
        "behaviors": {name: shares[:, CODE[name]].tolist() for name in BEHAVIORS},
        "sign_changes": {
            "never": rate(crossings == 0),
            "once": rate(crossings == 1),
            "more": rate(crossings > 1),
        },
        "other_answers": {
            "mixed": rate(partial == 2),
            "begun": rate(partial == 1),
            "neither": rate(partial == 0),
        },
    }
    names = [f"q{round(100 * level):02d}" for level in QUANTILES]
    table = pd.DataFrame(quantiles, columns=names).assign(
        alpha=steps, n=int(valid.sum()), direction=case.direction, chosen=case.cell.alpha
    )
    return result, table.assign(**{name: shares[:, CODE[name]] for name in BEHAVIORS})


def commitment(steering: Steering, case: Case) -> tuple[dict, pd.DataFrame]:
    """The chosen shift throughout, only until the first answer token is written, and only after it.

    `success`: the answer is the target's; `stays`: the unsteered one; `mixed`: begun as one and
    continued as the other (where they begin differently).
    """
    delta = case.sign * steering.shift(case.cell)[None]
    found, valid = {}, case.distinct
    for phase in PHASES:
        tokens = written(steering, delta, case.prompts, phase)[0]
        codes = behaviors_of(tokens, case.candidates, *steering.marks)
        mixed = (beginnings(tokens, case.candidates) == 2) & (codes == OTHER_CODE)
        found[phase] = {
            **rate(codes == TARGET[case.direction], "success"),
            "stays": float((codes == CODE[START[case.direction]]).mean()),
            "other": float((codes == OTHER_CODE).mean()),
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
    """m2g minus g2m of success; by direction the AUC of the unsteered |margin| for success.

    success, distinct: bool `[P]` by direction; margin: of the distinct prompts only; keys: `[P]`,
    resampled together. An AUC below 0.5: prompts with a larger initial margin change less often.
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
    success, margin = {}, {}
    for d, case in cases.items():
        chosen = case.sign * steering.shift(case.cell)[None]
        success[d] = steering.outcomes(chosen, case.rows)[0] == TARGET[d]
        margin[d] = margins(steering, 0 * chosen, case.begin_differently)[0]
    distinct = {d: case.distinct for d, case in cases.items()}
    keys = {d: case.keys for d, case in cases.items()}
    return asymmetry(success, margin, distinct, keys, seed)


def performance(
    trained: dict, intervened: dict, frame: pd.DataFrame, n_side_effect_prompts: int, family: str
) -> dict:
    """Free and keyed accuracy of the base, the dual and the steered model, with Wilson intervals.

    The base was scored on validation prompts; its keyed accuracy is None, without a base both.
    """
    free, keyed = frame[frame.kind == "free"], frame[frame.kind == "keyed"]
    n_free = {split: int((free.split == split).sum()) for split in ("validation", "test")}

    def entry(value: float | None, n: int) -> dict:
        return known_rate(value, n, "accuracy")

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


def beside_an_instruction(
    steering: Steering,
    cases: dict[str, Case],
    steered: dict,
    syllabus: Syllabus,
    p: OpenPointsParameters,
) -> dict | None:
    """`instruct` on the same test prompts, beside lab 06's (`steered`) steering and rephrasing."""
    tested = {d: case.rows for d, case in cases.items()}
    found = instruct(steering.model, steering.tokenizer, syllabus, tested, p)
    for d in DIRECTIONS if found else ():
        one = steered[d]
        found[d]["steering"] = {name: one[name] for name in ("success", "interval", "other", "n")}
        found[d]["rephrasing"] = known_rate(one["rephrase_floor"], one["rephrase_n"], "success")
    return found


def checks(r: dict) -> list[tuple[str, bool]]:
    """What has to hold, in words, and whether it does."""
    chosen = {d: r["clusters"][d]["chosen"]["success"] for d in DIRECTIONS}
    again = {d: r["commitment"][d]["throughout"]["success"] for d in DIRECTIONS}
    start = [r["binary"][d]["behaviors"][START[d]][0] for d in DIRECTIONS]
    return [
        (
            "two ways of decoding give the chosen shift the same success",
            all(abs(chosen[d] - again[d]) < 0.02 for d in DIRECTIONS),
        ),
        ("alpha = 0 changes no answer", all(share == 1 for share in start)),
    ]


def directions_table(asymmetry: dict) -> pd.DataFrame:
    """One row per direction: does a large initial margin protect an answer?"""
    rows = {
        d: {
            "success with a large margin, AUC": asymmetry[d]["auc"],
            "interval": str(asymmetry[d]["interval"]),
            "median |margin|": asymmetry[d]["median_margin"],
            "n": asymmetry[d]["n"],
            "keys": asymmetry[d]["n_keys"],
        }
        for d in DIRECTIONS
    }
    return pd.DataFrame(rows).T


def accuracy_table(performance: dict) -> pd.DataFrame:
    """One row per model: accuracy on free and on keyed prompts, with interval and n."""
    rows = [
        {"model": name}
        | {
            f"{kind} {column}": str(value) if column == "interval" else value
            for kind in ("free", "keyed")
            for column, value in of_model[kind].items()
        }
        for name, of_model in performance.items()
    ]
    return pd.DataFrame(rows)


def answers(r: dict) -> list[str]:
    """What was found, a few lines per direction."""
    lines = []
    for d, name in zip(DIRECTIONS, ("from memory to rule", "from rule to memory")):
        c, b, k = r["clusters"][d], r["binary"][d], r["commitment"][d]
        lines += [
            f"{name}: chosen shift {_share(c['chosen']['success'])}, all {r['clusters']['n_neurons']}"
            f" top neurons {_share(c['together']['success'])}, a cluster on average"
            f" {_share(c['cluster_mean'])} (random groups of its size {_share(c['random_mean'])}), a"
            f" single neuron {_share(c['single_mean'])}; n={c['n']}",
            "  margins that change sign once along alpha:"
            f" {_share(b['sign_changes']['once']['share'])} of {b['n']}; released after the first token"
            f" {_share(k['until_first_token']['success'])}",
        ]
        if r["instruction"]:
            taught, none, steered = (
                _share(r["instruction"][d][name]["success"])
                for name in ("instruction", "none", "steering")
            )
            lines.append(f"  instruction {taught}, without it {none}, steering {steered}")
    gap = r["asymmetry"]["difference"]
    interval = between(gap["interval"], "+.0%", "n/a")
    return [*lines, f"m2g minus g2m: {_share(gap['value'], '+.0%')} {interval}"]


def _share(value: float | None, form: str = ".0%") -> str:
    return shown(value, form, "n/a")
