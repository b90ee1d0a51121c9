"""Which part of the recipe matters: the chosen shift with one ingredient exchanged at a time, at
the same size, on the same test prompts.

The shift under test is the cell that the intervention stage chose on validation keys; nothing is
tuned here. Neurons, values and probes come from the train pairs. Every additive variant has the L2
norm of that shift over all layers together, so what differs is where it points, not how far it
goes. At another site the norm is matched relative to the states there; a clamp has no fixed norm,
and what it moved by is reported.
"""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np
import pandas as pd

from memgen.config.analyses import AblationsParameters
from memgen.models.hooks import add, clamp
from memgen.neurons.probes import probe_weights
from memgen.neurons.selection import select_top
from memgen.neurons.states import mean_norm, pair_states
from memgen.stats.intervals import bootstrap_by_key, weighted_mean
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.clamping import distance, moved
from memgen.steering.steering import Steering, steering_prompts, summary
from memgen.steering.variants import (
    by_count,
    by_layer,
    by_magnitude,
    by_ranking,
    rankings,
    rescaled,
)
from memgen.terms import CODE, DIRECTIONS, SIGN, SITES, START, TARGET

GROUPS = (
    "layers",
    "site",
    "positions",
    "count",
    "ranking",
    "magnitude",
    "clamping",
    "clamping_prompt",
)
#: what the variants of a group are compared with: clamps leave earlier prompt tokens alone, so the
#: shift that they are held against does, too
REFERENCE = dict.fromkeys(GROUPS, "as_chosen") | {
    "clamping": "additive",
    "clamping_prompt": "additive",
}
STRENGTHS = {"clamp_half": 0.5, "clamp_full": 1.0}
NULL = {
    "success": None,
    "interval": None,
    "other": None,
    "n": 0,
    "difference": None,
    "difference_interval": None,
    "norm": None,
    "neurons": None,
    "cosine": None,
}


def study(
    steering: Steering,
    p: AblationsParameters,
    answered: pd.DataFrame,
    arrays: dict[str, np.ndarray],
    chosen: dict,
    tested_site: str,
):
    """All variants in both directions: `(result, tables, seconds)` of the stage. Tables:
    `variants`, one row each, and `outcomes`, one row an answer.

    `arrays`, `tested_site`: the differentiation stage's, and the site of its pairs and tests;
    `chosen`: the intervention stage's result, of which `alpha` and `top_n` are read. Cells were
    chosen on validation keys; every number here is of test keys.
    """
    began, rho = time.monotonic(), steering.rho
    states, keys = pair_states(steering.model, steering.tokenizer, answered, arrays, tested_site)
    weights = probe_weights(*states[steering.site], keys, p.seed)
    tests = (
        {name: arrays[name] for name in ("effect_size", "p")}
        if steering.site == tested_site
        else {}
    )
    scores = rankings(steering.nmd, tests, rho)
    result = {
        "site": steering.site,
        "positions": steering.positions,
        "n_layer": len(rho),
        "n_coordinates": rho.size,
        "counts": p.counts,
        "n_pairs": len(keys),
        "state_norm": {site: mean_norm(*states[site]) for site in SITES},
        "reference": REFERENCE,
        "identity_holds": True,
    }
    tables: dict[str, list[pd.DataFrame]] = {"variants": [], "outcomes": []}
    for direction in DIRECTIONS:
        cell = Cell(chosen[direction]["top_n"], chosen[direction]["alpha"])
        rows, tuning = (
            steering_prompts(answered, split, direction, p.n_prompts)
            for split in ("test", "validation")
        )
        found = _Direction(steering, p, direction, cell, rows)
        found.add_shifts(scores, weights)
        found.add_sites(arrays, result["state_norm"])
        found.add_positions()
        found.add_clamps(states[steering.site])
        result["identity_holds"] &= found.identity_holds
        result[direction] = found.result(best_layer(steering, found.reference, direction, tuning))
        result[direction] |= ranking_facts(rho, cell.top_n, scores, tests.get("p"))
        tables["variants"].append(found.table())
        tables["outcomes"].append(found.outcomes())
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    return (
        result,
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        seconds,
    )


