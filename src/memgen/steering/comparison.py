"""Variants of a shift, each held against the reference of its group on the same prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from memgen.stats.intervals import bootstrap_by_key, weighted_mean
from memgen.steering.trial import Trial

IDENTITY = "identity"  # the group of what must change nothing: checked, not reported
ADDED = ("layers", "site", "positions", "count", "ranking", "magnitude")
CLAMPED = ("clamping", "clamping_prompt")
GROUPS = (*ADDED, *CLAMPED)
#: what the variants of a group are compared with: clamps leave earlier prompt tokens alone, so the
#: shift that they are held against does, too
REFERENCE = dict.fromkeys(ADDED, "as_chosen") | dict.fromkeys(CLAMPED, "additive")
RATES = ("success", "interval", "other", "n", "difference", "difference_interval")
NULL = dict.fromkeys((*RATES, "norm", "neurons", "cosine")) | {"n": 0}


@dataclass(frozen=True)
class Variant:
    """Codes `[draws, prompts]`; facts: norm, neurons, cosine with the chosen shift, or strength."""

    group: str
    name: str
    codes: np.ndarray
    facts: dict = field(default_factory=dict)


def facts_of(shifts: list[np.ndarray], reference: np.ndarray, comparable: bool = True) -> dict:
    """Means over the draws, if any; a cosine if `comparable` (in the reference's coordinates)."""
    if not shifts:
        return {}
    norms, own = [np.linalg.norm(one) for one in shifts], float(np.linalg.norm(reference))
    cosine = None
    if comparable and own:
        angles = [(one * reference).sum() / (norm * own) for one, norm in zip(shifts, norms)]
        cosine = float(np.mean(angles))
    neurons = int(np.count_nonzero(shifts[0]))
    return {"norm": float(np.mean(norms)), "neurons": neurons, "cosine": cosine}


@dataclass(frozen=True)
class Comparison:
    """The variants of one direction on its test prompts. `seed`: of the bootstrap over keys."""

    trial: Trial
    variants: list[Variant]
    seed: int

    @property
    def identity_holds(self) -> bool:
        """Did what must change nothing leave every answer as it was?"""
        checked = (v.codes for v in self.variants if v.group == IDENTITY)
        return all(self.trial.unchanged(codes) for codes in checked)

    def _named(self) -> dict[tuple[str, str], Variant]:
        return {(v.group, v.name): v for v in self.variants if v.group != IDENTITY}

    def _numbers(self, variant: Variant, reference: Variant) -> dict:
        """A variant's rates with their intervals, and its paired difference from the reference."""
        if not variant.codes.size or not reference.codes.size:
            return NULL | variant.facts
        trial = self.trial
        won, baseline = (
            trial.succeeds(variant.codes).mean(axis=0),
            trial.succeeds(reference.codes[0]),
        )
        paired = bootstrap_by_key(
            weighted_mean, trial.rows.key.to_numpy(), won - baseline, seed=self.seed, weighted=True
        )
        difference = {"difference": _exact(paired.estimate), "difference_interval": None}
        if np.isfinite([paired.low, paired.high]).all():
            difference["difference_interval"] = [_exact(paired.low), _exact(paired.high)]
        return NULL | trial.summary(variant.codes) | difference | variant.facts

    @cached_property
    def groups(self) -> dict[str, dict[str, dict]]:
        """The numbers by group and variant, the reference of the group first."""
        found = {}
        for group in GROUPS:
            named = {name: v for (of, name), v in self._named().items() if of == group}
            reference = named.pop(REFERENCE[group])
            named = {reference.name: reference} | named
            found[group] = {name: self._numbers(v, reference) for name, v in named.items()}
        return found

    def all_numbers(self) -> Iterator[tuple[str, str, dict]]:
        """`(group, variant, numbers)` of every variant."""
        for group, named in self.groups.items():
            for name, found in named.items():
                yield group, name, found

    def result(self, best: int | None) -> dict:
        """This direction's part of the result. `best`: the layer best alone on validation keys."""
        trial, reference = self.trial, self.trial.shift
        groups = {group: dict(named) for group, named in self.groups.items()}
        matters: dict[str, list[str]] = {group: [] for group in GROUPS}
        n_compared = 0
        for group, name, found in self.all_numbers():
            interval = found["difference_interval"]
            n_compared += name != REFERENCE[group] and interval is not None
            if interval is not None and not interval[0] <= 0 <= interval[1]:
                matters[group].append(name)
        layers, numbers = groups["layers"], range(1, len(reference) + 1)
        by_layer = {
            "only": [layers[f"layer_{k}_only"]["success"] for k in numbers],
            "all_but": [layers[f"all_but_layer_{k}"]["success"] for k in numbers],
            "neurons": np.count_nonzero(reference, axis=1).tolist(),
        }
        single = NULL if best is None else layers[f"layer_{best}_only"]
        layers["best_single"] = {"layer": best, **single}
        # so that each site and each choice of positions has its key in every run
        groups["site"][trial.steering.site] = groups["site"]["as_chosen"]
        groups["positions"][trial.steering.positions] = groups["positions"]["as_chosen"]
        return {
            "alpha": trial.cell.alpha,
            "top_n": trial.cell.top_n,
            "n": len(trial.rows),
            "n_keys": int(trial.rows.key.nunique()),
            "norm": float(np.linalg.norm(reference)),
            "neurons": int(np.count_nonzero(reference)),
            **groups,
            "by_layer": by_layer,
            "matters": matters,
            "n_compared": n_compared,
        }

    def table(self) -> pd.DataFrame:
        """One row per variant; undefined numbers are NaN."""
        named = {"direction": self.trial.direction}
        rows = [
            named | {"group": group, "variant": name} | _columns(found)
            for group, name, found in self.all_numbers()
        ]
        words = ("direction", "group", "variant", "n")
        return pd.DataFrame(rows).astype({c: float for c in rows[0] if c not in words})

    def outcomes(self) -> pd.DataFrame:
        """A row per answer: the prompt's place (variants pair by it), key, draw, success."""
        keys = self.trial.rows.key.to_numpy()
        parts = [
            pd.DataFrame(
                {
                    "direction": self.trial.direction,
                    "group": variant.group,
                    "variant": variant.name,
                    "draw": draw,
                    "prompt": np.arange(len(one)),
                    "key": keys[: len(one)],
                    "success": self.trial.succeeds(one),
                }
            )
            for variant in self._named().values()
            for draw, one in enumerate(variant.codes)
        ]
        return pd.concat(parts, ignore_index=True)


def _columns(found: dict) -> dict:
    (low, high), (below, above) = (
        found[name] or (None, None) for name in ("interval", "difference_interval")
    )
    return {
        "success": found["success"],
        "low": low,
        "high": high,
        "other": found["other"],
        "n": found["n"],
        "norm": found["norm"],
        "neurons": found["neurons"],
        "cosine": found["cosine"],
        "strength": found.get("strength"),
        "difference": found["difference"],
        "difference_low": below,
        "difference_high": above,
    }


def _exact(value: float) -> float:
    """Without the last digits, in which sums that cancel out leave something other than 0."""
    return round(value, 12) + 0.0
