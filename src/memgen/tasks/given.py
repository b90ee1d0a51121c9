"""Tasks without training: a pretrained model is asked as it is, about what it knows already.

A key is something that the model answers rightly without a context, so which keys there are is
found out by asking (`asked`, then `keep`). In a conflict prompt the context says something else:
the memory's answer is what is known, the rule's answer what the context says.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import ClassVar

from memgen.terms import GENERALIZATION, MEMORIZATION, OTHER, ContrastOn

from .base import Instance, Key, Rng, Task

#: below this many keys no three splits can be made
FEWEST_KEYS = 3


class GivenTask(Task):
    """A task whose keys are what a pretrained model answers rightly without a context.

    To add one: `every_key`, `asked`, `instructed`, and what every task has (`free`, `keyed`,
    `conflict`, `rephrase`). Until `keep` is called the keys are drawn from all that there are, so
    that everything works without a model. Prompts end without a space, answers begin with one.
    """

    #: no end mark ends an answer: any token that begins a new word does
    open_ended: ClassVar[bool] = True

    def __init__(
        self, n_keys: int, seed: int, contrast_on: ContrastOn = "none", n_gate_keys: int = 0
    ):
        if contrast_on == "gate" or n_gate_keys:
            raise ValueError(
                f"contrast_on={contrast_on}, n_gate_keys={n_gate_keys}: task {self.name!r} is never"
                " trained, so it has no gate keys; set contrast_on=none and n_gate_keys=0"
            )
        self.n_keys = n_keys
        super().__init__(n_keys, seed, "none", 0)

    # -- what a new task implements ---------------------------------------------------------------
    @abstractmethod
    def every_key(self) -> list[Key]:
        """All keys that a model could be asked for, in a fixed order, whatever seed and n_keys."""

    @abstractmethod
    def asked(self) -> dict[str, list[Instance]]:
        """Of every key that there is (not of `self.keys` alone), by name: its question without a
        context, one keyed prompt per wording. A key is known if all of them are answered rightly.
        """

    @abstractmethod
    def instructed(self, instance: Instance, direction: str) -> list[Instance]:
        """The same conflict prompt with an instruction in front, one per wording of it.

        `direction` says towards what: `m2g` towards the text, `g2m` towards what is known.
        """

    # -- what a new task can say ------------------------------------------------------------------
    def form(self, instance: Instance) -> str:
        """How a prompt is worded, whoever it is about and whatever it states: two prompts of one form
        differ in entities and answers alone. "": not known.
        """
        return ""

    def in_forms(self, keys: Collection[str], n: int) -> list[Instance]:
        """Conflict prompts of these keys, each in the same `n` wordings; none: it cannot tell them."""
        return []

    def contexts(self, keys: Collection[str]) -> dict[str, list[Instance]]:
        """Questions about these keys that are no conflict, by what stands in front: `none`, nothing;
        `gold`, a text that says what is known; `irrelevant`, one that says something false of another.
        What the text states is the rule's answer. Nothing: the task has no such texts.
        """
        return {}

    # -- shared -----------------------------------------------------------------------------------
    def vocabulary(self) -> list[str]:
        """Nothing: the pretrained model brings its tokenizer."""
        return []

    def draw_keys(self, rng: Rng, n: int) -> list[Key]:
        keys = self.every_key()
        if n > len(keys):
            raise ValueError(f"task {self.name!r} has only {len(keys)} keys")
        return self.pick(rng, keys, n)

    def keep(self, known: Collection[str]) -> None:
        """From now on `self.keys` are at most `n_keys` of those named, drawn by the seed.

        All named: nothing changes. Raises `ValueError` if fewer than three are left, or if there is
        no such key.
        """
        keys = self.every_key()
        if strange := sorted(set(known) - {key.name for key in keys}):
            raise ValueError(f"task {self.name!r} has no key {strange[0]!r}")
        found = [key for key in keys if key.name in known]
        if len(found) < FEWEST_KEYS:
            raise ValueError(
                f"the model answers {len(found)} of the {len(keys)} questions of task {self.name!r}"
                f" rightly in every wording, and {FEWEST_KEYS} keys are needed; take a larger"
                " base_model"
            )
        drawn = self.pick(self._rng("keys"), found, min(self.n_keys, len(found)))
        self.keys = {key.name: key for key in drawn}

    def pick(self, rng: Rng, keys: list[Key], n: int) -> list[Key]:
        """`n` of these keys, drawn by `rng`."""
        return [keys[i] for i in sorted(rng.permutation(len(keys))[:n])]

    def classify(self, instance: Instance, answer: str) -> str:
        """The behaviour whose answer `answer` begins with, as whole words.

        What follows is the model's own affair. Where one answer begins with the other (New, New
        York), the longer one counts.
        """
        said = [
            (len(expected.strip()), behavior)
            for behavior, expected in (
                (GENERALIZATION, instance.rule_answer),
                (MEMORIZATION, instance.memory_answer),
            )
            if begins(answer, expected)
        ]
        return max(said)[1] if said else OTHER


def begins(answer: str, expected: str) -> bool:
    """Does `answer` begin with `expected` as whole words? Paris: Paris, yes, Parisian, no."""
    answer, expected = answer.strip(), expected.strip()
    if not expected or not answer.startswith(expected):
        return False
    after = answer[len(expected) : len(expected) + 1]
    return not (after.isalnum() or after in ("-", "'", "’"))