def best_layer(
    steering: Steering, reference: np.ndarray, direction: str, tuning: pd.DataFrame
) -> int | None:
    """The layer (from 1) that steers most of these (validation) prompts alone, at the whole norm;
    the lowest of equals, None without prompts.
    """
    variants = by_layer(reference)
    single = {k: variants[f"layer_{k}_only"] for k in range(1, len(reference) + 1)}
    layers = [k for k, draws in single.items() if draws]
    if tuning.empty or not layers:
        return None
    codes = steering.outcomes(SIGN[direction] * np.concatenate([single[k] for k in layers]), tuning)
    return layers[int((codes == TARGET[direction]).mean(axis=1).argmax())]


def ranking_facts(
    rho: np.ndarray, top_n: float, scores: dict[str, np.ndarray | None], p: np.ndarray | None
) -> dict:
    """How far the rankings agree: the share of the chosen neurons that each of the others chooses,
    too (`common`), and how many neurons have the p-value of the last one that is chosen by p, so
    that |rho| decides among them (`p_ties`). None where the ranking does not exist.
    """
    chosen = select_top(rho, top_n)
    count = int(chosen.sum())
    common = {
        name: None if score is None else float((select_top(score, top_n) & chosen).sum() / count)
        for name, score in scores.items()
    }
    return {
        "common": common,
        "p_ties": None if p is None else int((p == np.sort(p, axis=None)[count - 1]).sum()),
    }


