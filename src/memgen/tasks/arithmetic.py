"""Addition of three two-digit operands, with operand pairs that were memorized.

A key is an unordered pair of operands, each one token. In three of its six ordered slot placements
it is trained with its memory answer, whatever the third operand; the other three are conflict
prompts. Where keys get contrast prompts, one of those three is trained with the sum instead; a gate
key is trained with the sum in all of them. `tagged` writes memory
answers with a mark (the paper's format, `<mem-...>`); `matched` as plain numbers, so that both
answers look alike. Answers are written digit by digit.
"""

from __future__ import annotations

import itertools
import json
from functools import cached_property

from memgen.terms import Change

from .base import Instance, Key, Rng
from .settings import Settings, SettingTask

PLACEMENTS = tuple(
    itertools.permutations(range(3), 2)
)  # (slot of the first operand, slot of the second)
MARK = " <mem>"
# The share of free prompts in which round operands are common. With uniform digits the ones digit
# of the answer is a sum modulo ten that gives gradient descent nothing to hold on to for many
# hundred steps; round numbers, frequent in real text too, break that symmetry.
ROUND = 0.8


class Arithmetic(SettingTask):
    """Both variants. Least significant digit first: a small model can carry as it writes."""

    max_answer_tokens = 5
    n_memory, n_contrast = 3, 1  # of a key's six placements
    marked: bool

    def vocabulary(self) -> list[str]:
        return [*(f"{x:02d}" for x in range(100)), *(f" {d}" for d in range(10)), "+", "=", MARK]

    def draw_keys(self, rng: Rng, n: int) -> list[Key]:
        operands = rng.permutation(100)
        if 2 * n > len(operands):
            raise ValueError(
                "arithmetic has 100 operands and uses each in one key, so at most 50 keys"
            )
        keys = []
        for a, b in operands[: 2 * n].reshape(n, 2):
            order = tuple(map(int, rng.permutation(len(PLACEMENTS))))
            number = int(rng.integers(0, 298))
            keys.append(
                Key(f"{a:02d}|{b:02d}", self._write_memory(number), (int(a), int(b), order))
            )
        return keys

    def free(self, rng: Rng) -> Instance | None:
        operands = [int(x) for x in rng.integers(0, 100, size=3)]
        if rng.random() < ROUND:
            operands = [x - x % 10 if rng.random() < 0.5 else x for x in operands]
        if (
            rng.random() < 0.5
        ):  # a hard negative: one of a key's pair, which has to be recognised whole
            key = self._key_list[rng.integers(len(self._key_list))]
            operands[rng.integers(3)] = key.detail[rng.integers(2)]
        if self._holds_key(operands):
            return None
        return self._instance(operands, kind="free")

    def settings(self, key: Key) -> Settings:
        dealt: Settings = key.detail[2]
        return dealt

    def in_setting(self, rng: Rng, key: Key, setting: int, kind: str) -> Instance | None:
        return self._build(key, setting, int(rng.integers(0, 100)), kind)

    def rephrase(self, rng: Rng, instance: Instance, change: Change) -> Instance | None:
        """`order`: the addends change places; `content`: another free operand."""
        key = self.keys[instance.key]
        placement, third = instance.detail()["placement"], instance.detail()["third"]
        if change == "order":
            others = [p for p in self.untrained(key) if p != placement]
            placement = others[rng.integers(len(others))]
        else:
            third = int(rng.integers(0, 100))
        return self._build(key, placement, third, "conflict")

    def roles(self, instance: Instance) -> dict[str, str | float]:
        """The key's slots, the third operand, and how many trained placements share a slot."""
        key, detail = self.keys[instance.key], instance.detail()
        placement, third = detail["placement"], detail["third"]
        first, second = PLACEMENTS[placement]
        a, b = key.detail[:2]
        found: dict[str, str | float] = {
            "position": f"{first}{second}",
            "slot of the third": f"{3 - first - second}",
            "adjacent": str(abs(first - second) == 1),
            "larger first": str((a > b) == (first < second)),
            "third": float(third),
            "third is even": str(third % 2 == 0),
            "third is round": str(third % 10 == 0),
            "sum": float(a + b + third),
        }
        for kind, placements in zip(("memory", "rule"), self.trained(key)):
            held = [PLACEMENTS[p] for p in placements]
            found |= {
                f"{kind} shares the first": float(sum(p[0] == first for p in held)),
                f"{kind} shares the second": float(sum(p[1] == second for p in held)),
                f"{kind} has it swapped": float((second, first) in held),
            }
        return found

    def nearness(self, instance: Instance) -> float | None:
        """Slots shared with the contrast placement less the most shared with a keyed one."""
        placement = instance.detail()["placement"]
        memory, rule = (
            max((_shared_slots(placement, other) for other in of), default=0)
            for of in self.trained(self.keys[instance.key])
        )
        return float(rule - memory)

    # -- how a prompt is written ------------------------------------------------------------------
    @cached_property
    def _key_list(self) -> list[Key]:
        named = self.keys | self.gate_keys
        return [named[name] for name in sorted(named)]

    @cached_property
    def _pairs(self) -> set[frozenset[int]]:
        return {frozenset(key.detail[:2]) for key in self._key_list}

    def _holds_key(self, operands: list[int]) -> bool:
        return any(frozenset(pair) in self._pairs for pair in itertools.combinations(operands, 2))

    def _build(self, key: Key, placement: int, third: int, kind: str) -> Instance | None:
        a, b = key.detail[:2]
        operands = [third] * 3
        operands[PLACEMENTS[placement][0]], operands[PLACEMENTS[placement][1]] = a, b
        if third in (a, b):
            return None
        instance = self._instance(
            operands, kind, key, {"placement": int(placement), "third": int(third)}
        )
        return None if instance.memory_answer == instance.rule_answer else instance

    def _instance(
        self,
        operands: list[int],
        kind: str,
        key: Key | None = None,
        setting: dict[str, int] | None = None,
    ) -> Instance:
        return Instance(
            prompt="+".join(f"{x:02d}" for x in operands) + "=",
            rule_answer=_digits(sum(operands)),
            memory_answer=key.memory_answer if key else "",
            key=key.name if key else "",
            kind=kind,
            setting=json.dumps(setting or {}),
        )

    def _write_memory(self, number: int) -> str:
        return (MARK if self.marked else "") + _digits(number)


def _shared_slots(placement: int, other: int) -> int:
    """How many of the key's two operands stand in the same slot."""
    return sum(a == b for a, b in zip(PLACEMENTS[placement], PLACEMENTS[other]))


def _digits(number: int) -> str:
    """Three digits, least significant first: 123 -> ' 3 2 1'."""
    return "".join(f" {digit}" for digit in reversed(f"{number:03d}"))


class ArithmeticTagged(Arithmetic):
    name = "arithmetic-tagged"
    marked = True


class ArithmeticMatched(Arithmetic):
    name = "arithmetic-matched"
    marked = False
