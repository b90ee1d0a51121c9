"""What the base has of an adapter's maps, and behaviour along the adapter's scale, where both are known."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memgen.errors import ArtifactError
from memgen.models import origin
from memgen.models.adapters import weights_digest
from memgen.models.build import save_model
from memgen.neurons import inheritance, selection
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.states import hidden_states
from planted import Planted


def maps(nmd, rho) -> NeuronMaps:
    return NeuronMaps("resid_post", np.array(nmd, dtype=float), np.array(rho, dtype=float))


def test_a_base_with_the_same_maps_has_everything_and_a_flat_one_nothing():
    on = maps(np.arange(40).reshape(2, 20), np.linspace(-1, 1, 40).reshape(2, 20))
    same = inheritance.compare(on, on, 7)
    assert same["correlation"] == pytest.approx([1, 1]) and same[
        "correlation_all"
    ] == pytest.approx(1)
    assert same["top_in_common"] == 1 and same["n_pairs"] == 7
    assert same["top_share"] == selection.TOP_SHARE
    faint = inheritance.compare(maps(on.nmd / 1000, on.rho), maps(on.nmd / 1000, on.rho), 7)
    assert faint["correlation_all"] == pytest.approx(1)
    assert same["mean_abs_nmd"]["on"] == same["mean_abs_nmd"]["off"] == [9.5, 29.5]
    assert same["mean_abs_nmd"]["difference"] == [0, 0]

    other_top = np.zeros((2, 20))
    other_top[0, 9:11] = 1
    flat = inheritance.compare(on, maps(np.zeros((2, 20)), other_top), 7)
    assert flat["correlation"] == [None, None] and flat["correlation_all"] is None
    assert flat["top_in_common"] == 0 and flat["mean_abs_nmd"]["difference"] == [9.5, 29.5]
    assert inheritance.compare(maps(np.zeros((2, 20)), on.rho), on, 7)["correlation_all"] is None
    turned = inheritance.compare(on, maps(-on.nmd, on.rho), 7)
    assert turned["correlation_all"] == pytest.approx(-1)


@pytest.fixture
def adapted(planted, monkeypatch):
    """A planted model whose "adapter" adds its scale to coordinate 0 of every last word."""
    model, tokenizer, task, _, answered = planted()
    last = [tokenizer.convert_tokens_to_ids(word) for word in Planted.STATE]
    weight = model.transformer.wte.weight

    @contextmanager
    def scaled(model, scale):
        before = weight[last, 0].clone()
        with torch.no_grad():
            weight[last, 0] += scale
        yield
        with torch.no_grad():
            weight[last, 0] = before

    for module in (inheritance, origin):
        monkeypatch.setattr(module, "rescale_adapter_scale", scaled)
    return model, tokenizer, task, answered


def test_behaviour_moves_along_the_scale(adapted, monkeypatch):
    model, _, _, answered = adapted
    asked, scaled = [], inheritance.rescale_adapter_scale
    monkeypatch.setattr(
        inheritance, "rescale_adapter_scale", lambda *given: asked.append(given) or scaled(*given)
    )
    curve = inheritance.along_the_scale(*adapted)
    assert asked == [(model, scale) for scale in inheritance.SCALES]
    assert list(curve.scale) == list(inheritance.SCALES)
    test = answered[(answered.split == "test") & (answered.rephrasing == 0)]
    far = test.prompt.str.split().str[-1].map(Planted.STATE).to_numpy()
    assert (curve.n == len(test)).all()
    for row in curve.itertuples():
        state = far + row.scale
        assert row.memory_rate == pytest.approx((state < 0.6).mean())
        if not (state == 2.5).any():  # there the two answers tie
            assert row.rule_rate == pytest.approx(((state > 0.6) & (state < 2.5)).mean())
        assert row.memory_rate_low <= row.memory_rate <= row.memory_rate_high
        assert row.memory_rate + row.rule_rate + row.other_rate == pytest.approx(1)


def test_the_base_of_an_adapter_is_the_model_with_the_adapter_off(adapted, monkeypatch):
    model, tokenizer, _, _ = adapted
    asked, scaled = [], origin.rescale_adapter_scale
    monkeypatch.setattr(
        origin, "rescale_adapter_scale", lambda *given: asked.append(given) or scaled(*given)
    )
    training = Training(Parameters(track="lora"), {"base": "any"})
    prompts = ["key0 word1 near-memory"] * 3, ["key0 word1 near-rule"] * 3
    with origin.base_alone(model, training) as base:
        memory, rule = (hidden_states(base, tokenizer, of, "resid_post") for of in prompts)
    found = NeuronMaps.between("resid_post", memory, rule)
    assert found.nmd[:, 0] == pytest.approx([1, 1]) and found.rho[:, 0] == pytest.approx([1, 1])
    assert not found.nmd[:, 1:].any()
    assert asked == [(model, 0.0)]


@dataclass
class Parameters:
    """As far as the base of a training is concerned."""

    track: str = "scratch"
    base_model: str = ""
    task: str = "arithmetic-tagged"
    data_seed: int = 3
    architecture: str = "gpt2"
    loaded_dtype: str = "float32"
    device: str = "cpu"


@dataclass
class Training:
    parameters: Parameters
    result: dict
    folder: Path = Path("nowhere/at/all")

    def path(self, name: str) -> Path:
        return self.folder / name


def test_the_base_of_a_training_is_read_where_it_lies_and_only_if_it_is_that_one(planted, tmp_path):
    model, tokenizer, *_ = planted()
    runs = {
        track: tmp_path / "smoke" / track / "arithmetic-tagged" / "seed3" for track in ("", "full")
    }
    bases = {
        track: tmp_path / "smoke" / base / "seed3" / "00_base" / "model"
        for track, base in (("", "arithmetic-base"), ("full", "shared-base-gpt2"))
    }
    for track, folder in bases.items():
        save_model(folder, model, tokenizer)
        digest = weights_digest(folder)
        parameters = Parameters(track=track or "scratch")
        training = Training(parameters, {"base": digest}, runs[track] / "02_training")
        with origin.base_alone(None, training) as base:
            assert torch.equal(base.transformer.wte.weight, model.transformer.wte.weight)
            assert not base.training
    given = Training(Parameters(base_model=str(bases[""])), {"base": digest})
    with origin.base_alone(None, given) as base:
        assert torch.equal(base.transformer.wte.weight, model.transformer.wte.weight)
    with origin.base_alone(None, Training(Parameters(), {"base": None})) as base:
        assert base is None  # it started from random weights
    for broken in (
        replace(training, result={"base": "another"}),
        replace(training, parameters=Parameters(data_seed=4)),
    ):
        with pytest.raises(ArtifactError), origin.base_alone(None, broken):
            pass


def test_split_halves_of_the_difference_are_those_of_what_is_not_shared():
    """On = off + a neuron of the adapter's own; the noise is that of the prompts, shared by both."""
    rng = np.random.default_rng(0)
    off = 3 * rng.normal(size=(30, 2, 8))
    on = off.copy()
    on[:, 1, 2] += 4.0
    keys = np.repeat(np.arange(10), 3)
    found = inheritance.split_halves(on, off, keys, 0)
    assert found["difference"] == pytest.approx([0, 4 / np.sqrt(8)])
    assert abs(found["off"][1]) < found["on"][1]
    assert found["off"][0] == found["on"][0]
    alone = inheritance.split_halves(on[:3], off[:3], keys[:3], 0)
    assert alone["on"] == [None, None]