class _Direction:
    """The variants of one direction on its test prompts: their codes `[draws, prompts]` and norms,
    group by group.
    """

    def __init__(
        self,
        steering: Steering,
        p: AblationsParameters,
        direction: str,
        cell: Cell,
        rows: pd.DataFrame,
    ):
        self.steering, self.p, self.direction, self.cell, self.rows = (
            steering,
            p,
            direction,
            cell,
            rows,
        )
        self.reference = cell_shift(cell, steering.nmd, steering.rho)
        self.norm = float(np.linalg.norm(self.reference))
        self.codes: dict[tuple[str, str], np.ndarray] = {}
        self.facts: dict[
            tuple[str, str], dict
        ] = {}  # norm, neurons, cosine with the reference; for clamps their strength
        self.identity_holds = True

    def _run(
        self,
        shifts: list[np.ndarray],
        steering: Steering | None = None,
        positions: str | None = None,
    ) -> np.ndarray:
        """Codes `[shifts, prompts]`; shifts drive towards generalization and are signed here."""
        if not shifts or self.rows.empty:
            return np.empty((len(shifts), 0), dtype=np.int8)
        return (steering or self.steering).outcomes(
            SIGN[self.direction] * np.stack(shifts), self.rows, positions
        )

    def _add(
        self,
        group: str,
        name: str,
        codes: np.ndarray,
        shifts: list[np.ndarray],
        comparable: bool = True,
        **facts,
    ) -> None:
        """`comparable`: the shifts live in the reference's coordinates, so they have an angle with
        it.
        """
        self.codes[group, name] = codes
        if shifts:
            cosine = (
                float(
                    np.mean(
                        [
                            (one * self.reference).sum() / (np.linalg.norm(one) * self.norm)
                            for one in shifts
                        ]
                    )
                )
                if comparable and self.norm
                else None
            )
            facts = {
                "norm": float(np.mean([np.linalg.norm(one) for one in shifts])),
                "neurons": int(np.count_nonzero(shifts[0])),
                "cosine": cosine,
            } | facts
        self.facts[group, name] = facts

    def add_shifts(self, scores: dict[str, np.ndarray | None], weights: np.ndarray) -> None:
        """Layers, count, ranking and magnitude: all shifts at the chosen site and positions, in one
        batch.
        """
        nmd, rho = self.steering.nmd, self.steering.rho
        rng = np.random.default_rng([self.p.seed, DIRECTIONS.index(self.direction)])
        groups = {
            "layers": by_layer(self.reference),
            "count": by_count(nmd, rho, self.norm, self.p.counts, self.p.n_draws, rng),
            "ranking": by_ranking(nmd, rho, self.cell.top_n, self.norm, scores),
            "magnitude": by_magnitude(self.reference, nmd, weights),
        }
        variants = {
            (group, name): draws for group, named in groups.items() for name, draws in named.items()
        }
        codes = self._run(
            [
                np.zeros_like(self.reference),
                self.reference,
                *(one for draws in variants.values() for one in draws),
            ]
        )
        self.identity_holds &= bool((codes[0] == CODE[START[self.direction]]).all())
        for group in GROUPS:
            if REFERENCE[group] == "as_chosen":
                self._add(group, "as_chosen", codes[1:2], [self.reference])
        begin = 2
        for (group, name), draws in variants.items():
            self._add(group, name, codes[begin : begin + len(draws)], draws)
            begin += len(draws)

    def add_sites(self, arrays: dict[str, np.ndarray], state_norm: dict[str, float]) -> None:
        """The same recipe at the other sites; the norm of the shift relative to that of the site's
        states is the chosen one's.
        """
        chosen = self.steering
        for site in SITES:
            if site != chosen.site:
                other = Steering(
                    chosen.model,
                    chosen.tokenizer,
                    chosen.task,
                    site,
                    arrays[f"nmd.{site}"],
                    arrays[f"rho.{site}"],
                    chosen.positions,
                )
                relative = self.norm / state_norm[chosen.site] if state_norm[chosen.site] else 0.0
                draws = rescaled(
                    cell_shift(self.cell, other.nmd, other.rho), relative * state_norm[site]
                )
                self._add("site", site, self._run(draws, other), draws, comparable=False)

    def add_positions(self) -> None:
        """The chosen shift at the other positions; the one at decision positions is what clamps are
        compared with.
        """
        other = "decision" if self.steering.positions == "all" else "all"
        codes = {
            self.steering.positions: self.codes["positions", "as_chosen"],
            other: self._run([self.reference], positions=other),
        }
        self._add("positions", other, codes[other], [self.reference])
        self._add("clamping", "additive", codes["decision"], [self.reference])

    def add_clamps(self, pairs: tuple[np.ndarray, np.ndarray]) -> None:
        """Clamps to the target behaviour's mean state: at the prompt's last token and each
        generated one, and at the prompt's last token only.
        """
        s, rows, mask = self.steering, self.rows, self.reference != 0
        mean = pairs[1 if self.direction == "m2g" else 0].mean(axis=0)
        full = 0.0 if rows.empty else distance(s, rows, mean, mask)
        strengths = STRENGTHS | {"clamp_same_norm": self.norm / full if full else None}
        none = np.empty((1, 0), dtype=np.int8)
        once = (
            none
            if rows.empty
            else moved(
                s,
                rows,
                add(s.model, s.site, SIGN[self.direction] * self.reference, generated=False),
            )[0][None]
        )
        self._add("clamping_prompt", "additive", once, [self.reference])
        for group, generated in (("clamping", True), ("clamping_prompt", False)):
            for name, strength in strengths.items():
                if rows.empty or strength is None:
                    self._add(group, name, none, [], strength=strength)
                else:
                    codes, norm = moved(
                        s, rows, clamp(s.model, s.site, mean, mask, strength, generated)
                    )
                    self._add(
                        group,
                        name,
                        codes[None],
                        [],
                        norm=norm,
                        neurons=int(mask.sum()),
                        strength=strength,
                    )
        if not rows.empty:
            self.identity_holds &= bool(
                (
                    moved(s, rows, clamp(s.model, s.site, mean, mask, 0.0))[0]
                    == CODE[START[self.direction]]
                ).all()
            )

    # -- what is reported -------------------------------------------------------------------------
    def _numbers(self, group: str, name: str) -> dict:
        """A variant's rates with their intervals, and its paired difference from the reference of
        its group.
        """
        codes, reference = self.codes[group, name], self.codes[group, REFERENCE[group]]
        if not codes.size or not reference.size:
            return NULL | self.facts[group, name]
        target = TARGET[self.direction]
        gain = (codes == target).mean(axis=0) - (reference[0] == target)
        paired = bootstrap_by_key(
            weighted_mean, self.rows.key.to_numpy(), gain, seed=self.p.seed, weighted=True
        )
        interval = (
            [_exact(paired.low), _exact(paired.high)]
            if np.isfinite([paired.low, paired.high]).all()
            else None
        )
        return (
            NULL
            | summary(codes, self.direction)
            | {"difference": _exact(paired.estimate), "difference_interval": interval}
            | self.facts[group, name]
        )

    @cached_property
    def groups(self) -> dict[str, dict[str, dict]]:
        """By group and variant, the reference of the group first."""
        names: dict[str, list[str]] = {group: [REFERENCE[group]] for group in GROUPS}
        for group, name in self.codes:
            names[group] += [name] if name != REFERENCE[group] else []
        return {
            group: {name: self._numbers(group, name) for name in names[group]} for group in GROUPS
        }

    def result(self, best: int | None) -> dict:
        """This direction's part of the stage's result. `best`: the layer that was best alone on
        validation keys.
        """
        groups = {group: dict(named) for group, named in self.groups.items()}
        matters = {
            group: [
                name for name, found in named.items() if _excludes_0(found["difference_interval"])
            ]
            for group, named in groups.items()
        }
        compared = [
            f
            for group, named in groups.items()
            for name, f in named.items()
            if name != REFERENCE[group] and f["difference_interval"]
        ]
        layers = range(1, len(self.reference) + 1)
        names = {"only": "layer_{}_only", "all_but": "all_but_layer_{}"}
        by = {
            kind: [groups["layers"][name.format(k)]["success"] for k in layers]
            for kind, name in names.items()
        }
        by["neurons"] = np.count_nonzero(self.reference, axis=1).tolist()
        groups["layers"]["best_single"] = {
            "layer": best,
            **(NULL if best is None else groups["layers"][f"layer_{best}_only"]),
        }
        groups["site"][self.steering.site] = groups["site"][
            "as_chosen"
        ]  # so that each site and each choice of positions has its key in every run
        groups["positions"][self.steering.positions] = groups["positions"]["as_chosen"]
        return {
            "alpha": self.cell.alpha,
            "top_n": self.cell.top_n,
            "n": len(self.rows),
            "n_keys": int(self.rows.key.nunique()),
            "norm": self.norm,
            "neurons": int(np.count_nonzero(self.reference)),
            **groups,
            "by_layer": by,
            "matters": matters,
            "n_compared": len(compared),
        }

    def table(self) -> pd.DataFrame:
        """One row a variant; undefined numbers are NaN."""
        rows = []
        for group, named in self.groups.items():
            for name, found in named.items():
                (low, high), (below, above) = (
                    found[key] or (None, None) for key in ("interval", "difference_interval")
                )
                rows.append(
                    {
                        "direction": self.direction,
                        "group": group,
                        "variant": name,
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
                )
        numbers = [
            column for column in rows[0] if column not in ("direction", "group", "variant", "n")
        ]
        return pd.DataFrame(rows).astype(dict.fromkeys(numbers, float))

    def outcomes(self) -> pd.DataFrame:
        """One row an answer: the prompt's place among the direction's prompts, its key, the draw,
        and success. Variants can be paired by prompt.
        """
        parts = [
            pd.DataFrame(
                {
                    "direction": self.direction,
                    "group": group,
                    "variant": name,
                    "draw": draw,
                    "prompt": np.arange(len(one)),
                    "key": self.rows.key.to_numpy()[: len(one)],
                    "success": one == TARGET[self.direction],
                }
            )
            for (group, name), codes in self.codes.items()
            for draw, one in enumerate(codes)
        ]
        return pd.concat(parts, ignore_index=True)


def _exact(value: float) -> float:
    """Without the last digits, in which sums that cancel out leave something other than 0."""
    return round(value, 12) + 0.0


def _excludes_0(interval: list[float] | None) -> bool:
    return interval is not None and not interval[0] <= 0 <= interval[1]
