"""Pruning by period: of a tiny adder, in which one unit reads the operands along a wave."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from memgen.models.build import build_model
from memgen.models.components import read
from memgen.models.generate import tokenize_prompts
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.nmd import NeuronMaps
from memgen.rivals import ipr, modular_addition
from memgen.rivals.interventions import Weights
from memgen.rivals.material import Effort, Material
from memgen.steering.steering import Steering
from memgen.tasks import make_task

WAVE = 5  # the unit of the second layer that reads a single frequency


@pytest.fixture(scope="module")
def adder() -> Material:
    task = make_task("arithmetic-tagged", 6, 0)
    tokenizer = build_tokenizer(task.vocabulary())
    sizes = {"n_layer": 2, "n_embd": 112, "n_head": 2, "n_positions": 32}
    model = build_model(tokenizer, **sizes, initializer_range=0.3, seed=0).eval()
    ids = tokenizer.convert_tokens_to_ids(ipr.RESIDUES)
    with torch.no_grad():
        embedded = model.get_input_embeddings().weight[ids]
        centred = (embedded - embedded.mean(0)) * model.transformer.h[1].ln_2.weight
        wave = torch.cos(2 * torch.pi * 7 * torch.arange(100) / 100)
        found = torch.linalg.lstsq(centred, wave[:, None]).solution[:, 0]
        model.transformer.h[1].mlp.c_fc.weight[:, WAVE] = found
    maps = NeuronMaps("resid_post", np.zeros((2, 112)), np.zeros((2, 112)))
    steering = Steering(model, tokenizer, task, maps)
    nothing, states = pd.DataFrame({"key": []}), np.zeros((0, 2, 112))
    return Material(
        steering, (), nothing, states, states, nothing, nothing, nothing, 0, Effort(budget=50)
    )


def test_the_unit_that_reads_a_wave_is_cut_last_and_by_the_control_first(adder):
    values = np.stack([ipr.participation(one) for one in ipr.operand_weights(adder)])
    assert np.unravel_index(values.argmax(), values.shape) == (1, WAVE)
    assert values[1, WAVE] > 0.99 and np.median(values) < 0.1
    assert not ipr.lowest(values, 0.9, [0, 1])[1, WAVE] and ipr.lowest(-values, 0.01, [1])[1, WAVE]
    assert not ipr.lowest(values, 0.5, [1])[0].any()
    assert len(ipr.METHOD.candidates(adder, "m2g")) == len(ipr.CONTROL.candidates(adder, "m2g"))


def test_a_cut_unit_is_a_unit_without_weights(adder):
    """Zero inputs, bias and outputs in the weights, or the activation times zero: the same logits."""
    steering = adder.steering
    (one, *_) = [c for c in ipr.METHOD.candidates(adder, "m2g") if c.setting["share"] == 0.3]
    rows = pd.DataFrame({"prompt": ["12+34+56="], "memory_answer": " 1", "rule_answer": " 2"})
    ids, mask = tokenize_prompts(steering.tokenizer, list(rows.prompt))
    units = read(steering.model, ids, mask, "units", last=True)
    changes = {}
    for (_, layer), edit in one.intervention.edits.items():
        kept = (edit(torch.ones_like(units[:, layer])[:, None]) != 0)[0, 0]
        mlp = steering.model.transformer.h[layer].mlp
        for part, name, factor in (
            (mlp.c_fc, "c_fc", kept[None]),
            (mlp.c_proj, "c_proj", kept[:, None]),
        ):
            changes[f"transformer.h.{layer}.mlp.{name}.weight"] = part.weight.detach() * factor
        changes[f"transformer.h.{layer}.mlp.c_fc.bias"] = mlp.c_fc.bias.detach() * kept
    edited, cut = (
        done.read(steering, rows).log_probs for done in (one.intervention, Weights(changes))
    )
    assert torch.allclose(edited, cut, atol=1e-4)


def test_tasks_without_operands_are_told_so(adder):
    assert ipr.no_residues(adder) == ""
    other = Steering(None, None, make_task("inference", 6, 0), adder.steering.maps)
    material = Material(
        other, (), *(adder.pairs,), adder.memory, adder.rule, *(adder.pairs,) * 3, 0
    )
    assert "residues" in ipr.no_residues(material)


def test_at_home_the_exceptions_go_with_the_least_periodic_units_and_the_rule_with_the_others():
    """What the paper shows of its own task, and both controls."""
    recipe = modular_addition.Recipe()
    found = modular_addition.pruned(recipe).set_index(["order", "cut"])
    whole = found.loc["lowest first", 0.0]
    assert whole.unseen_right > 0.95 and whole.wrong_as_taught > 0.95
    assert found.loc[("random", 0.0)].equals(whole)
    gone = found.loc["lowest first"][found.loc["lowest first"].wrong_as_taught < 0.3]
    assert gone.unseen_right.max() > 0.95
    highest = found.loc["highest first"]
    assert highest.loc[0.3].unseen_right < 0.6


def test_wrong_sums_are_some_of_the_known_ones_and_never_right():
    sums = modular_addition.Sums.of(modular_addition.Recipe(residues=7, known=0.5, wrong=0.25))
    assert len(sums.pairs) == 49 and int(sums.known.sum()) == 24 and int(sums.wrong.sum()) == 6
    assert bool((sums.known | ~sums.wrong).all())
    assert torch.equal(sums.taught != sums.true, sums.wrong)
    assert torch.equal(sums.true, sums.pairs.sum(1) % 7)


def test_a_unit_of_one_frequency_is_periodic_and_a_cut_one_says_nothing():
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(11) / 11)
    noise = torch.randn(11, generator=torch.Generator().manual_seed(0))
    reads = torch.stack([torch.cat([wave, wave]), torch.cat([noise, wave])])
    network = modular_addition.Network(reads, torch.stack([wave, noise], dim=1))
    assert network.periodicity[0] == pytest.approx(1.0, abs=1e-5) and network.periodicity[1] < 0.7
    pairs = torch.tensor([[2, 5]])
    by_hand = (wave[2] + wave[5]) ** 2 * wave
    assert torch.allclose(network.without(np.array([1])).logits(pairs)[0], by_hand, atol=1e-5)
