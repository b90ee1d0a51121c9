"""Would a model answer just so? One pass over prompt and answer decides, without decoding.

A greedy answer equals a given one exactly if each of its tokens, the end mark included, is the argmax
after the ones before ("teacher forcing"). In free text any token that begins a new word is as good as the
end mark (`models.endings`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from memgen.models.endings import agree
from memgen.models.generate import first_token_scores
from memgen.models.hooks import evaluating
from memgen.models.packed import Seen, logits_at
from memgen.models.room import fitting
from memgen.phases import phase
from memgen.terms import MEMORY_CODE, OTHER_CODE, RULE_CODE

ROWS = 512  # in one pass, at most


@dataclass
class Decisions:
    """What passes that look for answers hold at the decision position of their prompts, in their order.

    `every`: of so many rows that follow each other and begin with one prompt, the first is read.
    """

    every: int = 1
    _states: list[torch.Tensor] = field(default_factory=list)
    _scores: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def take(self, states: torch.Tensor, logits: torch.Tensor) -> None:
        """Hidden states `[n, L, d]` (`resid_post`) of the next prompts, and logits `[n, vocabulary]`."""
        self._states.append(states)
        self._scores.append(first_token_scores(logits.float().log_softmax(-1).cpu()))

    def arrays(self) -> dict[str, np.ndarray]:
        """`resid_post` `[n, L, d]`, as `hooks.capture` has it; `generate.next_token_scores`, each `[n]`."""
        if not self._states:
            return {}
        found = {"resid_post": torch.cat(self._states)}
        found |= {n: torch.cat([one[n] for one in self._scores]) for n in self._scores[0]}
        return {name: values.numpy() for name, values in found.items()}


@dataclass(frozen=True)
class Expected:
    """Prompts, each with one answer. Indexing selects prompts.

    `ids`: `[n, T]`, prompt, answer and end mark, padded on the right; `starts`: `[n]`, tokens of the
    prompt; `answers`: `[n, A]`, the answer's tokens with the end mark, padded on the right with -1.
    `end`, `ends`: that mark, and what ends an answer beside it (`models.endings`).
    """

    ids: torch.Tensor
    starts: torch.Tensor
    answers: torch.Tensor
    end: int = -2
    ends: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        tokenizer,
        prompts: list[str],
        answers: list[str],
        ends: torch.Tensor | None = None,
    ) -> Expected:
        """Both tokenized apart, as in training and in decoding. `ValueError` unless they pair up."""
        if len(prompts) != len(answers):
            raise ValueError(f"{len(prompts)} prompts with {len(answers)} answers")
        if not prompts:
            return cls(torch.zeros(0, 1).long(), torch.zeros(0).long(), torch.zeros(0, 1).long())
        asked = tokenizer(list(prompts))["input_ids"]
        ended = [
            row + [tokenizer.eos_token_id]
            for row in tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        ]
        rows = [first + second for first, second in zip(asked, ended)]
        return cls(
            _padded(rows, tokenizer.pad_token_id),
            torch.tensor([len(row) for row in asked]),
            _padded(ended, -1),
            tokenizer.eos_token_id,
            ends,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index) -> Expected:
        chosen = self.ids[index], self.starts[index], self.answers[index]
        return Expected(*chosen, self.end, self.ends)

    @phase("answers", unless_inside=True)
    @torch.inference_mode()
    def said(self, model, decisions: Decisions | None = None) -> torch.Tensor:
        """`[n, A]` on the CPU: the argmax at each place of the answer after its own tokens before.

        `decisions` takes what the same passes hold at the decision position.
        """
        found = torch.full_like(self.answers, -1)
        places = torch.arange(self.ids.shape[1] - 1)  # the last token is not read
        lengths = (self.answers >= 0).sum(1)
        with evaluating(model):
            most = fitting(model, self.ids.shape[1], ROWS)
            for rows in torch.arange(len(self)).split(most) if len(self) else ():
                after = places - (self.starts[rows, None] - 1)
                wanted = (after >= 0) & (after < lengths[rows, None])
                seen = None
                if decisions is not None:
                    first = rows % decisions.every == 0
                    seen = Seen((after == 0) & first[:, None])
                logits = logits_at(model, self.ids[rows, :-1], wanted, seen)
                if seen is not None:
                    decisions.take(seen.states, logits[seen.at[wanted].to(logits.device)])
                chosen = logits.argmax(-1)
                found[rows] = found[rows].masked_scatter(self.answers[rows] >= 0, chosen.cpu())
        return found

    def met(self, model) -> np.ndarray:
        """Which greedy answers are the expected ones, bool `[n]`."""
        return self.agreed(self.said(model)).all(1).numpy()

    def agreed(self, said: torch.Tensor) -> torch.Tensor:
        """Which tokens `[n, A]` are those of the answers, bool."""
        return agree(self.answers, said, self.end, self.ends)


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


def both_met(model, one: Expected, other: Expected) -> tuple[np.ndarray, np.ndarray]:
    """Which greedy answers are the one's, and which the other's, bool `[n]` each: the same prompts."""
    met = _side_by_side(one, other).met(model)
    return met[::2], met[1::2]


def behaviors_met(model, memory: Expected, rule: Expected) -> np.ndarray:
    """Behaviour codes of greedy answers, int8 `[n]`: 0 memory (also if both are the same), 1 rule.

    `memory`, `rule`: the same prompts with either answer. Only where an answer leaves the rule's for
    the memory's is a second pass needed.
    """
    return told(model, memory, rule)[0]


@torch.inference_mode()
def told(
    model, memory: Expected, rule: Expected, decisions: Decisions | None = None
) -> tuple[np.ndarray, torch.Tensor]:
    """These codes, and the tokens `[n, A]` that were seen of the answers, padded with -1.

    They are the answer's own without its end, and of another answer its tokens up to the first that is
    no longer the memory's or the rule's. `decisions`: see `Expected.said`.
    """
    if decisions is not None:
        decisions.every = 1 if rule.ends is None else 2
    length = max(memory.answers.shape[1], rule.answers.shape[1])

    def wide(tokens: torch.Tensor) -> torch.Tensor:
        return F.pad(tokens, (0, length - tokens.shape[1]), value=-1)

    def agreed(wanted: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        return agree(wanted, written, rule.end, rule.ends)

    of_memory, of_rule = wide(memory.answers), wide(rule.answers)
    together = None if rule.ends is None else _side_by_side(memory, rule).said(model, decisions)
    said = wide(rule.said(model, decisions)) if together is None else together[1::2]
    path = of_rule.clone()
    same = (of_memory == of_rule).long().cumprod(1)  # up to where the two part
    parted = F.pad(same[:, :-1], (1, 0), value=1).bool()
    ruled = agreed(of_rule, said).all(1)
    begun = (agreed(of_memory, said) | ~parted).all(1)
    codes = np.full(len(rule), OTHER_CODE, dtype=np.int8)
    codes[ruled.numpy()] = RULE_CODE
    codes[(ruled & same.all(1)).numpy()] = MEMORY_CODE
    left = (begun & ~ruled).nonzero()[:, 0]
    if len(left):
        second = wide(memory[left].said(model)) if together is None else together[::2][left]
        said[left], path[left] = second, of_memory[left]
        codes[left[agreed(of_memory[left], said[left]).all(1)].numpy()] = MEMORY_CODE
    other = ~agreed(path, said)
    seen = (other.cumsum(1) - other.long() == 0) & (other | (path != rule.end))
    return codes, said.masked_fill(~seen, -1)


def _side_by_side(memory: Expected, rule: Expected) -> Expected:
    """Each prompt with the one answer and then with the other: what two rows share is computed once.

    In free text answers are of a few tokens behind long prompts, and both are read in one pass.
    """

    def mixed(one: torch.Tensor, other: torch.Tensor, value: int) -> torch.Tensor:
        width = max(one.shape[1], other.shape[1])
        wide = (F.pad(some, (0, width - some.shape[1]), value=value) for some in (one, other))
        return torch.stack([*wide], dim=1).flatten(0, 1)

    return Expected(
        mixed(memory.ids, rule.ids, 0),
        torch.stack([memory.starts, rule.starts], dim=1).flatten(),
        mixed(memory.answers, rule.answers, -1),
        rule.end,
        rule.ends,
    )
