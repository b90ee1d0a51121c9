"""Where neurons differ: maps of lab 04, one number per seed."""

from __future__ import annotations

import numpy as np

from memgen.claims.evidence import Evidence
from memgen.stats.intervals import NAN
from memgen.stats.over_seeds import NOTHING, Effect, over_seeds


def _numbers(evidence: Evidence, task: str, value) -> Effect:
    """Over the seeds whose result has what `value(result)` reads; None: it has not."""
    found = evidence.stage(task, "04_differentiation")
    return over_seeds([value(one) for one in found], sum(one["n_pairs"] for one in found))


def differ(evidence: Evidence, task: str, matters: float) -> Effect:
    """Share of significant neurons less that of pairs whose behaviour stays, mean of the layers."""
    return _found(evidence, task, lambda f: f["null_significant_share"], matters)


def beyond_base(evidence: Evidence, task: str, matters: float) -> Effect:
    """Share of significant neurons less that of the same pairs in the base, mean of the layers."""
    return _found(
        evidence, task, lambda f: f["base_null"] and f["base_null"]["significant_share"], matters
    )


def _found(evidence: Evidence, task: str, null, matters: float) -> Effect:
    """Share of neurons that the test finds less the share it finds in `null(result)`.

    What a test finds among many neurons bounds the share that differ from below only: neurons that
    differ by less than it can see are not found. So a seed in which it finds less than `matters`, the
    smallest difference of interest, on *both* sides says nothing about its power to find as much;
    it is quiet. It counts with its difference, so that it never helps the claim, but it leaves the
    interval without an upper end below 1, so that it does not speak against the claim either. Where
    all seeds are quiet there is no interval. A test that finds many neurons on one side at least has
    shown that it can, and there a difference of nothing is a result.
    """
    results = [f for f in evidence.stage(task, "04_differentiation") if null(f) is not None]
    shares = np.array([(np.mean(f["significant_share"]), np.mean(null(f))) for f in results])
    if not len(shares):
        return NOTHING
    effect = over_seeds(
        list(shares[:, 0] - shares[:, 1]),
        sum(f["n_pairs"] for f in results),
        1 / min(f["n_neurons"] for f in results),
    )
    quiet = shares.max(axis=1) < matters
    if quiet.all():
        return effect._replace(low=NAN, high=NAN, detectable=NAN)
    return effect._replace(high=1.0, detectable=NAN) if quiet.any() else effect


def grows(evidence: Evidence, task: str) -> Effect:
    """Size of NMD (`split_half`) in the last layer less that in the first, over the last's."""
    return _numbers(
        evidence,
        task,
        lambda f: None if (first := _first_over_last(f)) is None else 1 - first,
    )


def early(evidence: Evidence, task: str) -> Effect:
    """Size of NMD (`split_half`) in the first layer over that in the last."""
    return _numbers(evidence, task, _first_over_last)


def _first_over_last(found: dict) -> float | None:
    """Of root mean squares of NMD without noise, which are below 0 where halves of the keys disagree.

    None, so that the seed is left out: too few keys to know it, or nothing in the last layer.
    """
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
    """Size of NMD (`split_half`, mean of the layers) in the base over that with the adapter on."""
    found = [f["base"] for f in evidence.stage(task, "04_differentiation") if f.get("base")]
    return over_seeds([_off_over_on(f) for f in found], sum(f["n_pairs"] for f in found))


def _off_over_on(found: dict) -> float | None:
    halves = found["nmd_split_half"]
    if halves is None or None in (*halves["on"], *halves["off"]):
        return None
    on, off = (float(np.mean(halves[name])) for name in ("on", "off"))
    return off / on if on > 0 else None
