"""Facts that a pretrained model may know, and which of them may stand in which split.

`facts.csv` holds one fact a row: relation, entity, answer, and under `also` what else would be
right, so that it is never stated as a falsehood. Rows without an entity are answers of a relation
that no fact has: what a context can state without naming the answer of any key. Where each relation
can be looked up, who read its facts again and what they were compared with is told in
`wordings.csv`.

Two facts that share a word (the entity or the answer, in whatever relation: Portugal and Brazil
share Portuguese) belong to one cluster, and a cluster is in one split as a whole. So no entity and
no answer is ever in two splits. Which split does not depend on a seed or on what a model knows.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from memgen.terms import SPLITS

#: what is held back: entities, or whole relations, of which training then sees nothing
SplitBy = Literal["key", "relation"]
SPLIT_BY: tuple[SplitBy, ...] = get_args(SplitBy)
TABLE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Fact:
    """One row of the table. `also`: further right answers. Without an entity: an answer alone."""

    relation: str
    entity: str
    answer: str
    also: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`capital/Portugal`, unique among the facts."""
        return f"{self.relation}/{self.entity}"

    @property
    def words(self) -> frozenset[str]:
        """Entity and answers in lower case: what no other sentence of a prompt may be about."""
        words = {self.entity, self.answer, *self.also} - {""}
        return frozenset(word.lower() for word in words)


@cache
def read(path: Path = TABLE) -> tuple[Fact, ...]:
    """All rows in the order of the file."""
    with path.open(encoding="utf8", newline="") as file:
        return tuple(
            Fact(
                row["relation"],
                row["entity"],
                row["answer"],
                tuple(filter(None, row["also"].split("|"))),
            )
            for row in csv.DictReader(file)
        )


@cache
def facts() -> dict[str, Fact]:
    """All facts, rows with an entity, by name."""
    return {row.name: row for row in read() if row.entity}


@cache
def idle(relation: str) -> tuple[str, ...]:
    """Answers of a relation that no fact has."""
    return tuple(row.answer for row in read() if row.relation == relation and not row.entity)


@cache
def splits(by: SplitBy, shares: tuple[float, ...]) -> dict[Fact, str]:
    """The split of every row of the table. `shares`: train, validation, test.

    by `key`: clusters are dealt, the largest first, each to the split that lacks its relations
    most, so that every relation is in every split in about these shares. by `relation`: relations
    are dealt in an order that their names alone decide, at least one to each split.
    """
    wanted = dict(zip(SPLITS, shares))
    if by == "relation":
        return _by_relation(read(), wanted)
    size = Counter(map(_kind, read()))
    held: Counter[tuple[str, str]] = Counter()
    found: dict[Fact, str] = {}
    for cluster in clusters(read()):

        def lacking(split: str) -> float:
            share = wanted[split]
            return (
                sum(share - held[_kind(row), split] / size[_kind(row)] for row in cluster) / share
            )

        split = max(SPLITS, key=lacking)
        for row in cluster:
            found[row] = split
            held[_kind(row), split] += 1
    return found


@cache
def rows_in(split: str, relation: str, by: SplitBy, shares: tuple[float, ...]) -> tuple[Fact, ...]:
    """The rows of a relation that are in this split, answers without a fact among them."""
    split_of = splits(by, shares)
    return tuple(row for row in read() if row.relation == relation and split_of[row] == split)


def _kind(row: Fact) -> str:
    """What has to be spread over the splits: facts of a relation, and answers that no fact has."""
    return row.relation if row.entity else f"{row.relation}, no fact"


def clusters(rows: Sequence[Fact]) -> list[list[Fact]]:
    """Rows joined by shared words, the largest cluster first, equal ones in an order of chance.

    That order comes from the names of their rows, so it is the same everywhere.
    """
    leader: dict[str, str] = {}

    def lead(word: str) -> str:
        while leader.setdefault(word, word) != word:
            word = leader[word]
        return word

    for row in rows:
        if row.entity:
            leader[lead(row.entity.lower())] = lead(row.answer.lower())
    found: defaultdict[str, list[Fact]] = defaultdict(list)
    for row in rows:
        found[lead(row.answer.lower())].append(row)
    return sorted(found.values(), key=lambda rows: (-len(rows), min(map(_digest, rows))))


def _digest(row: Fact) -> bytes:
    return hashlib.sha256(f"split/{row.name}/{row.answer}".encode()).digest()


def _by_relation(rows: Sequence[Fact], wanted: dict[str, float]) -> dict[Fact, str]:
    relations = sorted(
        {row.relation for row in rows},
        key=lambda name: hashlib.sha256(f"split/{name}".encode()).digest(),
    )
    dealt: list[str] = []
    for split in SPLITS[1:]:
        dealt += [split] * max(1, round(wanted[split] * len(relations)))
    dealt += [SPLITS[0]] * (len(relations) - len(dealt))
    split_of = dict(zip(relations, dealt))
    return {row: split_of[row.relation] for row in rows}
