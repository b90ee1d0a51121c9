"""Lab 04: hidden states of the pairs of train keys, and what is computed of them.

No validation or test key is seen: what NMD and rho select can be tuned and scored on those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.config.analyses import DifferentiationParameters
from memgen.errors import InapplicableError
from memgen.models.forced import Decisions
from memgen.models.generate import tokenize_prompts
from memgen.models.origin import base_alone
from memgen.neurons.inheritance import along_the_scale, compare, split_halves
from memgen.neurons.nmd import NeuronMaps, effect_size, top_neurons_table
from memgen.neurons.nulls import SignFlips, by_layer, oriented, same_behavior_nulls
from memgen.neurons.orientation import rule_likeness
from memgen.neurons.pairs import flips, same_behavior
from memgen.neurons.prompt_features import nearness
from memgen.neurons.same_wording import SameWording, ask, same_wording_in_words
from memgen.neurons.states import Known, is_rule, labelled, states_at
from memgen.stats.columns import numbers
from memgen.stats.intervals import number, weighted_mean
from memgen.stats.over_seeds import neuron_intervals
from memgen.stats.permutation import discoveries, sign_flip_test
from memgen.stats.reported import by_key, shown
from memgen.store.reader import FinishedStage
from memgen.tasks import GivenTask, Task
from memgen.tasks.dataset import spread
from memgen.terms import CHANGES, GENERALIZATION, MEMORIZATION, SITES, Change, Site

# for the notebook
__all__ = ["CHANGES", "SITES", "Known", "NeuronMaps", "along_the_scale", "same_wording_in_words"]
TOP_COLUMNS = [
    *("layer", "neuron", "nmd", "nmd_low", "nmd_high", "rho"),
    *("effect_size", "effect_low", "effect_high", "p", "significant"),
]
ALIKE = ("same_token", "same_setting")  # what both prompts of a pair can have in common
SHARES = [f"{name}_share" for name in ALIKE]
BY_LAYER = [
    *("significant_share", "mean_abs_nmd", "nmd_split_half", "nmd_relative", "max_abs_rho"),
    "correlation",
]
LAYER_COLUMNS = [
    *("change", "model", "among", "layer", "n_pairs", "n_keys"),
    *SHARES,
    *BY_LAYER,
]


@dataclass(frozen=True)
class TrainPairs:
    """Pairs of prompts of train keys. Their columns `memory` and `rule` are rows of `answered`.

    flips: the behaviour differs; stays: by behaviour, both prompts show it; change: what the two
    prompts of a pair differ by.
    """

    answered: pd.DataFrame
    flips: pd.DataFrame
    stays: dict[str, pd.DataFrame]
    change: Change

    @classmethod
    def of(cls, answered: pd.DataFrame, p: DifferentiationParameters) -> TrainPairs:
        """At most `p.max_pairs` of each kind. Raises `InapplicableError` for fewer than two flip pairs."""
        found = cls.differing_by(p.pairs, answered, p.max_pairs)
        if len(found.flips) < 2:
            raise InapplicableError(
                f"task {p.task}, seed {p.seed}: fewer than two flip pairs on train keys that differ"
                f" by {p.pairs}; raise n_rephrasings or n_conflict_per_key, or train to a more"
                " balanced behaviour"
            )
        return found

    @classmethod
    def differing_by(cls, change: Change, answered: pd.DataFrame, limit: int) -> TrainPairs:
        """Those with prompts that differ by one kind of change, at most `limit` of each."""
        answered = answered[answered.split == "train"].reset_index(drop=True)
        stays = {
            behavior: spread(same_behavior(answered, behavior, change), limit)
            for behavior in (MEMORIZATION, GENERALIZATION)
        }
        return cls(answered, spread(flips(answered, change), limit), stays, change)

    @property
    def keys(self) -> np.ndarray:
        """Of the flip pairs, `[n]`."""
        return self.flips.key.to_numpy()

    def tokens(self, tokenizer) -> np.ndarray:
        """Ids of all answered prompts, `[prompts, T]`; the last is that of the decision position."""
        return tokenize_prompts(tokenizer, list(self.answered.prompt))[0].numpy()

    def alike(self, task: Task, tokenizer) -> dict[str, np.ndarray]:
        """What both prompts of a flip pair can have in common, each `[n]`, bool.

        `same_token`: the token at the decision position. `same_setting`: how near they are to the
        settings that their key was trained in (`Task.nearness`); only where the task has any.
        """
        near = nearness(task, self.answered)
        of = {"same_token": self.tokens(tokenizer)[:, -1]}
        of |= {} if near is None else {"same_setting": near}
        memory, rule = (self.flips[side].astype(int) for side in ("memory", "rule"))
        return {name: value[memory] == value[rule] for name, value in of.items()}

    def read(self, model, tokenizer, site: Site, known: Known | None = None) -> PairStates:
        """Hidden states of all these prompts at the decision position, each read once, unless `known`."""
        return self.read_sites(model, tokenizer, [site], known)[site]

    def read_sites(
        self, model, tokenizer, sites: Sequence[Site], known: Known | None = None
    ) -> dict[Site, PairStates]:
        """The same of several sites, by site, from one pass."""
        kinds = (self.flips, *self.stays.values())
        sides = [
            np.asarray(pairs[side], dtype=int) for pairs in kinds for side in ("memory", "rule")
        ]
        needed = np.unique(np.concatenate(sides))
        every = states_at(model, tokenizer, self.answered.prompt[needed], sites, known)
        found = {}
        for site in sites:
            states = every.pop(site)  # only one site's is held twice
            memory, rule, *others = (states[np.searchsorted(needed, rows)] for rows in sides)
            differences = [second - first for first, second in zip(others[::2], others[1::2])]
            found[site] = PairStates(site, memory, rule, dict(zip(self.stays, differences)))
        return found


@dataclass(frozen=True)
class PairStates:
    """States at a site, each `[n, n_layer, d_model]`: `memory` and `rule` of the flip pairs."""

    site: Site
    memory: np.ndarray
    rule: np.ndarray
    stays: dict[str, np.ndarray]  # by behaviour, differences of the pairs that keep it

    def maps(self) -> NeuronMaps:
        return NeuronMaps.between(self.site, self.memory, self.rule)


def sign_flips(p: DifferentiationParameters) -> SignFlips:
    """The test of this lab's parameters."""
    return SignFlips(p.n_permutations, p.fdr, p.seed)


