"""Lab 16: how much of a finding hangs on how it was measured?

Maps and probes are made of train keys, cells are taken on keys that choose, and every number is of keys
that report. In the book's own deal these are the validation and the test keys; in others, the same keys
dealt anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from memgen.config.multiverse import MultiverseParameters
from memgen.labs.beside_the_mean import cause_and_isolate, prompt_slopes
from memgen.labs.intervention import prompts_to_turn
from memgen.models.generate import tokenize_prompts
from memgen.neurons import probe_specifications as probes
from memgen.neurons.nmd import NeuronMaps, effect_size
from memgen.neurons.pair_agreement import mean_cosine, separation
from memgen.neurons.pairs import flips, rephrased
from memgen.neurons.selection import TOP_SHARE, select_top
from memgen.neurons.stability import (
    PairSums,
    agreement,
    by_chance,
    halvings,
    jaccard,
    resamples,
)
from memgen.neurons.states import is_rule, labelled, states_at
from memgen.stats.columns import numbers
from memgen.stats.intervals import number
from memgen.stats.reported import between, shown
from memgen.stats.specifications import summary
from memgen.steering import specifications as steered
from memgen.steering.steering import Steering
from memgen.store.artifacts import Result
from memgen.tasks.dataset import free_rows, spread
from memgen.terms import (
    CHANGES,
    DIRECTIONS,
    POSITIONS,
    SITES,
    START,
    Change,
    Site,
)

__all__ = ["Steering", "answer", "cause_and_isolate", "checks", "gathered", "prompt_slopes"]

SHARES = (0.01, 0.02, TOP_SHARE, 0.1, 0.3)  # of the neurons, at which two sets are compared
LARGE = 1e9  # stands for a t without any noise
ANY = "probe"
FACTORS = {**dict.fromkeys(DIRECTIONS, steered.FACTORS), ANY: probes.FACTORS}


@dataclass(frozen=True)
class Pairs:
    """Flip pairs of train keys that differ by one kind of change: states by site, and keys `[n]`."""

    states: Mapping[Site, tuple[np.ndarray, np.ndarray]]
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def flat(self, site: Site) -> list[np.ndarray]:
        """Both sides as `[n, L * d]`: all layers together, as the shift moves them."""
        return [side.reshape(len(self.keys), -1) for side in self.states[site]]


def train_pairs(
    model, tokenizer, answered: pd.DataFrame, own: Site, limit: int
) -> dict[Change, Pairs]:
    """Pairs of every kind of change, of train keys alone, at most `limit` of each.

    With their states at two sites: the book's `own` and another one.
    """
    sites: list[Site] = _first(own, SITES)
    train = answered[answered.split == "train"].reset_index(drop=True)
    of = {change: spread(flips(train, change), limit) for change in CHANGES}
    rows = np.unique(
        np.concatenate([t[["memory", "rule"]].to_numpy(int).ravel() for t in of.values()])
    )
    read = states_at(model, tokenizer, train.prompt[rows], sites)
    found = {}
    for change, table in of.items():
        sides = [np.searchsorted(rows, table[side].to_numpy(int)) for side in ("memory", "rule")]
        states = {site: (read[site][sides[0]], read[site][sides[1]]) for site in sites}
        found[change] = Pairs(states, table.key.to_numpy())
    return found


def ranked(memory: np.ndarray, rule: np.ndarray, site: Site) -> steered.Ranked:
    """Maps of pairs `[n, L, d]`, and the four scores that neurons can be ranked by."""
    maps = NeuronMaps.between(site, memory, rule)
    n = len(memory)
    ranks = rankdata(np.concatenate([memory, rule]), axis=0)[n:].sum(0)
    auc = (ranks - n * (n + 1) / 2) / n**2
    t = np.nan_to_num(effect_size(memory, rule), posinf=LARGE, neginf=-LARGE)
    return steered.Ranked(maps, {"rho": maps.rho, "nmd": maps.nmd, "auc": auc - 0.5, "t": t})


# -- specifications of steering --------------------------------------------------------------------
@dataclass(frozen=True)
class Curve:
    """All specifications of one claim: a row each, and the prompts and keys behind the book's own."""

    table: pd.DataFrame
    n: int
    n_keys: int
    n_cells: int = 0
    identity_holds: bool = True


