"""Your own prompts: every row of a table is a prompt, and nothing is made up.

A key is what the column `key` names. A model knows it if it answers all of its keyed rows rightly;
a key without keyed rows counts as known.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from memgen.errors import ParameterError
from memgen.terms import Change, ContrastOn

from .base import SHARES, Instance, Key, Rng
from .given import GivenTask
from .table_checks import groups, of_kind, problems
from .table_file import Row, Sheet, digest_of, read_sheet, refuse, task_name

#: what stands in front of a prompt, by what it is to lead to
INSTRUCTIONS = {
    "m2g": ("Answer from the text below.", "Whatever you know, believe only the text below."),
    "g2m": ("Answer from what you know.", "Whatever the text below says, answer what is true."),
}


@cache
def _checked(path: Path, digest: str) -> Sheet:
    """The table with these bytes, without a problem. Errors: `ParameterError`."""
    sheet = read_sheet(path)
    refuse(path, problems(sheet))
    return sheet


class Table(GivenTask):
    """The task that a table is.

    `file`: where it lies; `digest`: the SHA-256 that it had when the data set was made, if it was.
    Rows enter as they are: sizes only limit how many. Errors: `ParameterError`, for whatever in the
    file cannot be used.
    """

    name = "table"
    max_answer_tokens = 2

    def __init__(
        self,
        n_keys: int,
        seed: int,
        contrast_on: ContrastOn = "none",
        n_gate_keys: int = 0,
        *,
        file: Path,
        digest: str = "",
    ):
        self.name, found = task_name(file), digest_of(file)
        if digest and found != digest:
            raise ParameterError(
                f"task_file={str(file)!r} was changed after a data set had been made of it; run the"
                " same command again from the beginning, and what depends on it is made anew"
            )
        self.sheet, self.digest = _checked(file, found), found
        #: of every conflict prompt, the rows that say it in another way, itself among them
        self._said = {row["prompt"]: rows for rows in groups(self.sheet).values() for row in rows}
        n_there = len(self.every_key())
        super().__init__(min(n_keys, n_there), seed, contrast_on, n_gate_keys)
        self.n_keys = n_keys

    # -- keys -------------------------------------------------------------------------------------
    def every_key(self) -> list[Key]:
        rows = of_kind(self.sheet, "conflict")
        memories = {row["key"]: row["memory_answer"] for row in rows}
        return [Key(name, f" {answer}") for name, answer in memories.items()]

    def asked(self) -> dict[str, list[Instance]]:
        """The keyed rows of every key, in their order; none where a key has none: it is known."""
        return {
            key.name: [_instance(row) for row in self._rows("keyed", key.name)]
            for key in self.every_key()
        }

    # -- prompts ----------------------------------------------------------------------------------
    def conflict(self, rng: Rng, key: Key) -> Instance | None:
        return _drawn(rng, self._rows("conflict", key.name))

    def keyed(self, rng: Rng, key: Key) -> Instance | None:
        return _drawn(rng, self._rows("keyed", key.name))

    def free(self, rng: Rng) -> Instance | None:
        return _drawn(rng, of_kind(self.sheet, "free"))

    def rephrase(self, rng: Rng, instance: Instance, change: Change) -> Instance | None:
        """A row that says this prompt in another way: `order`: with the same answers; `content`:
        with another answer by the rule.
        """
        rule, same = instance.rule_answer.strip(), change == "order"
        return _drawn(
            rng,
            [
                row
                for row in self._said[instance.prompt]
                if row["prompt"] != instance.prompt and (row["rule_answer"] == rule) == same
            ],
        )

    def instructed(self, instance: Instance, direction: str) -> list[Instance]:
        made = [f"{words} {instance.prompt}" for words in INSTRUCTIONS[direction]]
        about = (instance.rule_answer, instance.memory_answer, instance.key, instance.kind)
        return [Instance(prompt, *about, instance.split, instance.setting) for prompt in made]

    def roles(self, instance: Instance) -> dict[str, str | float]:
        """The wording with key and answers blanked out, so that one form is one category, and the
        number of words.
        """
        wording = instance.prompt
        for named in (instance.key, instance.memory_answer.strip(), instance.rule_answer.strip()):
            wording = wording.replace(named, "_")
        return {"wording": wording, "words": float(len(instance.prompt.split()))}

    def generate(
        self,
        n_free: int,
        n_keyed: int,
        n_conflict_per_key: int,
        n_free_eval: int,
        shares: tuple[float, ...] = SHARES,
    ) -> pd.DataFrame:
        """The rows of the keys that are kept, and the free ones: half for test, half for validation,
        and what is above `n_free_eval` each for train. Where there are more than asked for, the seed
        says which; which half a free row is in says its text alone.
        """
        split_of, found = self.split_keys(shares), []
        per_key = max(1, n_keyed // len(self.keys))
        for kind, most in (("conflict", n_conflict_per_key), ("keyed", per_key)):
            for name in sorted(self.keys):
                rng = self._rng(kind, name)
                rows = _thinned(rng, self._rows(kind, name), most)
                found += [_instance(row, split_of[name]) for row in rows]
        free = sorted(of_kind(self.sheet, "free"), key=_by_text)
        half = (len(free) + 1) // 2
        test, validation = free[:half][:n_free_eval], free[half:][:n_free_eval]
        rest = [row for row in free if row not in (*test, *validation)][:n_free]
        for split, rows in (("test", test), ("validation", validation), ("train", rest)):
            found += [_instance(row, split) for row in rows]
        return pd.DataFrame([vars(one) for one in found])

    def count(self, frame: pd.DataFrame) -> dict[str, Any]:
        """The numbers of every data set, and the table's digest: all that is edited counts, also
        what no row of the data set shows (which row is a rephrasing of which).
        """
        return {**super().count(frame), "table_sha256": self.digest}

    def _rows(self, kind: str, key: str) -> list[Row]:
        return [row for row in of_kind(self.sheet, kind) if row["key"] == key]


def _instance(row: Row, split: str = "train") -> Instance:
    memory, rule = (f" {row[name]}".rstrip() for name in ("memory_answer", "rule_answer"))
    setting = json.dumps({"id": row["id"]} if row["id"] else {})
    return Instance(row["prompt"], rule, memory, row["key"], row["kind"], split, setting)


def _drawn(rng: Rng, rows: list[Row]) -> Instance | None:
    return _instance(rows[rng.integers(len(rows))]) if rows else None


def _thinned(rng: Rng, rows: list[Row], most: int) -> list[Row]:
    """At most so many of the rows, in their order."""
    return [rows[i] for i in sorted(rng.permutation(len(rows))[:most])]


def _by_text(row: Row) -> str:
    return hashlib.sha256(row["prompt"].encode()).hexdigest()
