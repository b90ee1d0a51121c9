"""What a model inherits from its base: the same pairs in both, and an adapter turned up from 0.

A model and the base that its training started from share every coordinate, so their NMD can be
compared neuron by neuron. One caveat: a base that has never seen a key cannot know a memory answer.
What it can carry is how the two prompts of a pair differ anyway, and where in the network such a
difference is written.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from peft.helpers import rescale_adapter_scale

from memgen.models.generate import answer
from memgen.neurons.nmd import NeuronMaps, split_half
from memgen.neurons.nulls import pearson
from memgen.neurons.selection import TOP_SHARE, select_top
from memgen.stats.columns import numbers
from memgen.stats.intervals import number, wilson
from memgen.tasks import Task, instances
from memgen.tasks.answers import behaviors, rates
from memgen.tasks.dataset import spread

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
N_PROMPTS = 200  # test conflict prompts, at most, that are answered at each scale


def compare(on: NeuronMaps, off: NeuronMaps, n_pairs: int) -> dict:
    """The maps of `n_pairs` pairs with the adapter on beside those of the same pairs with it off.

    By layer: mean |NMD| of both and of their difference, the maps' correlation over neurons (None:
    one is flat). Over all layers: that correlation, the top neurons by |rho| in common, beside
    chance.
    """
    nmds = {"on": on.nmd, "off": off.nmd, "difference": on.nmd - off.nmd}
    tops = [select_top(np.nan_to_num(maps.rho), TOP_SHARE) for maps in (on, off)]
    return {
        "mean_abs_nmd": {name: np.abs(one).mean(1).tolist() for name, one in nmds.items()},
        "correlation": numbers(pearson(a, b) for a, b in zip(on.nmd, off.nmd)),
        "correlation_all": number(pearson(on.nmd.ravel(), off.nmd.ravel())),
        "top_share": TOP_SHARE,
        "top_in_common": float((tops[0] & tops[1]).sum() / tops[0].sum()),
        "n_pairs": n_pairs,
    }


def split_halves(
    on: np.ndarray, off: np.ndarray, keys: np.ndarray, seed: int
) -> dict[str, list[float | None]]:
    """Root mean square NMD by layer without the bias of noise: `on`, `off` and their `difference`.

    on, off: differences rule - memory [n, L, d] of the same pairs, whose keys are [n]. The keys are
    split alike for the three (`nmd.split_half`). None below two keys.
    """
    found = {"on": on, "off": off, "difference": on - off}
    return {
        name: numbers(split_half(one, keys, np.random.default_rng(seed)))
        for name, one in found.items()
    }


def along_the_scale(model, tokenizer, task: Task, answered: pd.DataFrame) -> pd.DataFrame:
    """A row per adapter scale: shares of the behaviours on test conflict prompts, intervals, n."""
    test = answered[(answered.split == "test") & (answered.rephrasing == 0)]
    rows, curve = instances(spread(test, N_PROMPTS)), []
    prompts = [row.prompt for row in rows]
    for scale in SCALES:
        with rescale_adapter_scale(model, scale):
            said = answer(model, tokenizer, prompts, task.max_answer_tokens)
        shares = rates(behaviors(task, rows, said))
        intervals = {
            f"{name}_{end}": value
            for name, share in shares.items()
            for end, value in zip(("low", "high"), wilson(round(share * len(rows)), len(rows)))
        }
        curve.append({"scale": scale, **shares, **intervals, "n": len(rows)})
    return pd.DataFrame(curve)