def steering_curves(
    steering: Steering,
    tables: tuple[pd.DataFrame, pd.DataFrame],
    pairs: Mapping[Change, Pairs],
    change: Change,
    p: MultiverseParameters,
) -> dict[str, Curve]:
    """By direction. tables: answered prompts and data set; change: of the book's own pairs."""
    answered, frame = tables
    sites = list(pairs[change].states)
    maps = {
        (site, kind): ranked(*pairs[kind].states[site], site)
        for site in sites
        for kind in pairs
        if len(pairs[kind]) > 1
    }
    levels = {
        "site": tuple(sites),
        "pairs": tuple(_first(change, CHANGES)),
        "positions": tuple(_first(steering.positions, POSITIONS)),
    }
    rng = np.random.default_rng([p.seed, 16])
    every = steered.families(maps, levels, (p.curve_alphas, p.curve_top_ns), rng)
    free = free_rows(frame, "validation", p.n_free_validation)
    choosing, reporting = (
        prompts_to_turn(answered, split, p.n_prompts) for split in ("validation", "test")
    )
    nothing = np.zeros((1, *steering.nmd.shape))
    before = steered.right_free(steering, nothing, free, steering.positions)[0]
    rules = steered.Rules(p.fixed_alpha, before, p.collateral_limit, p.curve_top_ns)
    found = {}
    for direction in DIRECTIONS:
        rows = pd.concat([choosing[direction], reporting[direction]], ignore_index=True)
        floor_rows = _rephrasings(answered, direction, p.n_prompts)
        answers = [
            steered.answered_family(
                steering.at(_maps(maps, one)), one, (rows, free), direction, rules.at_least
            )
            for one in every
        ]
        floor, still = (
            steered.answers(steering, nothing, some, direction, steering.positions)
            for some in (floor_rows, rows)
        )
        keys = np.unique(np.concatenate([rows.key.to_numpy(str), floor_rows.key.to_numpy(str)]))
        own = np.isin(keys, answered.key[answered.split == "validation"].to_numpy(str))
        deals = steered.deals(own, p.n_deals, np.random.default_rng([p.seed, 17]))
        places = tuple(np.searchsorted(keys, t.key.to_numpy(str)) for t in (rows, floor_rows))
        table = steered.read_curve(
            answers, floor, (places[0], places[1]), (deals, rules), (p.n_resamples, p.seed)
        )
        test = reporting[direction]
        found[direction] = Curve(
            table,
            len(test),
            int(test.key.nunique()),
            sum(2 * len(one.cells) for one in every),
            not still.success["exact"].any(),
        )
    return found


def _maps(maps: Mapping[tuple[str, str], steered.Ranked], one: steered.Family) -> NeuronMaps:
    return maps[one.levels["site"], one.levels["pairs"]].maps


def _first(own, every) -> list:
    """Two levels: the book's own, and the first other one that there is."""
    return [own, *[one for one in every if one != own][:1]]


def _rephrasings(answered: pd.DataFrame, direction: str, limit: int) -> pd.DataFrame:
    """What only the order was changed of, of prompts that show the behaviour to be changed."""
    others = rephrased(answered)
    asked = others[(others.change == "order") & (others.before == START[direction])]
    parts = [spread(asked[asked.split == split], limit) for split in ("validation", "test")]
    return pd.concat(parts, ignore_index=True)


# -- specifications of the probe -------------------------------------------------------------------
def probe_curves(
    model, tokenizer, answered: pd.DataFrame, own: Site, p: MultiverseParameters
) -> dict[str, Curve]:
    """Probes of all sites, fitted on train keys, reported on test keys; and with these dealt anew."""
    parts = [labelled(answered, split, p.n_probe_prompts) for split in ("train", "test")]
    rows = pd.concat(parts, ignore_index=True)
    sites = [own, *(site for site in SITES if site != own)]
    prompts = probes.Prompts(
        states_at(model, tokenizer, rows.prompt, sites),
        tokenize_prompts(tokenizer, list(rows.prompt))[0].numpy(),
        is_rule(rows),
        rows.key.to_numpy(),
    )
    prompts = prompts._replace(states={site: prompts.states[site] for site in sites})
    names, of = np.unique(rows.key.to_numpy(str), return_inverse=True)
    fitted = np.isin(names, parts[0].key.to_numpy(str))
    deals = steered.deals(fitted, p.n_deals, np.random.default_rng([p.seed, 18]))
    masks = [(deal.name, deal.choose[of]) for deal in deals]
    table = probes.probe_curve(prompts, masks, (p.n_resamples, p.seed))
    return {ANY: Curve(table, len(parts[1]), int(parts[1].key.nunique()))}


