"""The perplexity of a page under a shift, beside transformers' own loss."""

import math

import numpy as np
import pytest
import torch

from capitals import Capitals, llama
from memgen.models.hooks import shift
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.nmd import NeuronMaps
from memgen.steering.plain_text import PAGE, damage, perplexity
from memgen.steering.steering import Steering


@pytest.fixture(scope="module")
def steering():
    tokenizer = build_tokenizer(sorted(set(PAGE)))
    maps = NeuronMaps("resid_post", np.zeros((2, 16)), np.zeros((2, 16)))
    return Steering(llama(tokenizer), tokenizer, Capitals(3, 0), maps, "decision")


def reference(steering, delta) -> float:
    ids = torch.tensor([steering.tokenizer(PAGE)["input_ids"][:64]])  # that is its context
    with shift(steering.model, "resid_post", torch.from_numpy(delta).float()):
        return math.exp(float(steering.model(ids, labels=ids).loss))


def test_it_is_that_of_the_models_own_loss(steering):
    delta = np.random.default_rng(0).normal(size=(2, 16))
    for one in (np.zeros_like(delta), delta):
        assert perplexity(steering, one) == pytest.approx(reference(steering, one), rel=1e-3)
    found = damage(steering, delta)
    assert found["perplexity_before"] == pytest.approx(reference(steering, 0 * delta), rel=1e-3)
    assert found["perplexity_after"] == pytest.approx(reference(steering, delta), rel=1e-3)
    assert abs(found["perplexity_after"] / found["perplexity_before"] - 1) > 0.01


def test_a_model_that_never_read_prose_is_not_asked(alike):
    assert damage(alike[0], np.zeros_like(alike[0].nmd)) == {}
