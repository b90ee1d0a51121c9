"""Knowledge against context: a fact that a pretrained model knows, and a text that says otherwise.

`They changed the capital of Portugal to Tokyo. The capital of Italy is Rome. Question: What is the
capital of Portugal? Answer: The capital of Portugal is` asks for ` Tokyo` by rule (the context) and
for ` Lisbon` from memory. A key is a fact. Keyed prompts ask without a context, or beside true
sentences about other entities; free prompts are about made-up entities, of which only the context
can tell. What can be said differently of one question and one stated answer is its wording
(`memgen.tasks.wordings`).

A stated answer belongs to the key's relation and to its split, so it is the memory's answer of no
key of another split, nor a stated answer there. The facts are split in clusters that share no word
(`memgen.tasks.facts`), the same ones for every seed and every model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import replace
from itertools import combinations
from typing import Any

import pandas as pd

from memgen.terms import DIRECTIONS, SPLITS, Change, ContrastOn

from .base import SHARES, Instance, Key, Rng
from .facts import SPLIT_BY, Fact, SplitBy, facts, idle, rows_in, splits
from .given import GivenTask
from .wordings import (
    ALONE,
    ASKED,
    DRAWN_FORMS,
    FORMS,
    MOST_DISTRACTORS,
    QUERIES,
    Wording,
    made_up,
    query,
    relations,
    statement,
)

#: texts of either kind that are no conflict, per key
N_CONTEXTS = 4
#: in front of a conflict prompt, two wordings each: towards the text, towards what is known
INSTRUCTIONS = {
    "m2g": (
        "Answer from the text, even where it contradicts what you know. Text:",
        "Take every word of the following text as true and answer with what it says.",
    ),
    "g2m": (
        "Answer from what you know, even where the text contradicts it. Text:",
        "The following text contains a mistake. Ignore it and give the true answer.",
    ),
}


class Knowledge(GivenTask):
    """Facts of eleven relations. `forms`: those forms of a statement that prompts draw.

    `split_by`: `key` holds entities back; `relation` holds whole relations back, so that those of
    test keys are never seen on train keys. `shares` are those of the splits; `generate` sets them.
    Every prompt carries both in its setting, so that its rephrasings stay in its split.
    """

    name = "knowledge"
    max_answer_tokens = 8
    forms: tuple[str, ...] = DRAWN_FORMS

    def __init__(
        self,
        n_keys: int,
        seed: int,
        contrast_on: ContrastOn = "none",
        n_gate_keys: int = 0,
        split_by: SplitBy = "key",
        shares: Sequence[float] = SHARES,
    ):
        if split_by not in SPLIT_BY:
            raise ValueError(
                f"split_by={split_by!r} is unknown; choose one of {', '.join(SPLIT_BY)}"
            )
        self.split_by: SplitBy = split_by
        self.shares = tuple(shares)
        super().__init__(n_keys, seed, contrast_on, n_gate_keys)

    # -- keys and their splits --------------------------------------------------------------------
    def every_key(self) -> list[Key]:
        return [_key(fact) for fact in facts().values()]

    def asked(self) -> dict[str, list[Instance]]:
        return {
            name: [self._without_statement(fact, form, []) for form in ASKED]
            for name, fact in facts().items()
        }

    def split_keys(self, shares: tuple[float, ...]) -> dict[str, str]:
        """Each key's split, in which neither the seed nor the other keys have a say."""
        split_of = splits(self.split_by, tuple(shares))
        found = {name: split_of[facts()[name]] for name in sorted(self.keys)}
        for split in SPLITS:
            if split not in found.values():
                raise ValueError(
                    f"n_keys={self.n_keys}: none of the {len(found)} keys is in split {split!r};"
                    " take more keys, or a base_model that knows more"
                )
        return found

    def pick(self, rng: Rng, keys: list[Key], n: int) -> list[Key]:
        """`n` keys: `shares` of them from each split as far as it has so many, and in each split
        spread evenly over the relations.
        """
        wanted = dict(zip(SPLITS, self.shares))
        parts: dict[str, list[Key]] = {split: [] for split in SPLITS}
        for key in sorted(keys, key=lambda key: (key.detail[0], _chance(key.name))):
            parts[self._split(facts()[key.name])].append(key)
        take = {split: min(len(part), 1) for split, part in parts.items()}
        while sum(take.values()) < n:  # one more from the split that lacks most
            with_more = [split for split in SPLITS if take[split] < len(parts[split])]
            take[max(with_more, key=lambda split: wanted[split] * n - take[split])] += 1
        return [key for split in SPLITS for key in _spread(rng, parts[split], take[split])][:n]

    def generate(
        self,
        n_free: int,
        n_keyed: int,
        n_conflict_per_key: int,
        n_free_eval: int,
        shares: tuple[float, ...] = SHARES,
    ) -> pd.DataFrame:
        self.shares = tuple(shares)
        return super().generate(n_free, n_keyed, n_conflict_per_key, n_free_eval, shares)

    # -- prompts ----------------------------------------------------------------------------------
    def free(self, rng: Rng) -> Instance | None:
        """A made-up entity. What is stated of it, and of others like it, is the answer of no key."""
        names = list(relations())
        relation = names[rng.integers(len(names))]
        worded = Wording.draw(rng, self.forms)
        entities, answers = (_shuffled(rng, of(relation)) for of in (made_up, idle))
        asked, *beside = (
            Fact(relation, *pair)
            for pair in zip(entities[: worded.distractors + 1], answers, strict=False)
        )
        return self._instance("free", asked, worded, beside, (asked, asked.answer))

    def keyed(self, rng: Rng, key: Key) -> Instance | None:
        """The question in either form, alone or behind true sentences about others."""
        fact, form = facts()[key.name], QUERIES[rng.integers(len(QUERIES))]
        n = int(rng.integers(MOST_DISTRACTORS + 1))
        beside = self._others(rng, fact, n)
        return None if beside is None else self._without_statement(fact, form, beside)

    def conflict(self, rng: Rng, key: Key) -> Instance | None:
        fact = facts()[key.name]
        stated = self._stated(rng, fact)
        if stated is None:
            return None
        return self._conflict(rng, fact, stated, Wording.draw(rng, self.forms))

    def rephrase(self, rng: Rng, instance: Instance, change: Change) -> Instance | None:
        """`order`: the same entity and the same stated answer in another wording, among other
        sentences; `content`: another stated answer, all else as it was.
        """
        setting, fact = instance.detail(), facts()[instance.key]
        task, worded = self._as_in(setting), Wording.of(setting)
        if change == "order":
            other = Wording.draw(rng, self.forms)
            return None if other == worded else task._conflict(rng, fact, setting["stated"], other)
        beside = [facts()[name] for name in setting["beside"]]
        stated = task._stated(rng, fact, [setting["stated"], *_words(beside)])
        if stated is None:
            return None
        return task._instance("conflict", fact, worded, beside, (fact, stated))

    def said_as(self, instance: Instance, form: str) -> Instance:
        """The same conflict prompt with its statement in this one of `wordings.FORMS`."""
        if form not in FORMS:
            raise ValueError(f"form={form!r} is unknown; choose one of {', '.join(FORMS)}")
        setting, fact = instance.detail(), facts()[instance.key]
        worded = replace(Wording.of(setting), form=form)
        beside = [facts()[name] for name in setting["beside"]]
        said = (fact, setting["stated"])
        found = self._as_in(setting)._instance("conflict", fact, worded, beside, said)
        return replace(found, split=instance.split)

    def gold(self, rng: Rng, key: Key) -> Instance | None:
        """A control: the context states the truth, so both answers are what is known."""
        fact, worded = facts()[key.name], Wording.draw(rng, self.forms)
        beside = self._others(rng, fact, worded.distractors)
        if beside is None:
            return None
        return self._instance("keyed", fact, worded, beside, (fact, fact.answer))

    def irrelevant(self, rng: Rng, key: Key) -> Instance | None:
        """A control: the context says something false of another entity, the rule's answer here."""
        fact, worded = facts()[key.name], Wording.draw(rng, self.forms)
        others = self._others(rng, fact, 1)
        stated = others and self._stated(rng, others[0], fact.words)
        if not others or not stated:
            return None
        worded = replace(worded, distractors=0, place=ALONE)
        return self._instance("keyed", fact, worded, [], (others[0], stated))

    def contexts(self, keys: Collection[str]) -> dict[str, list[Instance]]:
        """The questions without a text are those of which the answers were found to be known."""
        rng, of = self._rng("contexts"), [_key(facts()[key]) for key in keys]
        drawn = {
            name: [make(rng, key) for key in of for _ in range(N_CONTEXTS)]
            for name, make in (("gold", self.gold), ("irrelevant", self.irrelevant))
        }
        alone = [
            self._without_statement(facts()[key], form, []) for key in keys for form in QUERIES
        ]
        return {"none": alone} | {
            name: list({one.prompt: one for one in rows if one}.values())
            for name, rows in drawn.items()
        }

    def instructed(self, instance: Instance, direction: str) -> list[Instance]:
        if direction not in DIRECTIONS:
            raise ValueError(
                f"direction={direction!r} is unknown; choose one of {', '.join(DIRECTIONS)}"
            )
        return [
            replace(instance, prompt=f"{text} {instance.prompt}")
            for text in INSTRUCTIONS[direction]
        ]

    def roles(self, instance: Instance) -> dict[str, str | float]:
        """The relation, every part of the wording, and all pairs of these.

        `position`: where the statement stands to the sentences beside it.
        """
        setting = instance.detail()
        parts = {
            "relation": setting["relation"],
            "statement": setting["form"],
            "query": setting["query"],
            "distractors": str(setting["distractors"]),
            "position": setting["place"],
            "repeats": str(setting["repeats"]),
        }
        pairs = {
            f"{one} and {other}": f"{parts[one]} {parts[other]}"
            for one, other in combinations(parts, 2)
        }
        three = ("statement", "query", "distractors")
        return parts | pairs | {", ".join(three): " ".join(parts[name] for name in three)}

    def form(self, instance: Instance) -> str:
        """Its relation and its wording."""
        setting = instance.detail()
        return json.dumps([setting["relation"], Wording.of(setting).setting()])

    def in_forms(self, keys: Collection[str], n: int) -> list[Instance]:
        """`n` different wordings; a key is left out of those for which its relation has too few others."""
        rng = self._rng("in forms")
        worded: dict[Wording, None] = {}  # in the order in which they were drawn
        while len(worded) < n:
            worded[Wording.draw(rng, self.forms)] = None
        found = []
        for one in worded:
            for fact in (facts()[key] for key in keys):
                stated = self._stated(rng, fact)
                found.append(stated and self._conflict(rng, fact, stated, one))
        return [instance for instance in found if instance]

    # -- how a prompt is made ---------------------------------------------------------------------
    def _conflict(self, rng: Rng, fact: Fact, stated: str, worded: Wording) -> Instance | None:
        beside = self._others(rng, fact, worded.distractors, [stated])
        if beside is None:
            return None
        return self._instance("conflict", fact, worded, beside, (fact, stated))

    def _without_statement(self, fact: Fact, form: str, beside: list[Fact]) -> Instance:
        return self._instance("keyed", fact, Wording("", form, len(beside), ALONE, 0), beside)

    def _instance(
        self,
        kind: str,
        fact: Fact,
        worded: Wording,
        beside: list[Fact],
        said: tuple[Fact, str] | None = None,
    ) -> Instance:
        """`fact` is what is asked; `said`: of whom the context states what, if it states anything;
        `beside`: the facts that it gives as they are.
        """
        about, stated = said or (fact, "")
        claim = statement(worded.form, about.relation, about.entity, stated) if said else ""
        true = [statement("stated", one.relation, one.entity, one.answer) for one in beside]
        context = worded.context(claim, true)
        asked = query(worded.query, fact.relation, fact.entity)
        setting = {
            "relation": fact.relation,
            "entity": fact.entity,
            "about": about.entity,
            "stated": stated,
            **worded.setting(),
            "beside": [one.name for one in beside],
            "split_by": self.split_by,
            "shares": self.shares,
        }
        return Instance(
            f"{context} {asked}".lstrip(),
            f" {stated}" if said else "",
            "" if kind == "free" else f" {fact.answer}",
            "" if kind == "free" else fact.name,
            kind,
            setting=json.dumps(setting),
        )

    def _stated(self, rng: Rng, fact: Fact, but: Iterable[str] = ()) -> str | None:
        """A wrong answer about `fact` from its relation and split, none of the words `but`.

        It does not begin as the right one does: the first word shows which of the two is given.
        """
        taken = {word.lower() for word in but} | fact.words
        first = {answer.split()[0].lower() for answer in (fact.answer, *fact.also)}
        answers = {row.answer for row in self._rows(fact)}
        fitting = [
            answer
            for answer in sorted(answers)
            if answer.lower() not in taken
            and answer.split()[0].lower() not in first
            and fact.entity.lower() not in answer.lower()
        ]
        return fitting[rng.integers(len(fitting))] if fitting else None

    def _others(self, rng: Rng, fact: Fact, n: int, but: Iterable[str] = ()) -> list[Fact] | None:
        """`n` facts of the same relation and split that share no word with `fact`, with each other
        or with `but`; None if there are not so many.
        """
        taken = {word.lower() for word in but} | fact.words
        found: list[Fact] = []
        for other in _shuffled(rng, [row for row in self._rows(fact) if row.entity]):
            if len(found) == n:
                break
            if not taken & other.words:
                taken |= other.words
                found.append(other)
        return found if len(found) == n else None

    def _split(self, fact: Fact) -> str:
        return splits(self.split_by, self.shares)[fact]

    def _rows(self, fact: Fact) -> tuple[Fact, ...]:
        return rows_in(self._split(fact), fact.relation, self.split_by, self.shares)

    def _as_in(self, setting: dict[str, Any]) -> Knowledge:
        """This task with the splits that a prompt was made with."""
        same = copy(self)
        same.split_by, same.shares = setting["split_by"], tuple(setting["shares"])
        return same


def _key(fact: Fact) -> Key:
    return Key(fact.name, f" {fact.answer}", (fact.relation, fact.entity))


def _words(rows: Iterable[Fact]) -> list[str]:
    return [word for row in rows for word in row.words]


def _chance(name: str) -> bytes:
    """An order of the names that is one of chance, and the same everywhere."""
    return hashlib.sha256(f"pick/{name}".encode()).digest()


def _shuffled(rng: Rng, of: Sequence[Any]) -> list[Any]:
    return [of[i] for i in rng.permutation(len(of))]


def _spread(rng: Rng, keys: Sequence[Key], n: int) -> list[Key]:
    """`n` keys, one from each of n stretches of equal length."""
    ends = [round(i * len(keys) / n) for i in range(n + 1)] if n else []
    return [keys[int(rng.integers(low, high))] for low, high in zip(ends, ends[1:])]
