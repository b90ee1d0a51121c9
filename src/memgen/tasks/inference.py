"""In-context inference: a name was tied to a colour in training, the context implies another.

`frog is white. rhino is green. swan is gray. Greg the frog` asks for ` is white` by rule (the context) and for
Greg's own colour by memory. A key is a name. Keyed prompts name an animal that the context does not mention, so memory
is needed and nothing contradicts it; conflict prompts name one that it does. ` is white` is one token, which makes
the rule a single step of induction (find the same word earlier, copy what followed).
"""

from __future__ import annotations

import json

import numpy as np

from .base import Instance, Key, Task

COLORS = "white green gray blue red brown black pink gold teal".split()
ANIMALS = "frog rhino swan lion wolf bear deer mouse snake goat horse eagle tiger crab whale sheep".split()
NAMES = (
    "Greg Lily Anna Bruno Carl Dora Emil Fay Gus Hana Igor Jane Kurt Lena Mila Nils Olga Paul Quinn Rosa Sven Tara Udo "
    "Vera Walt Xena Yuri Zoe Abel Bess Cleo Dirk Elsa Finn Gina Hugo Iris Jack Kira Liam Maya Noel Otto Pia Rolf Sara "
    "Theo Uma Vito Wanda Xavi Yara Zack Alma Bert Cora Dale Edda Fritz Gwen Henk Ines Joan Karl Lola Marc Nora Omar "
    "Petra Ralf Sina Toni Ugo Vlad Will Ylva Zara Axel Beth Curt Dana Erik Fern Glen Hilde Ivo Jule Knut Luca Mona"
).split()
N_FREE_NAMES = 16
N_SENTENCES = 3


class Inference(Task):
    name = "inference"
    max_answer_tokens = 2
    needs_base = True

    def vocabulary(self) -> list[str]:
        return [*(f" is {c}" for c in COLORS), *ANIMALS, *(f"{n} the " for n in NAMES), ". "]

    def draw_keys(self, rng: np.random.Generator, n: int) -> list[Key]:
        if n > len(NAMES) - N_FREE_NAMES:
            raise ValueError(f"n_keys={n}: inference has {len(NAMES) - N_FREE_NAMES} names for keys")
        names = rng.permutation(NAMES)
        self.free_names = [str(x) for x in names[len(NAMES) - N_FREE_NAMES :]]
        return [Key(str(name), f" is {COLORS[rng.integers(len(COLORS))]}") for name in names[:n]]

    def free(self, rng):
        animals, colors = self._context(rng)
        return self._instance(self.free_names[rng.integers(N_FREE_NAMES)], animals, colors, int(rng.integers(3)), "free")

    def keyed(self, rng, key):
        animals, colors = self._context(rng)
        absent = [a for a in ANIMALS if a not in animals]
        asked = absent[rng.integers(len(absent))]
        return self._instance(key.name, animals, colors, asked, "keyed", key)

    def conflict(self, rng, key):
        animals, colors = self._context(rng)
        if key.memory_answer in (f" is {c}" for c in colors):
            return None  # the memory answer stays out of the context, so copying the wrong sentence is 'other'
        return self._instance(key.name, animals, colors, int(rng.integers(3)), "conflict", key)

    def rephrase(self, rng, instance):
        detail = instance.detail()
        order = rng.permutation(N_SENTENCES)
        animals = [detail["animals"][i] for i in order]
        colors = [detail["colors"][i] for i in order]
        asked = animals.index(detail["asked"])
        return self._instance(instance.key, animals, colors, asked, "conflict", self.keys[instance.key])

    # -- how a prompt is written ------------------------------------------------------------------------------
    def _context(self, rng):
        animals = [ANIMALS[i] for i in rng.permutation(len(ANIMALS))[:N_SENTENCES]]
        colors = [COLORS[i] for i in rng.permutation(len(COLORS))[:N_SENTENCES]]
        return animals, colors

    def _instance(self, name, animals, colors, asked, kind, key=None):
        """`asked`: index of the asked animal in the context, or the name of an absent one."""
        animal = asked if isinstance(asked, str) else animals[asked]
        rule = "" if isinstance(asked, str) else f" is {colors[asked]}"
        context = "".join(f"{a} is {c}. " for a, c in zip(animals, colors))
        return Instance(
            f"{context}{name} the {animal}",
            rule,
            key.memory_answer if key else "",
            key.name if key else "",
            kind,
            setting=json.dumps({"animals": animals, "colors": colors, "asked": animal}),
        )
