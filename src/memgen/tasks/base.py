"""What a task is, and how its data set is generated and split by key.

A task is text. To add one, subclass :class:`Task`, give it a name, its vocabulary and five small
methods (`draw_keys`, `free`, `keyed`, `conflict`, `rephrase`; `contrast` if its keys can be trained
with the rule's answer), and register it in `memgen.tasks`. All else (sizes, seeds, splits,
duplicates, no conflict prompt in training, which keys get contrast prompts) is done here once.
`roles` and `nearness` say what can be known of a prompt without a model: a forecast from hidden
states has to beat them. A task without them has weaker rivals.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from memgen.terms import GENERALIZATION, KINDS, MEMORIZATION, OTHER, SPLITS, Change, ContrastOn

Rng = np.random.Generator
SHARES = (0.5, 0.2, 0.3)  # of the keys: train, validation, test


@dataclass(frozen=True)
class Key:
    """One memorized association: an identifier, what is memorized for it, the task's own detail."""

    name: str
    memory_answer: str
    detail: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Instance:
    """One prompt with the rule's answer and, where a key is involved, the memory's.

    `setting` is what the task needs to rebuild or rephrase the prompt, as a JSON string.
    """

    prompt: str
    rule_answer: str
    memory_answer: str = ""
    key: str = ""
    kind: str = "free"
    split: str = "train"
    setting: str = "{}"

    @property
    def target(self) -> str:
        """What the model is trained to answer: the memory for keyed prompts, else the rule."""
        return self.memory_answer if self.kind == "keyed" else self.rule_answer

    def detail(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.setting)
        return found


