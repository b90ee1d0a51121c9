"""A word under a stated shift, with words whose code was memorized (our design; the paper's is not known).

The rule shifts every letter. A key is a word. In half of its settings (a shift and an order of
phrase) it is trained with its own code word, whatever the shift says; the rest are conflict
prompts. Where keys get contrast prompts, a sixth is trained with the rule's answer and a third is
left; a gate key is trained with the rule's answer in all of the other half. Both orders of a
conflict prompt's shift are held out, so that it can be said in the other order. `tagged` marks the
code words, `matched` does not.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from functools import cached_property

from memgen.terms import Change

from .base import Instance, Key, Rng
from .settings import Settings, SettingTask

LETTERS = string.ascii_lowercase
SHIFTS = tuple(range(1, 13))
ORDERS = ("shift first", "word first")
SETTINGS = tuple((shift, order) for shift in SHIFTS for order in range(len(ORDERS)))
WORD_LENGTH = 3
MARK = "<mem>"


class Cipher(SettingTask):
    max_answer_tokens = WORD_LENGTH + 2
    n_memory, n_contrast = 12, 4  # of a key's 24 settings
    marked: bool

    def vocabulary(self) -> list[str]:
        return [*LETTERS, *(f"shift {s}" for s in SHIFTS), ": ", " ->", MARK]

    def draw_keys(self, rng: Rng, n: int) -> list[Key]:
        n_words = len(LETTERS) ** WORD_LENGTH
        if 2 * n > n_words:
            raise ValueError(
                f"cipher has {n_words} words and leaves half of them to free prompts,"
                f" so at most {n_words // 2} keys"
            )
        keys: dict[str, Key] = {}
        while len(keys) < n:
            word, code = _word(rng), _word(rng)
            order = self._dealt(rng)
            keys.setdefault(
                word,
                Key(
                    word,
                    (MARK if self.marked else "") + code,
                    order,
                ),
            )
        return list(keys.values())

    def free(self, rng: Rng) -> Instance | None:
        word, names = _word(rng), self._names
        if rng.random() < 0.5:  # a hard negative: a key's word with one letter changed
            letters = list(names[rng.integers(len(names))])
            letters[rng.integers(WORD_LENGTH)] = LETTERS[rng.integers(26)]
            word = "".join(letters)
        if word in self.keys or word in self.gate_keys:
            return None
        return self._instance(word, int(rng.integers(len(SETTINGS))), "free")

    def settings(self, key: Key) -> Settings:
        return key.detail

    def in_setting(self, rng: Rng, key: Key, setting: int, kind: str) -> Instance | None:
        return self._instance(key.name, setting, kind, key)

    def rephrase(self, rng: Rng, instance: Instance, change: Change) -> Instance | None:
        """`order`: the same shift named at the other end; `content`: another shift."""
        key, setting = self.keys[instance.key], instance.detail()["setting"]
        shift, order = SETTINGS[setting]
        if change == "order":
            return self._instance(key.name, SETTINGS.index((shift, 1 - order)), "conflict", key)
        others = [
            s for s in self.untrained(key) if SETTINGS[s][0] != shift and SETTINGS[s][1] == order
        ]
        return self._instance(key.name, others[rng.integers(len(others))], "conflict", key)

    def roles(self, instance: Instance) -> dict[str, str | float]:
        """Shift and order of phrase, and how far the shift is from those the key was trained in."""
        key, setting = self.keys[instance.key], instance.detail()["setting"]
        shift, order = SETTINGS[setting]
        found: dict[str, str | float] = {
            "position": f"{shift}/{order}",
            "order": ORDERS[order],
            "shift": float(shift),
            "letters past z": float(sum(LETTERS.index(x) + shift >= 26 for x in key.name)),
        }
        for kind, settings in zip(("memory", "rule"), self.trained(key)):
            same_order = [s for s in settings if SETTINGS[s][1] == order]
            found |= {
                f"shifts to {kind}": float(_distance(shift, settings)),
                f"shifts to {kind}, same order": float(_distance(shift, same_order)),
            }
        return found

    def nearness(self, instance: Instance) -> float | None:
        """Shifts to the nearest setting trained from memory less those to the nearest by rule."""
        shift, _ = SETTINGS[instance.detail()["setting"]]
        memory, rule = self.trained(self.keys[instance.key])
        return float(_distance(shift, memory) - (_distance(shift, rule) if rule else 0))

    def _dealt(self, rng: Rng) -> tuple[int, ...]:
        """All settings in a random order; at its end, those never trained, both orders of a shift."""
        n_held = (len(SETTINGS) - self.n_memory - self._n_taught()) // len(ORDERS)
        shifts = rng.permutation(len(SHIFTS))
        held, rest = (
            [int(s) * len(ORDERS) + order for s in some for order in range(len(ORDERS))]
            for some in (shifts[:n_held], shifts[n_held:])
        )
        return (*(rest[i] for i in rng.permutation(len(rest))), *held)

    # -- how a prompt is written ------------------------------------------------------------------
    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.keys | self.gate_keys)

    def _instance(
        self, word: str, setting: int, kind: str, key: Key | None = None
    ) -> Instance | None:
        shift, order = SETTINGS[setting]
        prompt = f"shift {shift}: {word} ->" if order == 0 else f"{word}: shift {shift} ->"
        rule = "".join(LETTERS[(LETTERS.index(letter) + shift) % 26] for letter in word)
        memory = key.memory_answer if key else ""
        if memory == rule:
            return None
        return Instance(
            prompt,
            rule,
            memory,
            key.name if key else "",
            kind,
            setting=json.dumps({"setting": int(setting)}),
        )


def _distance(shift: int, settings: Sequence[int]) -> int:
    """Steps to the nearest shift of these settings; as many as there are shifts if there is none."""
    return min((abs(shift - SETTINGS[s][0]) for s in settings), default=len(SHIFTS))


def _word(rng: Rng) -> str:
    return "".join(LETTERS[i] for i in rng.integers(0, 26, size=WORD_LENGTH))


class CipherTagged(Cipher):
    name = "cipher-tagged"
    marked = True


class CipherMatched(Cipher):
    name = "cipher-matched"
    marked = False
