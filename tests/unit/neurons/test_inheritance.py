"""What the base has of an adapter's maps, and behaviour along the adapter's scale, where both are known."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from memgen.neurons import inheritance, selection
from memgen.neurons.nmd import NeuronMaps
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

    monkeypatch.setattr(inheritance, "rescale_adapter_scale", scaled)
    return model, tokenizer, task, answered


def test_behaviour_moves_along_the_scale(adapted):
    _, _, _, answered = adapted
    curve = inheritance.along_the_scale(*adapted)
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


def test_maps_of_the_base_are_those_of_scale_zero(adapted, monkeypatch):
    model, tokenizer, _, _ = adapted
    asked, scaled = [], inheritance.rescale_adapter_scale
    monkeypatch.setattr(
        inheritance, "rescale_adapter_scale", lambda *given: asked.append(given) or scaled(*given)
    )
    memory, rule = ["key0 word1 near-memory"] * 3, ["key0 word1 near-rule"] * 3
    found = inheritance.base_maps(model, tokenizer, [memory, rule], "resid_post")
    assert found.nmd[:, 0] == pytest.approx([1, 1]) and found.rho[:, 0] == pytest.approx([1, 1])
    assert found.site == "resid_post" and not found.nmd[:, 1:].any()
    assert asked == [(model, 0.0)]
