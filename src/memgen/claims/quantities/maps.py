"""Where neurons differ: maps of lab 04, one number per seed."""

from __future__ import annotations

import numpy as np

from memgen.claims.evidence import Evidence
from memgen.stats.over_seeds import Effect, over_seeds


def _numbers(evidence: Evidence, task: str, value) -> Effect:
    """Over the seeds whose result has what `value(result)` reads; None: it has not."""
    found = evidence.stage(task, "04_differentiation")
    return over_seeds([value(one) for one in found], sum(one["n_pairs"] for one in found))


def differ(evidence: Evidence, task: str) -> Effect:
    """Share of significant neurons less that of pairs whose behaviour stays, mean of the layers."""
    return _numbers(
        evidence,
        task,
        lambda f: float(np.mean(f["significant_share"]) - np.mean(f["null_significant_share"])),
    )


def beyond_base(evidence: Evidence, task: str) -> Effect:
    """Share of significant neurons less that of the same pairs in the base, mean of the layers."""
    return _numbers(
        evidence,
        task,
        lambda f: (
            f.get("base_null")
            and float(
                np.mean(f["significant_share"]) - np.mean(f["base_null"]["significant_share"])
            )
        ),
    )


def grows(evidence: Evidence, task: str) -> Effect:
    """Mean |NMD| (without its noise) of the last layer less that of the first, over the last's."""
    return _numbers(
        evidence, task, lambda f: _share(f["nmd_split_half"][-1], f["nmd_split_half"][0])
    )


def _share(last: float, first: float) -> float | None:
    return (last - first) / last if last > 0 else None


def early(evidence: Evidence, task: str) -> Effect:
    """Mean |NMD| (without its noise) of the first layer over that of the last."""
    return _numbers(
        evidence,
        task,
        lambda f: (
            f["nmd_split_half"][0] / f["nmd_split_half"][-1]
            if f["nmd_split_half"][-1] > 0
            else None
        ),
    )


def sharper(evidence: Evidence, task: str) -> Effect:
    """Largest |rho| in the last layer less that in the first."""
    return _numbers(evidence, task, lambda f: f["max_abs_rho"][-1] - f["max_abs_rho"][0])


def later(evidence: Evidence, task: str) -> Effect:
    """Share of the top neurons that lies in the later half of the layers, less one half."""
    shares, n_top = evidence.later.get(task, ([], 0))
    return over_seeds([share - 0.5 for share in shares], 0, 1 / n_top if n_top else 0.0)


def base_share(evidence: Evidence, task: str) -> Effect:
    """Mean |NMD| of the base alone over that with the adapter on, same pairs, without noise."""
    found = [f["base"] for f in evidence.stage(task, "04_differentiation") if f.get("base")]
    values = [
        float(np.mean(f["nmd_split_half"]["off"]) / on)
        if (on := np.mean(f["nmd_split_half"]["on"])) > 0
        else None
        for f in found
    ]
    return over_seeds(values, sum(f["n_pairs"] for f in found))