# -- the set of neurons ----------------------------------------------------------------------------
def stability(
    pairs: Mapping[Change, Pairs], own: tuple[Site, Change], p: MultiverseParameters
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Jaccard of the top neurons under other keys and other pairs, beside that of random sets."""
    site, change = own
    mine = pairs[change]
    sums = PairSums.of(*mine.states[site], mine.keys)
    n_keys, rng = len(sums.count), np.random.default_rng([p.seed, 19])
    ways = {"halves": halvings, "resamples": resamples}
    rows = [
        {"way": way, "share": share} | agreement(sums, draw(n_keys, p.n_halvings, rng), share, rng)
        for way, draw in ways.items()
        for share in SHARES
    ]
    table = pd.DataFrame(rows)
    about = {"n": len(mine), "n_keys": n_keys}
    numbers_of = ("jaccard", "low", "high", "null", "above")
    found: dict[str, Any] = {"share": TOP_SHARE, "site": site, "n_draws": p.n_halvings}
    for way in ways:
        row = table[(table.way == way) & (table.share == TOP_SHARE)].iloc[0]
        found[way] = {name: number(row[name]) for name in numbers_of} | about
    return found | {"pairs": _other_pairs(pairs, own, rng)}, table


def _other_pairs(
    pairs: Mapping[Change, Pairs], own: tuple[Site, Change], rng: np.random.Generator
) -> dict[str, Any]:
    """The same neurons from pairs that differ by the other kind of change? None where there are too few."""
    site, change = own
    (other,) = [kind for kind in pairs if kind != change]
    about = {"kind": other, "n": len(pairs[other])}
    if min(len(pairs[kind]) for kind in (change, other)) < 2:
        return about | {"jaccard": None, "null": None, "above": None}
    one, two = (
        select_top(NeuronMaps.between(site, *pairs[kind].states[site]).rho, TOP_SHARE)
        for kind in (change, other)
    )
    found = jaccard(one, two)
    null = float(np.mean([by_chance(one, two, rng) for _ in range(200)]))
    return about | {"jaccard": found, "null": null, "above": found - null}


# -- what train pairs foretell -----------------------------------------------------------------------
def forecast(pairs: Mapping[Change, Pairs], own: tuple[Site, Change], seed: int) -> dict[str, Any]:
    """What train pairs alone say: agreement of their differences and separation, also by layer."""
    site, change = own
    mine = pairs[change]
    memory, rule = mine.states[site]
    flat = mine.flat(site)
    return {
        "cosine": number(mean_cosine(flat[1] - flat[0], mine.keys)),
        "separation": number(separation(flat[0], flat[1], mine.keys, seed)),
        "cosine_by_layer": numbers(
            mean_cosine(rule[:, k] - memory[:, k], mine.keys) for k in range(memory.shape[1])
        ),
        "n_pairs": len(mine),
    }


# -- what is reported ------------------------------------------------------------------------------
def gathered(
    curves: Mapping[str, Curve],
    sets: tuple[dict[str, Any], pd.DataFrame],
    prompts: tuple[dict[str, Any], pd.DataFrame],
    alone: dict[str, Any],
    ahead: dict[str, Any],
) -> Result:
    """The stage's result: the curves of the claims, and what beside them was measured."""
    told = {}
    for name, curve in curves.items():
        about = {"n": curve.n, "n_keys": curve.n_keys, "n_cells": curve.n_cells}
        told[name] = summary(curve.table, FACTORS[name]) | about
    result = {
        "curves": told,
        "identity_holds": all(curve.identity_holds for curve in curves.values()),
        "stability": sets[0],
        "slopes": prompts[0],
        "isolation": alone,
        "forecast": ahead,
    }
    parts = [curve.table.assign(claim=name) for name, curve in curves.items()]
    tables = {
        "specifications": pd.concat(parts, ignore_index=True),
        "stability": sets[1],
        "slopes": prompts[1],
    }
    return Result(result, tables)


def overview(r: dict) -> pd.DataFrame:
    """A row per claim, choice and level: how many specifications have it, and what they say."""
    rows = [
        {
            "claim": claim,
            "choice": name,
            "level": level,
            "specifications": of["n"],
            "median effect": of["median"],
            "beyond chance": shown(of["share"], ".0%"),
        }
        for claim, one in r["curves"].items()
        for name, levels in one["levels"].items()
        for level, of in levels.items()
    ]
    return pd.DataFrame(rows)


def checks(r: dict, answered: pd.DataFrame) -> list[tuple[str, bool]]:
    """What has to hold, in words, and whether it does."""
    keys = {split: set(rows.key) for split, rows in answered.groupby("split")}
    found = r["curves"].values()
    return [
        ("a shift of zero turns no prompt", r["identity_holds"]),
        (
            "keys that choose and keys that report are disjoint",
            keys["validation"].isdisjoint(keys["test"]),
        ),
        ("train keys are neither", keys["train"].isdisjoint(keys["validation"] | keys["test"])),
        ("every claim was measured in many ways", all(x["n_defined"] > 1 for x in found)),
    ]


def answer(r: dict) -> str:
    """The answer of the lab."""
    lines = []
    for name, one in r["curves"].items():
        what = "the probe's AUC" if name == ANY else f"{name}"
        lines.append(
            f"{what}: {one['n_defined']:,} specifications; above what it is held against in"
            f" {shown(one['positive'], '.0%')}, beyond chance in {shown(one['share'], '.0%')}, the other way"
            f" in {shown(one['reversed'], '.0%')}; median {shown(one['median'], '+.2f')}, worst"
            f" {shown(one['worst'], '+.2f')}; most hangs on: {one['largest']}"
        )
    halves = r["stability"]["halves"]
    lines.append(
        f"top neurons from two halves of the train keys: Jaccard {shown(halves['jaccard'])}, by chance"
        f" {shown(halves['null'])}"
    )
    for direction in DIRECTIONS:
        one, alone = r["slopes"][direction], r["isolation"][direction]["reported"]
        lines.append(
            f"{direction}: anti-steerable {shown(one['anti'], '.0%')} {between(one['anti_interval'])},"
            f" random shifts {shown(one['control'], '.0%')}; cause {shown(alone['cause'])}, isolate"
            f" {shown(alone['isolate'])}"
        )
    return "\n".join(lines)
