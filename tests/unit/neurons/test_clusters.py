"""Clusters of neurons, planted in states and recovered."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.clusters import by_cluster, cluster, coactivation, top_neurons


def test_top_neurons_come_best_first_and_never_hold_one_that_does_not_differ():
    rho = np.array([[0.1, -0.9, 0.5], [0.0, 0.95, 0.3]])
    nmd = np.array([[1.0, -1.0, 1.0], [1.0, 0.0, 1.0]])
    assert top_neurons(nmd, rho, 3).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert top_neurons(nmd, rho, 99).tolist() == [[0, 1], [0, 2], [1, 2], [0, 0]]
    assert top_neurons(nmd, 0 * rho, 3).shape == (0, 2)
    even = np.where(np.arange(600) % 3, 0.5, -0.25).reshape(2, 300)  # many ties: memory order
    expected = [n for n in range(600) if n % 3] + [n for n in range(600) if not n % 3]
    found = top_neurons(np.ones((2, 300)), even, 600)
    assert (300 * found[:, 0] + found[:, 1]).tolist() == expected


def test_coactivation_is_within_a_behaviour():
    """Two neurons that only tell the behaviours apart do not act together; two that move with the
    prompt do, also with opposite signs.
    """
    rng = np.random.default_rng(0)
    memory, rule = (rng.normal(size=(400, 1, 5)) for _ in range(2))
    for part in (memory, rule):
        part[:, 0, 3] = -part[:, 0, 2] + 0.05 * rng.normal(size=400)
        part[:, 0, 4] = 7.0
    rule[:, 0, :2] += 20
    found = coactivation(memory, rule, np.array([[0, i] for i in range(5)]))
    assert abs(found[0, 1]) < 0.1 and found[2, 3] < -0.95
    assert np.allclose(np.diag(found), 1) and np.allclose(found, found.T)
    assert found[4, :4].tolist() == [0, 0, 0, 0]  # constant


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_coactivation_is_the_correlation_whatever_the_neurons_scale(scale):
    rng = np.random.default_rng(1)
    memory, rule = (rng.normal(size=(50, 2, 3)) * scale for _ in range(2))
    neurons = np.array([[0, 1], [1, 0], [1, 2]])
    centred = [part - part.mean(0) for part in (memory, rule)]
    expected = np.corrcoef(np.concatenate(centred)[:, neurons[:, 0], neurons[:, 1]].T)
    np.testing.assert_allclose(coactivation(memory, rule, neurons), expected, atol=1e-12)


def test_neurons_far_from_zero_keep_their_correlation():
    """Float32 states: their sum over prompts has too few digits for a mean."""
    rng = np.random.default_rng(2)
    memory, rule = (
        (10_000 + 0.05 * rng.normal(size=(5000, 1, 2))).astype(np.float32) for _ in range(2)
    )
    found = coactivation(memory, rule, np.array([[0, 0], [0, 1]]))
    centred = [part.astype(float) - part.astype(float).mean(0) for part in (memory, rule)]
    assert found[0, 1] == pytest.approx(np.corrcoef(np.concatenate(centred)[:, 0].T)[0, 1])


def test_a_constant_neuron_gets_0_whatever_its_memory_held_before():
    rng = np.random.default_rng(3)
    for n in range(1, 40):
        memory, rule = rng.normal(size=(2, n + 1, 1, 8)) + 5
        memory[:, 0, 2:], rule[:, 0, 2:] = 7.0, 9.0
        neurons = np.array([[0, i] for i in range(8)])
        used = [np.full((2 * n + 2, 8), 3.0) for _ in range(20)]
        del used
        assert not coactivation(memory, rule, neurons)[2:, :2].any()


def test_no_correlation_is_beyond_1():
    rng = np.random.default_rng(4)
    states = rng.normal(size=(60, 1, 1)) * np.where(np.arange(40) % 2, -1, 1) * rng.random(40)
    found = coactivation(states, states[::-1], np.array([[0, i] for i in range(40)]))
    assert found.max() == 1 and found.min() == -1
    np.testing.assert_allclose(np.abs(found), 1)


def test_planted_clusters_are_recovered():
    truth = np.array([0, 1, 0, 2, 1, 2, 0])
    correlations = (
        np.where(truth[:, None] == truth, 0.9, 0.05)
        * np.where(np.arange(7) % 2, -1, 1)[:, None]
        * np.where(np.arange(7) % 2, -1, 1)
    )
    assert (
        cluster(correlations, 3).tolist() == truth.tolist()
    )  # in the order in which they come, whatever the sign
    assert len(set(cluster(correlations, 2))) == 2 and len(set(cluster(correlations, 50))) <= 7
    assert (
        cluster(np.ones((1, 1)), 3).tolist() == [0] and cluster(np.ones((0, 0)), 3).tolist() == []
    )
    assert cluster(np.ones((1, 1)), 3).dtype.kind == "i"
    pair = np.array([[1.0, 0.1], [0.1, 1.0]])
    assert cluster(pair, 2).tolist() == [0, 1] and cluster(pair, 1).tolist() == [0, 0]
    rounded = correlations + np.triu(np.full((7, 7), 1e-15), 1)  # one half off by a last digit
    assert cluster(rounded, 3).tolist() == truth.tolist()


def test_correlations_within_clusters_and_between_them():
    correlations = np.array([[1.0, -0.8, 0.1], [-0.8, 1.0, -0.3], [0.1, -0.3, 1.0]])
    found = by_cluster(correlations, np.array([0, 0, 1]))
    assert np.isclose(found["within"], 0.8) and np.isclose(found["between"], 0.2)
    alone = by_cluster(correlations, np.array([0, 1, 2]))
    assert alone["within"] is None and np.isclose(alone["between"], 0.4)
    together = by_cluster(correlations, np.array([0, 0, 0]))
    assert together["between"] is None and np.isclose(together["within"], 0.4)
    assert by_cluster(np.ones((1, 1)), np.array([0])) == {"within": None, "between": None}
