"""What else could explain that a behaviour is foretold: the words, the answer itself, chance, the
key.

Five ways to be fooled, each measured on one model. Labels are 1 = generalization, 0 = memorization.
Whatever is fitted or chosen uses train keys; whatever is reported comes from test keys, but for the
comparison of two splits, which stays among train keys. Intervals are a bootstrap over keys. A
number that does not exist (no such pair, one behaviour only) is nan in the tables and None in the
result.

Which part of the recipe matters: the chosen shift with one ingredient exchanged at a time, at
the same size, on the same test prompts.

The shift under test is the cell that the intervention stage chose on validation keys; nothing is
tuned here. Neurons, values and probes come from the train pairs. Every additive variant has the L2
norm of that shift over all layers together, so what differs is where it points, not how far it
goes. At another site the norm is matched relative to the states there; a clamp has no fixed norm,
and what it moved by is reported.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import capture
from memgen.neurons.pairs import flips
from memgen.tasks.dataset import spread
from memgen.terms import SITES


def labelled(answered: pd.DataFrame, split: str, limit: int) -> pd.DataFrame:
    """At most `limit` different conflict prompts of a split that show one of the two behaviours,
    evenly over the keys.
    """
    chosen = answered[(answered.split == split) & (answered.behavior != "other")]
    chosen = chosen.sort_values(["key", "group", "rephrasing"], kind="stable").drop_duplicates(
        "prompt"
    )
    return spread(chosen, limit).reset_index(drop=True)


def is_rule(rows: pd.DataFrame) -> np.ndarray:
    """Labels `[n]`: 1 generalization, 0 memorization."""
    return (rows.behavior == "generalization").to_numpy().astype(int)


def hidden_states(model, tokenizer, prompts, site: str) -> np.ndarray:
    """Float32 `[n, n_layer, d_model]` at the decision position; also for no prompt at all."""
    ids, mask = (
        tokenize_prompts(tokenizer, list(prompts))
        if len(prompts)
        else (torch.empty(0, 1, dtype=torch.long), torch.ones(0, 1, dtype=torch.long))
    )
    return capture(model, ids, mask, site=site).numpy()


def mean_norm(memory: np.ndarray, rule: np.ndarray) -> float:
    """Mean L2 norm of the train pairs' states `[n, L, d]`, over all layers together: the measure of
    a shift at that site.
    """
    return float(
        np.linalg.norm(np.concatenate([memory, rule]).astype(np.float64), axis=(1, 2)).mean()
    )


def pair_states(
    model, tokenizer, answered: pd.DataFrame, arrays: dict[str, np.ndarray], site: str
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """`(memory, rule)` states `[n, L, d]` of the train pairs at every site, and the pairs' keys
    `[n]`.

    At `site`, the differentiation stage's, they are its own arrays; at the others the same pairs'
    prompts are read again.
    """
    train = answered[answered.split == "train"].reset_index(drop=True)
    pairs = spread(flips(train), len(arrays["memory"]))
    states = {site: (arrays["memory"], arrays["rule"])}
    needed, index = np.unique(pairs[["memory", "rule"]].to_numpy(dtype=int), return_inverse=True)
    ids, mask = tokenize_prompts(tokenizer, list(train.prompt[needed]))
    for other in SITES:
        if other != site:
            read = capture(model, ids, mask, site=other).numpy()[
                index.reshape(-1, 2)
            ]  # [n, 2, L, d]
            states[other] = (read[:, 0], read[:, 1])
    return states, pairs.key.to_numpy()
