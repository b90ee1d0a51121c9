"""What the claims are about: one number per task with its interval, from the evidence."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.claims.evidence import Evidence
from memgen.stats.auc import roc_auc
from memgen.stats.intervals import number
from memgen.stats.over_seeds import NOTHING, Effect, over_keys, over_seeds, rate
from memgen.tasks.families import variants
from memgen.terms import DIRECTIONS

GATE = {
    "memory_rate": (0.25, 1.0),
    "rule_rate": (0.25, 1.0),
    "other_rate": (0.0, 0.20),
    "free_accuracy": (0.90, 1.0),
}
NEAR_RANDOM = 0.10  # success above random neurons that still counts as "does not transfer"
CARRIES = 0.5  # share of the mean |NMD| that the base must have to carry most of it


def dual(evidence: Evidence, task: str) -> Effect:
    """The smaller of the two behaviours' shares."""
    rows = _of(evidence.behaviors, task)
    return over_keys(
        lambda w: np.minimum(rate(w, rows.memory, rows.n), rate(w, rows.rule, rows.n)),
        rows.seed.to_numpy(),
        rows.key.to_numpy(),
        rows.n.sum(),
        evidence.seed,
    )


def differ(evidence: Evidence, task: str) -> Effect:
    """Share of significant neurons less the null's, in the layer where they differ most."""
    found = evidence.stage(task, "04_differentiation")
    return over_seeds(
        [max(np.subtract(f["significant_share"], f["null_significant_share"])) for f in found],
        sum(f["n_pairs"] for f in found),
    )


def deeper(evidence: Evidence, task: str) -> Effect:
    """Largest |rho| in the last layer less that in the first."""
    found = evidence.stage(task, "04_differentiation")
    return over_seeds(
        [f["max_abs_rho"][-1] - f["max_abs_rho"][0] for f in found],
        sum(f["n_pairs"] for f in found),
    )


def later(evidence: Evidence, task: str) -> Effect:
    """Share of the top neurons that lies in the later half of the layers, less one half."""
    return over_seeds([share - 0.5 for share in evidence.later.get(task, [])])


def auc(evidence: Evidence, task: str, against: str | None = None) -> Effect:
    """Mean AUC over seeds of the best layer's probe; less that of the column `against` if given."""
    rows = _of(evidence.scores, task)
    units = rows[["seed", "key"]].drop_duplicates().reset_index(drop=True)
    unit = pd.MultiIndex.from_frame(units).get_indexer(
        pd.MultiIndex.from_frame(rows[["seed", "key"]])
    )
    seeds = rows.seed.unique()

    def statistic(weights):
        found, weight = np.zeros(len(weights)), np.zeros(len(weights))
        # scores of two models are not on one scale: an AUC per seed, weighted by how often it was drawn
        for seed in seeds:
            of_seed = (rows.seed == seed).to_numpy()
            drawn = weights[:, unit[of_seed]]
            one = roc_auc(rows.label[of_seed], rows.probe[of_seed], drawn)
            if against:
                one = one - roc_auc(rows.label[of_seed], rows[against][of_seed], drawn)
            times = weights[:, (units.seed == seed).to_numpy()].sum(1)
            defined = ~np.isnan(one) & (times > 0)
            found[defined] += (one * times)[defined]
            weight[defined] += times[defined]
        return found / np.where(weight > 0, weight, np.nan)

    return over_keys(
        statistic, units.seed.to_numpy(), units.key.to_numpy(), len(rows), evidence.seed, 500
    )


def before_the_answer(evidence: Evidence, task: str) -> Effect:
    """AUC of the probe in the last layer where the answer cannot be read yet, less one half."""
    found = [f["lens"] for f in evidence.stage(task, "09_confounds")]
    values = [f["probe_auc_before"] for f in found]
    return over_seeds([None if v is None else v - 0.5 for v in values], sum(f["n"] for f in found))


def steers(evidence: Evidence, task: str, direction: str) -> Effect:
    """Success less the strongest control's (or rephrasing's), chosen anew in every resample."""
    rows = _of(evidence.outcomes, task)
    wide, n = _wide(rows[rows.direction == direction])
    others = [kind for kind in n if kind != "steered"]
    if "steered" not in n or not others:
        return NOTHING

    def statistic(w):
        return rate(w, wide["steered"], n["steered"]) - np.nanmax(
            [rate(w, wide[kind], n[kind]) for kind in others], axis=0
        )

    return over_keys(statistic, *_units(wide), n["steered"].sum(), evidence.seed)


def success(evidence: Evidence, task: str, direction: str) -> Effect:
    """Success of steering."""
    rows = _of(evidence.outcomes, task)
    wide, n = _wide(rows[rows.direction == direction])
    if "steered" not in n:
        return NOTHING
    return over_keys(
        lambda w: rate(w, wide["steered"], n["steered"]),
        *_units(wide),
        n["steered"].sum(),
        evidence.seed,
    )