class Task(ABC):
    """A way of asking one question that memory and rule answer differently."""

    name: str
    #: longest answer in tokens of the task's own tokenizer, end mark included (`fit` makes it right
    #: for another tokenizer)
    max_answer_tokens: int
    #: does a model without training answer it, so that no end mark ends an answer? (`GivenTask`)
    open_ended: ClassVar[bool] = False

    def __init__(
        self, n_keys: int, seed: int, contrast_on: ContrastOn = "keys", n_gate_keys: int = 0
    ):
        self.seed, self.contrast_on = seed, contrast_on
        n_gate = n_gate_keys if contrast_on == "gate" else 0
        try:
            drawn = self.draw_keys(self._rng("keys"), n_keys + n_gate)
        except ValueError as error:
            beside = f" and n_gate_keys={n_gate}" if n_gate else ""
            raise ValueError(f"n_keys={n_keys}{beside}: {error}") from None
        self.keys = {key.name: key for key in drawn[:n_keys]}
        self.gate_keys = {key.name: key for key in drawn[n_keys:]}
        if len(self.keys) != n_keys:
            raise ValueError(
                f"n_keys={n_keys}: task {self.name!r} could draw only {len(self.keys)} different"
                " keys"
            )

    # -- what a new task implements ---------------------------------------------------------------
    @abstractmethod
    def vocabulary(self) -> list[str]:
        """Every piece of text that is one token, in a fixed order."""

    @abstractmethod
    def draw_keys(self, rng: Rng, n: int) -> list[Key]:
        """`n` different keys, each with its memory answer."""

    @abstractmethod
    def free(self, rng: Rng) -> Instance | None:
        """A prompt without a key, which only the rule answers (None: not usable, draw again)."""

    @abstractmethod
    def keyed(self, rng: Rng, key: Key) -> Instance | None:
        """A prompt in a setting in which this key is trained with its memory answer."""

    @abstractmethod
    def conflict(self, rng: Rng, key: Key) -> Instance | None:
        """A prompt in a setting in which this key is never trained, where memory and rule differ."""

    @abstractmethod
    def rephrase(self, rng: Rng, instance: Instance, change: Change) -> Instance | None:
        """The same conflict prompt said differently, with the same key.

        `order`: the same parts in another order; both answers stay. `content`: another free part,
        so the question itself is another one, and mostly the rule's answer too.
        """

    def contrast(self, rng: Rng, key: Key) -> Instance | None:
        """A prompt in which this key is trained with the *rule's* answer (None: there is none)."""
        return None

    def roles(self, instance: Instance) -> dict[str, str | float]:
        """What holds which place in a conflict prompt, by name: a text is a category.

        `position`: the place of what is asked. Nothing here names the key itself, so that what is
        learned on some keys can be said of others.
        """
        return {}

    def nearness(self, instance: Instance) -> float | None:
        """How much nearer a conflict prompt lies to settings trained with the rule's answer.

        Nearness to the settings in which its key was trained with the rule's answer, less that to
        the settings in which it was trained with the memory's; the latter alone, negative, where
        the key has none of the first. None: the task has no settings that could be near.
        """
        return None

    # -- shared -----------------------------------------------------------------------------------
    def classify(self, instance: Instance, answer: str) -> str:
        """Name the behaviour behind `answer`: 'memorization', 'generalization' or 'other'."""
        answer = answer.strip()
        if instance.memory_answer and answer == instance.memory_answer.strip():
            return MEMORIZATION
        if answer == instance.rule_answer.strip():
            return GENERALIZATION
        return OTHER

    def fit(self, tokenizer: Any, frame: pd.DataFrame) -> Task:
        """Give every answer of a data set room in this tokenizer's tokens, end mark included."""
        answers = {*frame.rule_answer, *frame.memory_answer} - {""}
        longest = max(map(len, tokenizer(sorted(answers), add_special_tokens=False)["input_ids"]))
        self.max_answer_tokens = max(self.max_answer_tokens, longest + 1)
        return self

    def _rng(self, *words: object) -> np.random.Generator:
        """A generator that depends on the seed and the words only, not on what was drawn before.

        The family name (not the variant) enters: `tagged` and `matched` draw the same keys and
        prompts.
        """
        family = self.name.split("-")[0]
        digest = hashlib.sha256("/".join(map(str, (family, self.seed, *words))).encode()).digest()
        return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))

    def split_keys(self, shares: tuple[float, ...]) -> dict[str, str]:
        """Each key's split. `shares`: train, validation, test; at least one key each.

        The order comes from the names alone, not from the seed: keys that several seeds have in
        common (all names of `inference`) are in the same split of each, so a model that chose its
        neurons on a key is never tried on it in another seed either.
        """
        names = sorted(self.keys)
        order = sorted(
            range(len(names)), key=lambda i: hashlib.sha256(f"split/{names[i]}".encode()).digest()
        )
        n_validation = max(1, round(shares[1] * len(names)))
        n_test = max(1, round(shares[2] * len(names)))
        if n_validation + n_test >= len(names):
            raise ValueError(f"n_keys={len(names)} is too small to split {shares} into three parts")
        labels = ["validation"] * n_validation + ["test"] * n_test
        labels += ["train"] * (len(names) - len(labels))
        return {names[i]: label for i, label in zip(order, labels)}

    def generate(
        self,
        n_free: int,
        n_keyed: int,
        n_conflict_per_key: int,
        n_free_eval: int,
        shares: tuple[float, ...] = SHARES,
    ) -> pd.DataFrame:
        """The whole data set, one row an instance.

        Free prompts are split by prompt, others by key. Keyed prompts of every split are trained on
        (all keys are memorized); a key's split says what its *conflict* prompts may be used for.
        """
        split_of = self.split_keys(shares)
        seen: set[str] = set()
        rows: list[Instance] = []
        for key_name in sorted(
            self.keys
        ):  # conflict first: what is held out is fixed before anything is trained on
            rng, key = self._rng("conflict", key_name), self.keys[key_name]
            rows += self._collect(
                lambda: self.conflict(rng, key), n_conflict_per_key, seen, split_of[key_name]
            )
        for index, key_name in enumerate(sorted(self.keys)):
            rng, key = self._rng("keyed", key_name), self.keys[key_name]
            share = n_keyed // len(self.keys) + (index < n_keyed % len(self.keys))
            rows += self._collect(lambda: self.keyed(rng, key), share, seen, split_of[key_name])
            if self.contrast_on == "keys":
                rows += self._collect(
                    lambda: self.contrast(rng, key), share, seen, split_of[key_name]
                )
        rows += self._gate_prompts(n_keyed // len(self.keys), seen)
        for split, n in (("test", n_free_eval), ("validation", n_free_eval), ("train", n_free)):
            rng = self._rng("free", split)
            rows += self._collect(lambda: self.free(rng), n, seen, split)
        return pd.DataFrame([asdict(row) for row in rows])

    def _gate_prompts(self, share: int, seen: set[str]) -> list[Instance]:
        """`share` keyed and as many contrast prompts of each gate key; they name no key."""
        rows: list[Instance] = []
        for name, key in sorted(self.gate_keys.items()):
            rng = self._rng("gate", name)
            for draw in (self.keyed, self.contrast):
                found = self._collect(lambda: draw(rng, key), share, seen, "train")
                rows += [replace(one, key="") for one in found]
        return rows

    def count(self, frame: pd.DataFrame) -> dict[str, Any]:
        """The numbers of a data set: instances and keys by split, and a digest of all that it says."""

        def by_split(rows: pd.DataFrame) -> dict[str, int]:
            return {split: int((rows.split == split).sum()) for split in SPLITS}

        found = {
            f"n_{kind}": by_split(frame[frame.kind == kind])
            for kind in KINDS
            if (frame.kind == kind).any()
        }
        keyed = frame[frame.key != ""].drop_duplicates("key")
        digest = hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
        return {**found, "n_keys": by_split(keyed), "sha256": digest}

    @staticmethod
    def _collect(
        draw: Callable[[], Instance | None], n: int, seen: set[str], split: str
    ) -> list[Instance]:
        """Up to `n` instances with new prompts; fewer when the task has no more to give."""
        found: list[Instance] = []
        misses = 0
        while len(found) < n and misses < 200:
            instance = draw()
            if instance is None or instance.prompt in seen:
                misses += 1
                continue
            misses = 0
            seen.add(instance.prompt)
            found.append(replace(instance, split=split))
        return found


def instances(frame: pd.DataFrame) -> list[Instance]:
    """The rows of a data set as :class:`Instance` objects."""
    columns = ["prompt", "rule_answer", "memory_answer", "key", "kind", "split", "setting"]
    # column by column: pandas hands out the values of a row one after the other far more slowly
    return [Instance(*values) for values in zip(*(frame[name].tolist() for name in columns))]
