"""Reading a model's hidden states at the decision position, of labelled prompts and of train pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import capture, capture_sites
from memgen.neurons.pairs import flips
from memgen.neurons.probes import Examples
from memgen.tasks.dataset import spread
from memgen.terms import GENERALIZATION, OTHER, SITES, Change


def different_prompts(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` different prompts of these answered ones, evenly over the keys."""
    rows = rows.sort_values(["key", "group", "rephrasing"], kind="stable")
    return spread(rows.drop_duplicates("prompt"), limit).reset_index(drop=True)


def labelled(answered: pd.DataFrame, split: str, limit: int) -> pd.DataFrame:
    """At most `limit` different conflict prompts of a split with a behaviour, even over keys."""
    return different_prompts(
        answered[(answered.split == split) & (answered.behavior != OTHER)], limit
    )


def is_rule(rows: pd.DataFrame) -> np.ndarray:
    """Labels `[n]`: 1 generalization, 0 memorization."""
    return (rows.behavior == GENERALIZATION).to_numpy().astype(int)


@dataclass(frozen=True)
class LabelledStates:
    """Prompts that show one of the two behaviours, with their hidden states `[n, L, d]`."""

    rows: pd.DataFrame
    states: np.ndarray

    @property
    def examples(self) -> Examples:
        """What probes take."""
        return Examples(self.states, is_rule(self.rows), self.rows.key.to_numpy())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> LabelledStates:
        """Those where the mask `[n]` is true."""
        return LabelledStates(self.rows[chosen].reset_index(drop=True), self.states[chosen])


def read_labelled(model, tokenizer, rows: pd.DataFrame, site: str) -> LabelledStates:
    """The prompts that `labelled` gives, with their states at a site."""
    return LabelledStates(rows, hidden_states(model, tokenizer, rows.prompt, site))


def hidden_states(model, tokenizer, prompts, site: str) -> np.ndarray:
    """Float32 `[n, n_layer, d_model]` at the decision position; also for no prompt at all."""
    return states_at(model, tokenizer, prompts, [site])[site]


def states_at(model, tokenizer, prompts, sites: Sequence[str]) -> dict[str, np.ndarray]:
    """The same of several sites, by site, from one pass."""
    ids, mask = (
        tokenize_prompts(tokenizer, list(prompts))
        if len(prompts)
        else (torch.empty(0, 1, dtype=torch.long), torch.ones(0, 1, dtype=torch.long))
    )
    found = capture_sites(model, ids, mask, sites)
    return {site: states.numpy() for site, states in found.items()}


def mean_norm(memory: np.ndarray, rule: np.ndarray) -> float:
    """Mean L2 norm of train pairs' states `[n, L, d]` over all layers: measures a site's shifts."""
    return float(
        np.linalg.norm(np.concatenate([memory, rule]).astype(np.float64), axis=(1, 2)).mean()
    )


def pair_states(
    model,
    tokenizer,
    answered: pd.DataFrame,
    arrays: dict[str, np.ndarray],
    site: str,
    change: Change,
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """The train pairs' states `(memory, rule)` `[n, L, d]` at every site, and their keys `[n]`.

    At `site`, the differentiation stage's, they are its own arrays; elsewhere prompts are read
    again. `change`: the kind of its pairs.
    """
    train = answered[answered.split == "train"].reset_index(drop=True)
    pairs = spread(flips(train, change), len(arrays["memory"]))
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