def tested(
    states: PairStates, pairs: TrainPairs, p: DifferentiationParameters
) -> dict[str, np.ndarray]:
    """`memory`, `rule` [n, L, d]; effect sizes and p-values of all neurons [L, d] by sign flips of keys."""
    p_values = sign_flip_test(states.rule - states.memory, pairs.keys, p.n_permutations, p.seed)
    return {
        "memory": states.memory,
        "rule": states.rule,
        "effect_size": effect_size(states.memory, states.rule),
        "p": p_values,
    }


def nulls(
    states: PairStates, pairs: TrainPairs, p: DifferentiationParameters
) -> tuple[pd.DataFrame, np.ndarray]:
    """The same test on pairs whose behaviour stays; a mean difference [L, d] of as many as flip."""
    n_pairs = len(pairs.flips)
    everything = np.concatenate(list(states.stays.values()))
    drawn = np.random.default_rng(p.seed).permutation(len(everything))[:n_pairs]
    flat = np.zeros(states.memory.shape[1:])
    return _stays(states.stays, pairs, p), everything[drawn].mean(0) if len(drawn) else flat


def oriented_nulls(
    states: PairStates, pairs: TrainPairs, tokenizer, p: DifferentiationParameters
) -> tuple[pd.DataFrame, dict]:
    """That test with each pair turned by what its words look like, and how well words tell.

    A classifier of the train prompts' tokens, which saw no prompt of the pair's key, says which of
    two prompts looks more like one that is answered by the rule. The dictionary says in which share
    of the flip pairs it points at the prompt that is (a tie: half), with its interval over keys.
    """
    tokens, answered = pairs.tokens(tokenizer), pairs.answered
    known = labelled(answered.assign(row=answered.index), "train", 2 * p.max_pairs)
    fit = tokens[known.row], is_rule(known), known.key.to_numpy()
    looks = rule_likeness(fit, (tokens, answered.key.to_numpy()), seed=p.seed)

    def sides(of: pd.DataFrame) -> list[np.ndarray]:
        return [looks[of[side].astype(int)] for side in ("memory", "rule")]

    turned = {b: oriented(states.stays[b], *sides(of)) for b, of in pairs.stays.items()}
    memory, rule = sides(pairs.flips)
    right = (rule > memory) + 0.5 * (rule == memory)
    return _stays(turned, pairs, p), by_key(weighted_mean, pairs.keys, right, seed=p.seed)


