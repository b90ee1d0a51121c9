"""Clusters of neurons, planted in states and recovered."""

from __future__ import annotations

import numpy as np

from memgen.neurons.clusters import by_cluster, cluster, coactivation, top_neurons


def test_top_neurons_come_best_first_and_never_hold_one_that_does_not_differ():
    rho = np.array([[0.1, -0.9, 0.5], [0.0, 0.95, 0.3]])
    nmd = np.array([[1.0, -1.0, 1.0], [1.0, 0.0, 1.0]])
    assert top_neurons(nmd, rho, 3).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert top_neurons(nmd, rho, 99).tolist() == [[0, 1], [0, 2], [1, 2], [0, 0]]
    assert top_neurons(nmd, 0 * rho, 3).shape == (0, 2)


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


def test_correlations_within_clusters_and_between_them():
    correlations = np.array([[1.0, -0.8, 0.1], [-0.8, 1.0, -0.3], [0.1, -0.3, 1.0]])
    found = by_cluster(correlations, np.array([0, 0, 1]))
    assert np.isclose(found["within"], 0.8) and np.isclose(found["between"], 0.2)
    alone = by_cluster(correlations, np.array([0, 1, 2]))
    assert alone["within"] is None and np.isclose(alone["between"], 0.4)
    together = by_cluster(correlations, np.array([0, 0, 0]))
    assert together["between"] is None and np.isclose(together["within"], 0.4)
    assert by_cluster(np.ones((1, 1)), np.array([0])) == {"within": None, "between": None}
