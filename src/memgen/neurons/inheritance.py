"""What an adapter inherits from its base: the same pairs with the adapter on and off, and the
adapter turned from 0 to beyond 1.

Adapter and base share every coordinate, so their NMD can be compared neuron by neuron. One caveat
belongs to every number here: a base that has never seen a key cannot know a memory answer. What it
can carry is how the two prompts of a pair differ anyway, and where in the network such a difference
is written.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.config.analyses import DifferentiationParameters
from memgen.models.adapters import scaled
from memgen.models.generate import answer, tokenize_prompts
from memgen.models.hooks import capture
from memgen.neurons.nmd import correlation, nmd
from memgen.neurons.pairs import flips
from memgen.neurons.selection import TOP_SHARE, select_top
from memgen.stats.intervals import wilson
from memgen.tasks import Task, instances
from memgen.tasks.answers import behaviors, rates
from memgen.tasks.dataset import spread

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def compare(on: tuple[np.ndarray, np.ndarray], off: tuple[np.ndarray, np.ndarray]) -> dict:
    """NMD with the adapter on and off. `on`, `off`: hidden states of the memory and the rule halves
    of the same pairs, `[n, n_layer, d_model]`.

    By layer: mean |NMD| of both and of their difference, and the correlation of the two maps over
    neurons (None where one of them is flat). Over all layers: that correlation, and the share of
    the top neurons by |rho| in common, beside what chance gives.
    """
    maps = {"on": nmd(*on), "off": nmd(*off)}
    maps["difference"] = maps["on"] - maps["off"]
    labels = np.repeat([0, 1], len(on[0]))
    tops = [
        select_top(np.nan_to_num(correlation(np.concatenate(states), labels)), TOP_SHARE)
        for states in (on, off)
    ]
    return {
        "mean_abs_nmd": {name: np.abs(one).mean(1).tolist() for name, one in maps.items()},
        "correlation": [_pearson(a, b) for a, b in zip(maps["on"], maps["off"])],
        "correlation_all": _pearson(maps["on"].ravel(), maps["off"].ravel()),
        "top_share": TOP_SHARE,
        "top_in_common": float((tops[0] & tops[1]).sum() / tops[0].sum()),
        "n_pairs": len(on[0]),
    }


def _pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else None


def inherit(
    model,
    tokenizer,
    task: Task,
    answered: pd.DataFrame,
    on: tuple[np.ndarray, np.ndarray],
    p: DifferentiationParameters,
    limit: int = 200,
) -> tuple[dict, pd.DataFrame]:
    """The comparison on the flip pairs of train keys, and the behaviour on test conflict prompts
    along the adapter's scale.

    `on`: hidden states of the memory and the rule halves with the adapter on, as
    `readout.differentiate` found them on these pairs. Returns the comparison and the curve: one row
    a scale, with the shares of the three behaviours, their intervals and n.
    """
    train = answered[answered.split == "train"].reset_index(drop=True)
    pairs = spread(flips(train), p.max_pairs)
    with scaled(model, 0.0):
        off = tuple(
            capture(
                model, *tokenize_prompts(tokenizer, list(train.prompt[pairs[side]])), site=p.site
            ).numpy()
            for side in ("memory", "rule")
        )
    rows = instances(
        spread(answered[(answered.split == "test") & (answered.rephrasing == 0)], limit)
    )
    curve = []
    for factor in SCALES:
        with scaled(model, factor):
            codes = behaviors(
                task,
                rows,
                answer(model, tokenizer, [r.prompt for r in rows], task.max_answer_tokens),
            )
        shares = rates(codes)
        intervals = {
            f"{name}_{end}": value
            for name, share in shares.items()
            for end, value in zip(("low", "high"), wilson(round(share * len(rows)), len(rows)))
        }
        curve.append({"scale": factor, **shares, **intervals, "n": len(rows)})
    return compare(on, off), pd.DataFrame(curve)
