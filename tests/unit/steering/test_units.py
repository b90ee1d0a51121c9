"""Shifts of the hidden units: where they are added, and random ones beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memgen.models.build import build_model
from memgen.models.components import edited, read
from memgen.models.tokenizer import build_tokenizer
from memgen.steering.units import adding, random_units, written_by

P, T, LAYERS = 4, 5, 2


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_units_are_raised_by_each_rows_own_shift(architecture):
    """In double precision, too, where the model computes in single."""
    sizes = {"n_layer": LAYERS, "n_embd": 16, "n_head": 2, "n_positions": 16}
    tokenizer = build_tokenizer([f"w{i} " for i in range(12)])
    model = build_model(
        tokenizer, **sizes, initializer_range=0.3, seed=2, architecture=architecture
    ).eval()
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(2, 12, (P, T)))
    mask = torch.ones_like(ids)
    plain = read(model, ids, mask, "units").numpy()
    deltas = np.zeros((P, LAYERS, plain.shape[-1]))
    deltas[:, 1] = rng.normal(size=(P, plain.shape[-1]))
    edits = adding(model, deltas)
    assert list(edits) == [("units", 1)]  # a layer without a shift is left alone
    with edited(model, edits):
        found = read(model, ids, mask, "units").numpy()
    expected = plain.copy()
    expected[:, 1] += deltas[:, 1, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_random_units_lie_outside_the_shift_while_there_are_enough_of_them():
    """Layer 1: five of ten units, so the other five. Layer 2: six of ten, so some are its own."""
    rng = np.random.default_rng(0)
    maps, delta = rng.normal(size=(2, 10, 8)), np.zeros((2, 10))
    delta[0, [0, 2, 4, 6, 8]] = rng.normal(size=5)
    delta[1, :6] = rng.normal(size=6)
    for _ in range(5):
        drawn = random_units(delta, maps, rng, cumulative=False)
        assert np.flatnonzero(drawn[0]).tolist() == [1, 3, 5, 7, 9]
        assert np.count_nonzero(drawn[1]) == 6
        for ours, theirs in zip(delta, drawn):  # the values are dealt, but for the layer's scale
            sizes = [np.sort(np.abs(one[one != 0])) for one in (ours, theirs)]
            np.testing.assert_allclose(sizes[1] / sizes[1][0], sizes[0] / sizes[0][0])


@pytest.mark.parametrize("cumulative", [False, True])
def test_a_small_shift_is_matched_as_a_large_one_is(cumulative):
    rng = np.random.default_rng(1)
    maps, delta = rng.normal(size=(3, 20, 8)), np.zeros((3, 20))
    delta[:, :3] = 1e-3 * rng.normal(size=(3, 3))
    drawn = random_units(delta, maps, rng, cumulative)
    ours, theirs = written_by(delta, maps), written_by(drawn, maps)
    if cumulative:
        ours, theirs = ours.sum(0), theirs.sum(0)
    np.testing.assert_allclose(np.linalg.norm(theirs, axis=-1), np.linalg.norm(ours, axis=-1))


@pytest.mark.parametrize("cumulative", [False, True])
def test_units_that_write_nothing_are_not_raised(cumulative):
    """The units outside the shift are dead, so that no scale gives them the shift's norm."""
    rng = np.random.default_rng(2)
    maps, delta = rng.normal(size=(2, 8, 6)), np.zeros((2, 8))
    delta[:, :2], maps[:, 2:] = [[3.0, 4.0]], 0.0
    assert not random_units(delta, maps, rng, cumulative).any()
