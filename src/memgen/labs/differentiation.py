"""Lab 04: hidden states of the pairs of train keys, and what is computed of them.

No validation or test key is seen: what NMD and rho select can be tuned and scored on those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.config.analyses import DifferentiationParameters
from memgen.errors import StudyError
from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import capture
from memgen.neurons.inheritance import along_the_scale, base_maps, compare
from memgen.neurons.nmd import NeuronMaps, effect_size, share_by_layer, top_neurons_table
from memgen.neurons.nulls import same_behavior_nulls
from memgen.neurons.pairs import flips, same_behavior
from memgen.stats.over_seeds import neuron_intervals
from memgen.stats.permutation import discoveries, sign_flip_test
from memgen.stats.reported import shown
from memgen.tasks.dataset import spread
from memgen.terms import GENERALIZATION, MEMORIZATION, SITES, Site

__all__ = ["SITES", "NeuronMaps", "along_the_scale"]  # for the notebook
TOP_COLUMNS = [
    *("layer", "neuron", "nmd", "nmd_low", "nmd_high", "rho"),
    *("effect_size", "effect_low", "effect_high", "p", "significant"),
]


@dataclass(frozen=True)
class TrainPairs:
    """Pairs of prompts of train keys. Their columns `memory` and `rule` are rows of `answered`.

    flips: the behaviour differs; stays: by behaviour, both prompts show it.
    """

    answered: pd.DataFrame
    flips: pd.DataFrame
    stays: dict[str, pd.DataFrame]

    @classmethod
    def of(cls, answered: pd.DataFrame, p: DifferentiationParameters) -> TrainPairs:
        """At most `p.max_pairs` of each kind. Raises `StudyError` for fewer than two flip pairs."""
        answered = answered[answered.split == "train"].reset_index(drop=True)
        found = spread(flips(answered), p.max_pairs)
        if len(found) < 2:
            raise StudyError(
                f"task {p.task}, seed {p.seed}: fewer than two flip pairs on train keys; raise"
                " n_rephrasings or n_conflict_per_key, or train to a more balanced behaviour"
            )
        kinds = (MEMORIZATION, GENERALIZATION)
        return cls(
            answered, found, {b: spread(same_behavior(answered, b), p.max_pairs) for b in kinds}
        )

    @property
    def keys(self) -> np.ndarray:
        """Of the flip pairs, `[n]`."""
        return self.flips.key.to_numpy()

    def read(self, model, tokenizer, site: Site) -> PairStates:
        """Hidden states of all these prompts at the decision position, each prompt read once."""
        kinds = (self.flips, *self.stays.values())
        sides = [
            np.asarray(pairs[side], dtype=int) for pairs in kinds for side in ("memory", "rule")
        ]
        needed = np.unique(np.concatenate(sides))
        ids, mask = tokenize_prompts(tokenizer, list(self.answered.prompt[needed]))
        states = capture(model, ids, mask, site=site).numpy()
        memory, rule, *others = (states[np.searchsorted(needed, rows)] for rows in sides)
        differences = [second - first for first, second in zip(others[::2], others[1::2])]
        return PairStates(site, memory, rule, dict(zip(self.stays, differences)))


@dataclass(frozen=True)
class PairStates:
    """States at a site, each `[n, n_layer, d_model]`: `memory` and `rule` of the flip pairs."""

    site: Site
    memory: np.ndarray
    rule: np.ndarray
    stays: dict[str, np.ndarray]  # by behaviour, differences of the pairs that keep it

    def maps(self) -> NeuronMaps:
        return NeuronMaps.between(self.site, self.memory, self.rule)


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
    table = same_behavior_nulls(
        {b: (states.stays[b], kind.key.to_numpy()) for b, kind in pairs.stays.items()},
        n_permutations=p.n_permutations,
        seed=p.seed,
        q=p.fdr,
        max_pairs=n_pairs,
    )
    everything = np.concatenate(list(states.stays.values()))
    drawn = np.random.default_rng(p.seed).permutation(len(everything))[:n_pairs]
    flat = np.zeros(states.memory.shape[1:])
    return table, everything[drawn].mean(0) if len(drawn) else flat


def inherit(model, tokenizer, pairs: TrainPairs, on: NeuronMaps) -> dict:
    """How much of these maps the base alone has: their comparison with those of the adapter off."""
    prompts = [pairs.answered.prompt[pairs.flips[side]] for side in ("memory", "rule")]
    return compare(on, base_maps(model, tokenizer, prompts, on.site), len(pairs.flips))


def as_stored(found: dict[str, np.ndarray], maps: dict[Site, NeuronMaps]) -> dict[str, np.ndarray]:
    """What later labs read, maps of every site included: float32 without nan and infinity."""
    arrays = found | {name: v for of in maps.values() for name, v in of.arrays().items()}
    return {
        name: np.nan_to_num(np.asarray(value), posinf=0, neginf=0).astype(np.float32)
        for name, value in arrays.items()
    }


def summary(
    arrays: dict[str, np.ndarray],
    null: pd.DataFrame,
    pairs: TrainPairs,
    p: DifferentiationParameters,
) -> dict:
    """`result.json` from the stored arrays; lists are by layer."""
    maps, both = NeuronMaps.of(arrays, p.site), null[null.behavior == "both"].sort_values("layer")
    return {
        "site": p.site,
        "n_pairs": len(pairs.flips),
        "n_keys": int(pairs.flips.key.nunique()),
        "n_null_pairs": int(sum(map(len, pairs.stays.values()))),
        "max_abs_rho": np.abs(maps.rho).max(1).tolist(),
        "mean_abs_nmd": np.abs(maps.nmd).mean(1).tolist(),
        "significant_share": share_by_layer(discoveries(arrays["p"], p.fdr)).tolist(),
        "null_significant_share": [0.0 if pd.isna(v) else float(v) for v in both.significant_share],
    }


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


def base_in_words(base: dict) -> str:
    """What the adapter's maps share with those of its base, as two lines."""
    by_layer, share = ", ".join(map(shown, base["correlation"])), base["top_share"]
    return (
        f"correlation of NMD with the adapter on and off, by layer: {by_layer}; over all layers"
        f" {shown(base['correlation_all'])}\n"
        f"top {share:.0%} of the neurons by |rho| in common: {base['top_in_common']:.0%}"
        f" (by chance {share:.0%})"
    )
