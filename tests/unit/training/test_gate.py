"""A look decides in one pass what the answers that a model writes show."""

from __future__ import annotations

import pytest

from memgen.models.build import build_model
from memgen.models.tokenizer import build_tokenizer
from memgen.training.gate import Look, watch
from planted import PlantedAlike


def test_a_look_finds_what_is_written(planted):
    model, tokenizer, task, frame, _ = planted(PlantedAlike)
    found = Look(tokenizer, frame, 300)(model)
    assert found == watch(model, tokenizer, task, frame, "validation", 300)
    assert found["memory_rate"] > 0 and found["rule_rate"] > 0 and found["free_accuracy"] > 0.5
    fewer = Look(tokenizer, frame, 6)(model)
    assert fewer["n_conflict"] == 6 < found["n_conflict"]
    assert fewer == watch(model, tokenizer, task, frame, "validation", 6)


@pytest.mark.parametrize("name", ["arithmetic-tagged", "cipher-matched", "inference"])
def test_a_model_that_knows_nothing_shows_neither(datasets, name):
    task, frame = datasets[name]
    tokenizer = build_tokenizer(task.vocabulary())
    model = build_model(
        tokenizer, n_layer=1, n_embd=16, n_head=2, n_positions=32, initializer_range=0.3, seed=0
    )
    found = Look(tokenizer, frame, 40)(model)
    assert found == watch(model, tokenizer, task, frame, "validation", 40)
    assert found["other_rate"] > 0.5