def behavior_share(evidence: Evidence, task: str, behavior: str) -> Effect:
    """Share of the conflict prompts answered so. `behavior`: memory or rule."""
    rows = _of(evidence.behaviors, task)
    return over_keys(
        lambda w: rate(w, rows[behavior], rows.n),
        rows.seed.to_numpy(),
        rows.key.to_numpy(),
        rows.n.sum(),
        evidence.seed,
    )


def main_numbers(evidence: Evidence) -> dict[str, dict[str, dict]]:
    """The study's main numbers over seeds and keys, by task: value, interval and what they rest on."""
    found = {}
    for task in evidence.tasks:
        effects = {name: behavior_share(evidence, task, name) for name in ("memory", "rule")} | {
            "auc": auc(evidence, task)
        }
        effects |= {direction: success(evidence, task, direction) for direction in DIRECTIONS}
        found[task] = {
            name: {
                "value": number(e.value),
                "low": number(e.low),
                "high": number(e.high),
                "n": e.n,
                "n_keys": e.n_keys,
                "n_seeds": e.n_seeds,
            }
            for name, e in effects.items()
        }
    return found


def asymmetry(evidence: Evidence, task: str) -> Effect:
    """Success of m2g less that of g2m."""
    rows = _of(evidence.outcomes, task)
    wide, n = _wide(rows[rows.kind == "steered"].assign(kind=rows.direction))
    if not set(DIRECTIONS) <= set(n):
        return NOTHING
    return over_keys(
        lambda w: rate(w, wide["m2g"], n["m2g"]) - rate(w, wide["g2m"], n["g2m"]),
        *_units(wide),
        sum(n[d].sum() for d in DIRECTIONS),
        evidence.seed,
    )


def transfers(evidence: Evidence, task: str, kind: str, shared: bool) -> Effect:
    """Success of another model's neurons less random ones', both ways; `kind`: retrain or task."""
    rows = _of(evidence.transfers, task)
    rows = rows[(rows.kind == kind) & (rows.shared == shared) & ~rows.own]
    if rows.empty:
        return NOTHING
    sums = (
        rows.groupby(["seed", "key", "direction"])[["wins", "n", "control_wins", "control_n"]]
        .sum()
        .unstack(fill_value=0)
    )
    there = [d for d in DIRECTIONS if ("n", d) in sums and sums["n", d].sum() > 0]

    def gap(w, d):
        own, random = (
            (sums[wins, d].to_numpy(), sums[n, d].to_numpy())
            for wins, n in (("wins", "n"), ("control_wins", "control_n"))
        )
        return rate(w, *own) - rate(w, *random)

    def statistic(w):
        return np.mean([gap(w, d) for d in there], axis=0)

    return over_keys(statistic, *_units(sums), rows.n.sum(), evidence.seed)


def base_share(evidence: Evidence, task: str) -> Effect:
    """Mean |NMD| of the base alone over that with the adapter on, same pairs, all layers."""
    found = [f["base"] for f in evidence.stage(task, "04_differentiation") if "base" in f]
    return over_seeds(
        [
            float(np.mean(f["mean_abs_nmd"]["off"]) / np.mean(f["mean_abs_nmd"]["on"]))
            for f in found
        ],
        sum(f["n_pairs"] for f in found),
    )


def format_gap(evidence: Evidence, family: str) -> Effect:
    """Success of m2g with the tagged answers less that with matched ones: same seeds, same keys."""
    formats = dict(zip(variants(family), ("tagged", "matched"), strict=True))
    rows = evidence.outcomes[
        (evidence.outcomes.direction == "m2g")
        & (evidence.outcomes.kind == "steered")
        & evidence.outcomes.task.isin(formats)
    ]
    wide, n = _wide(rows.assign(kind=rows.task.map(formats)))
    if not {"tagged", "matched"} <= set(n):
        return NOTHING
    return over_keys(
        lambda w: rate(w, wide["tagged"], n["tagged"]) - rate(w, wide["matched"], n["matched"]),
        *_units(wide),
        sum(v.sum() for v in n.values()),
        evidence.seed,
    )


def beyond_instruction(evidence: Evidence, task: str) -> Effect:
    """Success of steering less that of a trained instruction token, mean of both directions."""
    found = [
        f["instruction"] for f in evidence.stage(task, "11_open_points") if f.get("instruction")
    ]
    values = [
        [
            f[d]["steering"]["success"] - f[d]["instruction"]["success"]
            for d in DIRECTIONS
            if f[d]["instruction"]["n"]
        ]
        for f in found
    ]
    return over_seeds(
        [float(np.mean(v)) if v else None for v in values],
        sum(f[d]["instruction"]["n"] for f in found for d in DIRECTIONS),
    )


def _of(table: pd.DataFrame, task: str) -> pd.DataFrame:
    return table[table.task == task].reset_index(drop=True)


def _wide(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Successes, a row per key of a seed, a column per kind; and prompts by kind, in that order."""
    sums = rows.groupby(["seed", "key", "kind"])[["wins", "n"]].sum().unstack(fill_value=0)
    return sums["wins"], {kind: sums["n", kind].to_numpy() for kind in sums["n"].columns}


def _units(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return (
        table.index.get_level_values("seed").to_numpy(),
        table.index.get_level_values("key").to_numpy(),
    )