def _stays(
    differences: dict[str, np.ndarray], pairs: TrainPairs, p: DifferentiationParameters
) -> pd.DataFrame:
    return same_behavior_nulls(
        {b: (differences[b], of.key.to_numpy()) for b, of in pairs.stays.items()},
        n_permutations=p.n_permutations,
        seed=p.seed,
        q=p.fdr,
        max_pairs=len(pairs.flips),
    )


def same_wording(
    model,
    tokenizer,
    task: GivenTask,
    pairs: TrainPairs,
    maps: NeuronMaps,
    p: DifferentiationParameters,
) -> tuple[dict | None, dict[str, np.ndarray]]:
    """Train keys asked in one wording, two keys a pair, beside the `maps` of the rephrasing pairs.

    Their numbers (None: the task cannot say its prompts in given forms), and their own maps.
    """
    asked = ask(model, tokenizer, task, pairs.answered, decisions := Decisions())
    if asked is None:
        return None, {}
    found = SameWording.of(asked, p.max_pairs, p.seed)
    known = Known.of(asked, decisions.arrays())
    return found.compared(model, tokenizer, maps, sign_flips(p), known)


def in_the_base(
    model, tokenizer, training: FinishedStage, kinds: tuple[TrainPairs, ...], site: Site
) -> dict[Change, PairStates | None]:
    """The same prompts in the base that the model was trained from; None: it had none."""
    with base_alone(model, training) as base:
        return {
            pairs.change: None if base is None else pairs.read(base, tokenizer, site)
            for pairs in kinds
        }


def layers(
    states: dict[str, PairStates | None],
    pairs: TrainPairs,
    alike: dict[str, np.ndarray],
    reference: np.ndarray,
    test: SignFlips,
) -> list[pd.DataFrame]:
    """One kind of flip pairs by layer, in each model that `states` names: `nulls.by_layer`.

    Of all pairs and of those whose prompts are `alike` in some way (`among`: all, or its names).
    `reference`: NMD [L, d] that theirs is correlated with. No table of fewer than two pairs.
    """
    about: dict = {"change": pairs.change}
    about |= {f"{name}_share": _share_of(alike.get(name)) for name in ALIKE}
    parts = []
    for name, of in states.items():
        if of is None or len(pairs.flips) < 2:
            continue
        whole = by_layer(of.memory, of.rule, pairs.keys, test, reference)
        parts.append(whole.assign(**about, model=name, among="all"))
        for among, chosen in alike.items():
            if chosen.sum() < 2:
                continue
            both = of.memory[chosen], of.rule[chosen]
            found = (  # mostly these are the same pairs
                whole if chosen.all() else by_layer(*both, pairs.keys[chosen], test, reference)
            )
            parts.append(found.assign(**about, model=name, among=among))
    return [part[LAYER_COLUMNS] for part in parts]


def _share_of(chosen: np.ndarray | None) -> float:
    return np.nan if chosen is None or not len(chosen) else float(chosen.mean())


def inherit(on: PairStates, off: PairStates, pairs: TrainPairs, seed: int) -> dict:
    """How much of the adapter's maps the base alone has, from the same pairs with it on and off."""
    halves = split_halves(on.rule - on.memory, off.rule - off.memory, pairs.keys, seed)
    return compare(on.maps(), off.maps(), len(pairs.flips)) | {"nmd_split_half": halves}


def as_stored(found: dict[str, np.ndarray], maps: dict[Site, NeuronMaps]) -> dict[str, np.ndarray]:
    """What later labs read, maps of every site included: float32 without nan and infinity."""
    arrays = found | {name: v for of in maps.values() for name, v in of.arrays().items()}
    return {
        name: np.nan_to_num(np.asarray(value), posinf=0, neginf=0).astype(np.float32)
        for name, value in arrays.items()
    }


