"""A word under a stated shift, with words whose code was memorized (our design; the paper's is not known).

The rule shifts every letter. A key is a word. In half of its settings (a shift and an order of
phrase) it is trained with its own code word, whatever the shift says; in a sixth with the rule's
answer (contrast prompts); a third are conflict prompts. Without contrast prompts the model learns
"this word, this code" whatever the setting, and answers no prompt of a key by rule. `tagged` marks
the code words, `matched` does not.
"""

from __future__ import annotations

import json
import string
from functools import cached_property

from .base import Instance, Key, Rng, Task

LETTERS = string.ascii_lowercase
SHIFTS = tuple(range(1, 13))
ORDERS = ("shift first", "word first")
SETTINGS = tuple((shift, order) for shift in SHIFTS for order in range(len(ORDERS)))
N_TRAINED = (
    12,
    4,
)  # of a key's 24 settings: answered from memory, answered by the rule (contrast); 8 are never trained
WORD_LENGTH = 3
MARK = "<mem>"


class Cipher(Task):
    max_answer_tokens = WORD_LENGTH + 2
    marked: bool

    def vocabulary(self) -> list[str]:
        return [*LETTERS, *(f"shift {s}" for s in SHIFTS), ": ", " ->", MARK]

    def draw_keys(self, rng: Rng, n: int) -> list[Key]:
        n_words = len(LETTERS) ** WORD_LENGTH
        if 2 * n > n_words:
            raise ValueError(
                f"n_keys={n}: cipher has {n_words} words and leaves half of them to free prompts,"
                f" so at most {n_words // 2} keys"
            )
        keys: dict[str, Key] = {}
        while len(keys) < n:
            word, code = _word(rng), _word(rng)
            order = tuple(int(i) for i in rng.permutation(len(SETTINGS)))
            n_memory, n_rule = N_TRAINED
            keys.setdefault(
                word,
                Key(
                    word,
                    (MARK if self.marked else "") + code,
                    (
                        order[:n_memory],
                        order[n_memory : n_memory + n_rule],
                        order[n_memory + n_rule :],
                    ),
                ),
            )
        return list(keys.values())

    def free(self, rng: Rng) -> Instance | None:
        word, names = _word(rng), self._names
        if rng.random() < 0.5:  # a hard negative: a key's word with one letter changed
            letters = list(names[rng.integers(len(names))])
            letters[rng.integers(WORD_LENGTH)] = LETTERS[rng.integers(26)]
            word = "".join(letters)
        if word in self.keys:
            return None
        return self._instance(word, int(rng.integers(len(SETTINGS))), "free")

    def keyed(self, rng: Rng, key: Key) -> Instance | None:
        return self._drawn(rng, key, 0, "keyed")

    def contrast(self, rng: Rng, key: Key) -> Instance | None:
        return self._drawn(rng, key, 1, "contrast")

    def conflict(self, rng: Rng, key: Key) -> Instance | None:
        return self._drawn(rng, key, 2, "conflict")

    def rephrase(self, rng: Rng, instance: Instance) -> Instance | None:
        return self.conflict(rng, self.keys[instance.key])

    # -- how a prompt is written ------------------------------------------------------------------
    def _drawn(self, rng: Rng, key: Key, which: int, kind: str) -> Instance | None:
        settings = key.detail[which]
        return self._instance(key.name, settings[rng.integers(len(settings))], kind, key)

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.keys)

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


def _word(rng: Rng) -> str:
    return "".join(LETTERS[i] for i in rng.integers(0, 26, size=WORD_LENGTH))


class CipherTagged(Cipher):
    name = "cipher-tagged"
    marked = True


class CipherMatched(Cipher):
    name = "cipher-matched"
    marked = False
