"""A task without training of a few keys, and random models to ask."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from memgen.models.tokenizer import build_tokenizer
from memgen.tasks import GivenTask, Instance, Key

PLACES = [f" place{i}" for i in range(8)]
CITIES = [f" city{i}" for i in range(8)]
PIECES = [*PLACES, *CITIES, "The capital of", "In", " lies", " is", ".", "s"]


class Capitals(GivenTask):
    """Place i has city i. What a model knows is for the model to say."""

    name = "capitals"
    max_answer_tokens = 3
    answers = dict(zip(PLACES, CITIES))

    def every_key(self):
        return [Key(place.strip(), self.answers[place]) for place in PLACES]

    def asked(self):
        return {
            key.name: [
                Instance(prompt, "", key.memory_answer, key.name, "keyed")
                for prompt in (f"The capital of {key.name} is", f"In {key.name} lies")
            ]
            for key in self.every_key()
        }

    def instructed(self, instance, direction):
        return [instance, instance]

    def free(self, rng):
        return None

    keyed = conflict = rephrase = free


def llama(tokenizer, seed: int = 0, **sizes) -> LlamaForCausalLM:
    """A LLaMA of two layers x 16 with random weights."""
    given = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "initializer_range": 1.0,
        "vocab_size": len(tokenizer) if tokenizer else 8,
    }
    torch.manual_seed(seed)
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    return LlamaForCausalLM(LlamaConfig(**(given | sizes), **marks)).eval()


def asked_model(seed: int = 0) -> tuple:
    """`(model, tokenizer)` with random weights."""
    tokenizer = build_tokenizer(PIECES)
    return llama(tokenizer, seed), tokenizer
