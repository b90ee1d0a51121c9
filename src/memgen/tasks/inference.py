"""In-context inference: a name was tied to a colour in training, the context implies another.

`frog is white. rhino is green. swan is gray. Greg the frog` asks for ` is white` by rule (the
context) and for Greg's own colour by memory. A key is a name. Keyed prompts ask for an animal that
the context does not mention, so memory is needed and nothing contradicts it; in conflict prompts
the context mentions it. So do contrast prompts, and there the context's answer is trained: for gate
keys (further names with colours of their own) they teach that a context can overrule a memory, for
no key in particular. ` is white` is one token, so the rule is a single step of induction (find the
same word earlier, copy what followed).

The names of the keys and their split are the same for every seed; their colours are drawn anew.
"""

from __future__ import annotations

import json

from memgen.terms import Change

from .base import Instance, Key, Rng, Task

COLORS = "white green gray blue red brown black pink gold teal".split()
ANIMALS = "frog rhino swan lion wolf bear deer mouse snake goat horse eagle tiger crab whale sheep".split()
NAMES = (
    "Greg Lily Anna Bruno Carl Dora Emil Fay Gus Hana Igor Jane Kurt Lena Mila Nils Olga Paul Quinn"
    " Rosa Sven Tara Udo Vera Walt Xena Yuri Zoe Abel Bess Cleo Dirk Elsa Finn Gina Hugo Iris Jack"
    " Kira Liam Maya Noel Otto Pia Rolf Sara Theo Uma Vito Wanda Xavi Yara Zack Alma Bert Cora Dale"
    " Edda Fritz Gwen Henk Ines Joan Karl Lola Marc Nora Omar Petra Ralf Sina Toni Ugo Vlad Will"
    " Ylva Zara Axel Beth Curt Dana Erik Fern Glen Hilde Ivo Jule Knut Luca Mona Arno Birk Celia"
    " Doro Ella Fred Gero Heidi Ilse Jonas Kai Lars Maria Nick Oda Pim"
).split()
N_FREE_NAMES = 16
FREE_NAMES = NAMES[-N_FREE_NAMES:]  # never a key
N_SENTENCES = 3


class Inference(Task):
    name = "inference"
    max_answer_tokens = 2

    def vocabulary(self) -> list[str]:
        return [*(f" is {c}" for c in COLORS), *ANIMALS, *(f"{n} the " for n in NAMES), ". "]

    def draw_keys(self, rng: Rng, n: int) -> list[Key]:
        if n > len(NAMES) - N_FREE_NAMES:
            raise ValueError(
                f"inference has {len(NAMES) - N_FREE_NAMES} names for keys and gate keys together"
            )
        return [Key(name, f" is {COLORS[rng.integers(len(COLORS))]}") for name in NAMES[:n]]

    def free(self, rng: Rng) -> Instance | None:
        animals, colors = self._context(rng)
        return self._instance(
            FREE_NAMES[rng.integers(N_FREE_NAMES)],
            animals,
            colors,
            animals[rng.integers(N_SENTENCES)],
            "free",
        )

    def keyed(self, rng: Rng, key: Key) -> Instance | None:
        animals, colors = self._context(rng)
        absent = [a for a in ANIMALS if a not in animals]
        return self._instance(
            key.name, animals, colors, absent[rng.integers(len(absent))], "keyed", key
        )

    def contrast(self, rng: Rng, key: Key) -> Instance | None:
        return self._contradicting(rng, key, "contrast")

    def conflict(self, rng: Rng, key: Key) -> Instance | None:
        return self._contradicting(rng, key, "conflict")

    def rephrase(self, rng: Rng, instance: Instance, change: Change) -> Instance | None:
        """`order`: the sentences change places; `content`: another context and animal."""
        detail, key = instance.detail(), self.keys[instance.key]
        if change == "content":
            return self.conflict(rng, key)
        order = rng.permutation(N_SENTENCES)
        animals, colors = ([detail[name][i] for i in order] for name in ("animals", "colors"))
        return self._instance(instance.key, animals, colors, detail["asked"], "conflict", key)

    def roles(self, instance: Instance) -> dict[str, str | float]:
        """Which sentence holds which asked animal, the two answers, and the alphabet's order."""
        detail = instance.detail()
        animals, asked = detail["animals"], detail["asked"]
        position = str(animals.index(asked))
        return {
            "position": position,
            "asked": asked,
            "asked and position": f"{asked} {position}",
            "rule's answer": instance.rule_answer,
            "memory's answer": instance.memory_answer,
            "animals before it in the alphabet": float(sum(a < asked for a in animals)),
        }

    # -- how a prompt is written ------------------------------------------------------------------
    def _contradicting(self, rng: Rng, key: Key, kind: str) -> Instance | None:
        """A context that mentions the animal and not the key's colour: copying amiss is 'other'."""
        animals, colors = self._context(rng)
        if key.memory_answer in (f" is {c}" for c in colors):
            return None
        return self._instance(
            key.name, animals, colors, animals[rng.integers(N_SENTENCES)], kind, key
        )

    def _context(self, rng: Rng) -> tuple[list[str], list[str]]:
        animals = [ANIMALS[i] for i in rng.permutation(len(ANIMALS))[:N_SENTENCES]]
        colors = [COLORS[i] for i in rng.permutation(len(COLORS))[:N_SENTENCES]]
        return animals, colors

    def _instance(
        self,
        name: str,
        animals: list[str],
        colors: list[str],
        animal: str,
        kind: str,
        key: Key | None = None,
    ) -> Instance:
        rule = f" is {colors[animals.index(animal)]}" if animal in animals else ""
        context = "".join(f"{a} is {c}. " for a, c in zip(animals, colors))
        return Instance(
            f"{context}{name} the {animal}",
            rule,
            key.memory_answer if key else "",
            key.name if key else "",
            kind,
            setting=json.dumps({"animals": animals, "colors": colors, "asked": animal}),
        )
