"""Reading a model's hidden states at the decision position, of labelled prompts and of train pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import capture, capture_sites
from memgen.neurons.pairs import flips
from memgen.neurons.probes import Examples
from memgen.store.reader import FinishedStage
from memgen.tasks.dataset import spread
from memgen.terms import GENERALIZATION, OTHER, SITES, Change

#: lab 03's file of what was read while it asked
DECISIONS = "decisions"


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


@dataclass(frozen=True)
class Known:
    """What was read at the decision position of prompts while they were answered: nothing has to run again.

    `place`: of each prompt among the rows of `arrays`, which are those of `forced.Decisions`. Up to rounding
    the states are those of `hidden_states`: these prompts shared a pass with others.
    """

    place: dict[str, int]
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, asked: pd.DataFrame, arrays: dict[str, np.ndarray]) -> Known:
        """`asked`: the prompts in the order in which they were answered, each perhaps several times."""
        return cls({prompt: i for i, prompt in enumerate(asked.prompt.unique())}, arrays)

    @classmethod
    def left(cls, pairs: FinishedStage) -> Known | None:
        """What lab 03 left beside its answers; None: of a model of the study's own, nothing."""
        if not pairs.has(f"{DECISIONS}.safetensors"):
            return None
        return cls.of(pairs.table("answered"), pairs.arrays(DECISIONS))

    def covers(self, prompts: Iterable[str], site: str) -> bool:
        return site in self.arrays and all(prompt in self.place for prompt in prompts)

    def read(self, name: str, prompts: Iterable[str]) -> np.ndarray:
        """An array's rows of these prompts."""
        return self.arrays[name][[self.place[prompt] for prompt in prompts]]


def hidden_states(model, tokenizer, prompts, site: str, known: Known | None = None) -> np.ndarray:
    """Float32 `[n, n_layer, d_model]` at the decision position; also for no prompt at all."""
    return states_at(model, tokenizer, prompts, [site], known)[site]


def states_at(
    model, tokenizer, prompts, sites: Sequence[str], known: Known | None = None
) -> dict[str, np.ndarray]:
    """The same of several sites, by site, from one pass; from none if all of it is `known`."""
    if known is not None and all(known.covers(prompts, site) for site in sites):
        return {site: known.read(site, prompts) for site in sites}
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