def summary(
    table: pd.DataFrame,
    nulls: dict[str, pd.DataFrame],
    pairs: TrainPairs,
    n_neurons: int,
    p: DifferentiationParameters,
) -> dict:
    """`result.json`; lists are by layer.

    table: what `layers` gives, of both kinds of pairs; nulls: those whose behaviour stays, `drawn`
    and `oriented`. At the top stand the numbers of the pairs that the maps are made of, `base_null`
    has theirs in the base (None: there was none), `by_change` those of both kinds (None: too few).
    """
    kinds = {change: of_change(table, change) for change in CHANGES}
    main = kinds[p.pairs] or {}  # there are two pairs at least: `TrainPairs.of`
    shares = {name: _share(null) for name, null in nulls.items()}
    smallest = max(1 / (p.n_permutations + 1), 2.0 ** (1 - main["n_keys"]))
    top = ("n_pairs", "n_keys", *SHARES, *BY_LAYER[:-1])
    return {
        "site": p.site,
        "pairs": p.pairs,
        **{name: main[name] for name in top},
        "n_null_pairs": int(sum(map(len, pairs.stays.values()))),
        "null_significant_share": shares["drawn"],
        "oriented_null_significant_share": shares["oriented"],
        "base_null": main["base"],
        "by_change": kinds,
        # what the test can find at all: as many neurons at its smallest p have to be there together
        "n_permutations": p.n_permutations,
        "n_neurons": n_neurons,
        "smallest_p": smallest,
        "fewest_together": math.ceil(smallest * n_neurons / p.fdr - 1e-9),
    }


def of_change(table: pd.DataFrame, change: Change) -> dict | None:
    """One kind of pairs in the trained model; `base`: in its base; those alike alone (`ALIKE`)."""

    def lists(model: str, among: str) -> dict | None:
        rows = table[
            (table.change == change) & (table.model == model) & (table.among == among)
        ].sort_values("layer")
        if rows.empty:
            return None
        counts = {name: int(rows[name].iloc[0]) for name in ("n_pairs", "n_keys")}
        share = {name: number(rows[name].iloc[0]) for name in SHARES}
        return counts | share | {name: numbers(rows[name]) for name in BY_LAYER}

    found = lists("trained", "all")
    if found is None:
        return None
    alone = {name: lists("trained", name) for name in ALIKE}
    return found | {
        "base": lists("base", "all"),
        **{name: of and of | {"base": lists("base", name)} for name, of in alone.items()},
    }


def _share(null: pd.DataFrame) -> list[float]:
    """Significant share by layer of both behaviours together; 0 without a pair."""
    both = null[null.behavior == "both"].sort_values("layer")
    return [0.0 if pd.isna(v) else float(v) for v in both.significant_share]


def top_neurons(
    arrays: dict[str, np.ndarray], answered: pd.DataFrame, p: DifferentiationParameters
) -> pd.DataFrame:
    """The eight largest |rho| (layers from 1), intervals over keys, outwards by that choice."""
    maps, p_values = NeuronMaps.of(arrays, p.site), arrays["p"]
    significant = discoveries(p_values, p.fdr)
    top = top_neurons_table(maps.nmd, maps.rho, arrays["effect_size"], p_values, significant, k=8)
    differences = (arrays["rule"] - arrays["memory"])[:, top.layer, top.neuron]
    around = neuron_intervals(differences, TrainPairs.of(answered, p).keys, p.seed)
    return top.assign(layer=top.layer + 1, **around)[TOP_COLUMNS]


def against_base(r: dict) -> list[str]:
    """Share of neurons that differ, in the trained model and in its base, a line per kind of pair."""
    lines = []
    for change, found in r["by_change"].items():
        if found is None:
            lines.append(f"{change}: fewer than two pairs")
            continue
        base = found["base"]
        in_base = "no base" if base is None else f"base {_listed(base, 'significant_share')}"
        similar = "" if base is None else f"; maps correlated {_listed(base, 'correlation', '.2f')}"
        lines.append(
            f"{change} (n={found['n_pairs']}, {found['n_keys']} keys,"
            f" {found['same_token_share']:.0%} ask about the same token): trained"
            f" {_listed(found, 'significant_share')}, {in_base}{similar}"
        )
    return lines


def _listed(found: dict, name: str, form: str = ".0%") -> str:
    return " ".join(shown(value, form) for value in found[name])


def base_in_words(base: dict) -> str:
    """What the adapter's maps share with those of its base, as two lines."""
    by_layer, share = ", ".join(map(shown, base["correlation"])), base["top_share"]
    return (
        f"correlation of NMD with the adapter on and off, by layer: {by_layer}; over all layers"
        f" {shown(base['correlation_all'])}\n"
        f"top {share:.0%} of the neurons by |rho| in common: {base['top_in_common']:.0%}"
        f" (by chance {share:.0%})"
    )
