"""A task and a model whose behaviour is planted: what each prompt is answered, and which shift
changes it, is known.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from memgen.models.build import build_model
from memgen.tasks import Instance, Key, Task


class Planted(Task):
    """Prompts such as `key3 word7 near-memory`, whose last word alone decides the answer of the
    planted model.

    The hidden coordinate 0 at the last word is the number below. The model answers M below 0.6, R
    up to 2.5 and X above, so +1 turns `near` prompts from M to R (and +4 overshoots to X), while
    `far` prompts need +4; -1 and -4 likewise turn R to M.
    """

    name = "planted"
    max_answer_tokens = 2
    STATE = {"near-memory": 0.0, "far-memory": -3.0, "near-rule": 1.0, "far-rule": 2.0}
    SHARES = (0.5, 0.2, 0.3)
    far_splits: tuple[str, ...] = ("test",)

    def vocabulary(self):
        return [
            *(f"key{i} " for i in range(10)),
            *(f"word{i} " for i in range(30)),
            *self.STATE,
            "M",
            "R",
            "X",
        ]

    def draw_keys(self, rng, n):
        return [Key(f"key{i}", "M") for i in range(n)]

    def free(self, rng):
        return Instance(f"word{rng.integers(30)} word{rng.integers(30)} near-rule", "R")

    def keyed(self, rng, key):
        return Instance(
            f"{key.name} {key.name} word{rng.integers(30)} near-memory", "R", "M", key.name, "keyed"
        )

    def conflict(self, rng, key):
        return self._asked(key, rng.integers(30), "memory" if rng.random() < 0.5 else "rule")

    def rephrase(self, rng, instance, change):
        behaviour = "rule" if instance.prompt.endswith("memory") else "memory"
        return self._asked(self.keys[instance.key], rng.integers(30), behaviour)

    def _asked(self, key, word, behaviour):
        place = "far" if self.split_keys(self.SHARES)[key.name] in self.far_splits else "near"
        return Instance(
            f"{key.name} word{word} {place}-{behaviour}", "R", "M", key.name, "conflict"
        )


class PlantedAlike(Planted):
    """The same with validation and test keys alike."""

    far_splits = ()


class ManyKeys(PlantedAlike):
    """Enough train keys, of 24, for the permutation test to find anything at all."""

    name = "planted-many"

    def vocabulary(self):
        return [*(f"key{i} " for i in range(10, 24)), *super().vocabulary()]


class Worded(ManyKeys):
    """The same as a task that says its prompts in given forms: every key in the same words, half of the
    keys from memory.
    """

    def in_forms(self, keys, n):
        return [
            replace(self._asked(self.keys[key], word, behaviour), setting=str(word))
            for word in range(n)
            for place, key in enumerate(keys)
            for behaviour in [("memory", "rule")[(place + word // 4) % 2]]
        ]

    def form(self, instance):
        return instance.setting


def silent_model(tokenizer, n_layer: int, width: int):
    """A GPT-2 whose blocks add nothing and whose positions are alike; its own output map is all zeros."""
    model = build_model(
        tokenizer,
        n_layer=n_layer,
        n_embd=width,
        n_head=2,
        n_positions=16,
        initializer_range=0.02,
        seed=0,
    )
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(len(tokenizer), width))
    with torch.no_grad():
        for block in model.transformer.h:
            for part in (block.attn.c_proj, block.mlp.c_proj):
                part.weight.zero_()
                part.bias.zero_()
        model.transformer.wpe.weight.zero_()
    return model


def planted_model(tokenizer, n_layer: int = 2, width: int = 8):
    """A GPT-2 whose blocks add nothing: the logits are straight lines in coordinate 0 of the last
    token's embedding.
    """
    model, token = silent_model(tokenizer, n_layer, width), tokenizer.convert_tokens_to_ids
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
        model.transformer.wte.weight[:, 1] = 1.0
        for word, value in Planted.STATE.items():
            model.transformer.wte.weight[token(word), 0] = value
        model.transformer.wte.weight[[token(answer) for answer in "MRX"], 3] = (
            100.0  # after an answer comes the end
        )
        for answer, line in {"M": (0.0, 0.1), "R": (1.0, -0.5), "X": (2.0, -3.0)}.items():
            model.lm_head.weight[token(answer), :2] = torch.tensor(line)
        model.lm_head.weight[tokenizer.eos_token_id, 3] = 1.0
        model.lm_head.weight[:, 2] = -model.lm_head.weight.sum(
            -1
        )  # rows sum to 0: the final norm's mean does not matter
    return model.eval()
