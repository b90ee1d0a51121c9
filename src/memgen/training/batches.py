"""What a training step draws: encoded instances, mixed by kind (a run) or by family (a base).

No conflict prompt is ever among them, and a base's batches hold no key.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from memgen.config.training import TrainingParameters
from memgen.errors import ArtifactError
from memgen.models.tokenizer import token_ids
from memgen.tasks import instances

IGNORE = -100  # label of positions without loss


@dataclass
class Pool:
    """Instances ready to train on: token ids and labels, int64 `[n, length]`, right-padded."""

    ids: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self):
        self.length = self.ids.shape[1]

    def padded(self, length: int, pad: int) -> Pool:
        """The same instances with more padding on the right."""
        more = length - self.length
        return (
            Pool(F.pad(self.ids, (0, more), value=pad), F.pad(self.labels, (0, more), value=IGNORE))
            if more
            else self
        )

    def draw(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(len(self.ids), (n,), generator=generator)
        return self.ids[rows], self.labels[rows]


def encode(
    tokenizer, prompts: list[str], targets: list[str], loss_on: str, length: int = 0
) -> Pool:
    """Prompt, target and end mark as one sequence; loss on the answer (with end mark) or on all.

    The two are tokenized apart, so that the prompt's tokens are those that the model is asked with;
    what a tokenizer puts before a text (LLaMA's begin mark) stands before the prompt alone.
    """
    asked, answered = token_ids(tokenizer, prompts), token_ids(tokenizer, targets, special=False)
    end = tokenizer.eos_token_id
    rows = [[*prompt, *target, end] for prompt, target in zip(asked, answered)]
    begins, ends = (np.fromiter(map(len, some), np.int64, len(rows)) for some in (asked, rows))
    length = max(length, int(ends.max()))
    column = np.arange(length)
    there = column < ends[:, None]
    ids = np.full(there.shape, tokenizer.pad_token_id, dtype=np.int64)
    ids[there] = np.fromiter(chain.from_iterable(rows), np.int64, int(ends.sum()))
    first = begins if loss_on == "answer" else np.ones_like(begins)
    labels = np.where(there & (column >= first[:, None]), ids, IGNORE)
    return Pool(torch.from_numpy(ids), torch.from_numpy(labels))


def same_length(pools: dict[str, Pool], pad: int) -> dict[str, Pool]:
    """The pools, all padded to the longest."""
    length = max(pool.length for pool in pools.values())
    return {name: pool.padded(length, pad) for name, pool in pools.items()}


class Mixture:
    """Draws free prompts and, after `rule_first_steps`, keyed (and contrast) prompts."""

    def __init__(self, tokenizer, frame: pd.DataFrame, parameters: TrainingParameters):
        kinds = {"free": frame[(frame.kind == "free") & (frame.split == "train")]}
        kinds["keyed"], kinds["contrast"] = (
            frame[frame.kind == kind] for kind in ("keyed", "contrast")
        )
        if (frame.kind == "conflict").any() and set(
            frame[frame.kind == "conflict"].prompt
        ) & set().union(*(set(part.prompt) for part in kinds.values())):
            raise ArtifactError(
                "the data set trains on a conflict prompt; delete it and run lab 01_dataset_design"
                " again"
            )
        self.pools = same_length(
            {
                kind: encode(
                    tokenizer,
                    [r.prompt for r in rows],
                    [r.target for r in rows],
                    parameters.loss_on,
                )
                for kind, part in kinds.items()
                if len(part)
                for rows in [instances(part)]
            },
            tokenizer.pad_token_id,
        )
        self.length = next(iter(self.pools.values())).length
        self.parameters = parameters
        self.contrast = True

    def lean(self, found: dict[str, float]) -> None:
        """With `balance`: contrast prompts only while validation keys lean to memory."""
        self.contrast = not self.parameters.balance or found["memory_rate"] > found["rule_rate"]

    def __call__(self, step: int, generator: torch.Generator):
        p = self.parameters
        n_with_key = round(p.batch_size * p.keyed_share) if step >= p.rule_first_steps else 0
        n_contrast = (
            round(n_with_key * p.contrast_share)
            if self.contrast and "contrast" in self.pools
            else 0
        )
        wanted = {
            "free": p.batch_size - n_with_key,
            "keyed": n_with_key - n_contrast,
            "contrast": n_contrast,
        }
        parts = [self.pools[kind].draw(n, generator) for kind, n in wanted.items() if n]
        return tuple(torch.cat(columns) for columns in zip(*parts))


#: length of the repeated sequences that form induction, for one task's base; those of a shared base are as
#: long as its longest prompt
REPEAT_LENGTH = 24
SHORTEST_PERIOD = 4  # of them; the longest is half their length
JOIN = 0.8  # free accuracy of the families that come first, at which the others join
FLOOR = 0.05  # added to a task's error when batches are shared out, so that none is dropped


class BaseMixture:
    """Draws a base's batches: free prompts of every family and repeated sequences, never a key."""

    def __init__(
        self,
        tokenizer,
        free: dict[str, pd.DataFrame],
        batch_size: int,
        repeat_share: float,
        first: list[str] = (),
        loss_on: str = "answer",
    ):
        """`free`: prompts by family. One alone is padded to `REPEAT_LENGTH`, several are not."""
        self.batch_size, self.repeat_share = batch_size, repeat_share
        pools = {
            family: encode(tokenizer, [r.prompt for r in rows], [r.target for r in rows], loss_on)
            for family, part in free.items()
            for rows in [instances(part[part.split == "train"])]
        }
        longest = max(pool.length for pool in pools.values())
        self.length = max(longest, REPEAT_LENGTH) if repeat_share and len(pools) == 1 else longest
        self.pools = {
            family: pool.padded(self.length, tokenizer.pad_token_id)
            for family, pool in pools.items()
        }
        self.joined = False
        self.first = [family for family in self.pools if family in first]
        self.vocabulary_size, self.first_token = len(tokenizer), len(tokenizer.all_special_ids)
        self.lean(dict.fromkeys(pools, 0.0))

    def lean(self, found: dict[str, float]) -> None:
        """Share the batch out by what each family still gets wrong (`found`: accuracy by family).

        Families that come first have the batch to themselves until all reach `JOIN`: sums with
        several carries are learned in one sudden step, late or never where copying and shifting are
        learned too.
        """
        self.joined = self.joined or all(found[family] >= JOIN for family in self.first)
        alone = [] if self.joined else self.first
        self.n_repeats = 0 if alone else round(self.batch_size * self.repeat_share)
        n_free, learning = self.batch_size - self.n_repeats, alone or list(self.pools)
        wrong = np.array([1 - found[family] + FLOOR for family in learning])
        counts = np.floor(n_free * wrong / wrong.sum() + 1e-9).astype(int)
        counts[wrong.argmax()] += n_free - counts.sum()
        self.counts = dict(zip(learning, counts.tolist()))

    def __call__(self, step: int, generator: torch.Generator):
        parts = [self.pools[family].draw(n, generator) for family, n in self.counts.items() if n]
        if self.n_repeats:
            parts.append(
                repeated_sequences(
                    self.n_repeats, self.length, self.vocabulary_size, self.first_token, generator
                )
            )
        return tuple(torch.cat(columns) for columns in zip(*parts))


def repeated_sequences(
    n: int, length: int, vocabulary_size: int, first_token: int, generator: torch.Generator
):
    """`(ids, labels)` `[n, length]`: random sequences, repeated; loss from the second period on."""
    low, high = min(SHORTEST_PERIOD, length // 2), length // 2
    period = torch.randint(low, high + 1, (n, 1), generator=generator)
    block = torch.randint(first_token, vocabulary_size, (n, high), generator=generator)
    position = torch.arange(length).expand(n, -1)
    ids = block.gather(1, position % period)
    return ids, torch.where(position < period, IGNORE, ids)
