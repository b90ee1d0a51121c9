"""Lab 12: which prompt's run is patched with which other prompt's, and which sources should not do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from memgen.config.causal import PatchingParameters
from memgen.neurons.pairs import flips, same_behavior
from memgen.steering.editing import Writer
from memgen.steering.patching import Interchange
from memgen.steering.prompts import make_prompts
from memgen.steering.steering import Steering
from memgen.tasks.dataset import spread
from memgen.terms import BEHAVIORS, DIRECTIONS, START, TARGET

SOURCES = ("same_behavior", "other_key", "random_prompt")


@dataclass(frozen=True)
class Bench:
    """One direction on the pairs of one split: what is patched into what.

    `rows`: `target`, `source`, `memory_answer`, `rule_answer`, `key`, and `source_answer`, what the
    model writes to the source.
    """

    steering: Steering
    direction: str
    rows: pd.DataFrame
    exchange: Interchange

    @classmethod
    def of(cls, steering: Steering, direction: str, rows: pd.DataFrame) -> Bench:
        answers = list(rows.memory_answer), list(rows.rule_answer)
        target, source = (
            make_prompts(steering.tokenizer, list(rows[side]), *answers)
            for side in ("target", "source")
        )
        also = own_answers(steering, rows)
        exchange = Interchange(Writer.of(steering), target, source, also)
        return cls(steering, direction, rows, exchange)

    @property
    def keys(self) -> np.ndarray:
        return self.rows.key.to_numpy()

    @property
    def n_positions(self) -> int:
        """How many tokens the shortest prompt has."""
        return int(self.exchange.target.attention_mask.sum(1).min())


def own_answers(steering: Steering, rows: pd.DataFrame) -> torch.Tensor:
    """What the model writes to the sources, with its end token, `[n, A]`, padded with -1."""
    end, length = steering.tokenizer.eos_token_id, steering.task.max_answer_tokens
    texts = steering.tokenizer(list(rows.source_answer), add_special_tokens=False)["input_ids"]
    cut = [[*ids, end][:length] for ids in texts]
    return torch.tensor([row + [-1] * (length - len(row)) for row in cut])


def _swapped(rows: pd.DataFrame, target, source, steering: Steering, limit: int) -> pd.DataFrame:
    """Row positions as prompts: those of as many tokens and the same two answers, even over keys."""
    a, b = rows.iloc[target].reset_index(drop=True), rows.iloc[source].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "target": a.prompt,
            "source": b.prompt,
            "memory_answer": a.memory_answer,
            "rule_answer": a.rule_answer,
            "source_answer": b.answer,
            "key": a.key,
        }
    )
    alike = (a.memory_answer == b.memory_answer) & (a.rule_answer == b.rule_answer)
    alike &= _lengths(steering, a.prompt) == _lengths(steering, b.prompt)
    return spread(table[alike.to_numpy()].reset_index(drop=True), limit).reset_index(drop=True)


def _lengths(steering: Steering, prompts: pd.Series) -> np.ndarray:
    ids = steering.tokenizer(list(prompts))["input_ids"] if len(prompts) else []
    return np.array([len(row) for row in ids], dtype=int)


def pairs_to_swap(
    steering: Steering, answered: pd.DataFrame, split: str, direction: str, limit: int
) -> Bench | None:
    """Flip pairs that differ in order alone; None without any."""
    rows = answered[answered.split == split].reset_index(drop=True)
    pairs = flips(rows, "order").sort_values("key", kind="stable")
    target, source = ("memory", "rule") if direction == "m2g" else ("rule", "memory")
    table = _swapped(rows, pairs[target], pairs[source], steering, limit)
    return None if table.empty else Bench.of(steering, direction, table)


def other_sources(bench: Bench, answered: pd.DataFrame, p: PatchingParameters) -> dict[str, Bench]:
    """Sources that should not do: by name (see `SOURCES`), `n_sources` draws each where random.

    `same_behavior`: the other prompt of a pair that does not flip. `other_key`: a prompt of another
    key that shows the source's behaviour. `random_prompt`: any conflict prompt of another key.
    """
    direction, steering = bench.direction, bench.steering
    rows = answered[answered.split == "test"].reset_index(drop=True)
    still = same_behavior(rows, START[direction], "order").sort_values("key", kind="stable")
    found = {"same_behavior": _swapped(rows, still.memory, still.rule, steering, p.n_pairs)}
    opposite = BEHAVIORS[TARGET[direction]]
    streams = np.random.default_rng([p.seed, DIRECTIONS.index(direction)]).spawn(2)
    pool = rows.drop_duplicates("prompt").reset_index(drop=True)
    for name, among, rng in (
        ("other_key", pool[pool.behavior == opposite], streams[0]),
        ("random_prompt", pool, streams[1]),
    ):
        found[name] = _foreign(bench, among, p.n_sources, rng)
    return {
        name: Bench.of(steering, direction, table) for name, table in found.items() if len(table)
    }


def _foreign(
    bench: Bench, among: pd.DataFrame, n_draws: int, rng: np.random.Generator
) -> pd.DataFrame:
    """The bench's targets, each with a random source of another key and as many tokens, if any.

    One draw for all targets after the other.
    """
    lengths, keys = _lengths(bench.steering, among.prompt), among.key.to_numpy()
    own = _lengths(bench.steering, bench.rows.target)
    fitting = [
        np.flatnonzero((lengths == length) & (keys != key)) for key, length in zip(bench.keys, own)
    ]
    drawn = [
        (row, rng.choice(places))
        for _ in range(n_draws)
        for row, places in enumerate(fitting)
        if len(places)
    ]
    rows, sources = np.array(drawn, dtype=int).reshape(-1, 2).T
    given = {
        "source": among.prompt.to_numpy()[sources],
        "source_answer": among.answer.to_numpy()[sources],
    }
    return bench.rows.iloc[rows].reset_index(drop=True).assign(**given)
