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
        evidence,
        task,
        lambda f: None if (first := _first_over_last(f)) is None else 1 - first,
    )


def early(evidence: Evidence, task: str) -> Effect:
    """Mean |NMD| (without its noise) of the first layer over that of the last."""
    return _numbers(evidence, task, _first_over_last)


def _first_over_last(found: dict) -> float | None:
    """Of mean |NMD|; None where there were too few keys to know it, or nothing in the last layer."""
    first, *_, last = found["nmd_split_half"] or [None, None]
    return None if first is None or not last or last < 0 else first / last


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
    return over_seeds([_off_over_on(f) for f in found], sum(f["n_pairs"] for f in found))


def _off_over_on(found: dict) -> float | None:
    halves = found["nmd_split_half"]
    if halves is None or None in (*halves["on"], *halves["off"]):
        return None
    on, off = (float(np.mean(halves[name])) for name in ("on", "off"))
    return off / on if on > 0 else None
