"""Groups of neurons: only the one with the neuron that matters steers; planted synergy is recovered."""

from __future__ import annotations

import json

import numpy as np
import pytest

from memgen.neurons.clusters import top_neurons
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.groups import (
    N_RANDOM,
    group_shift,
    groups_to_steer,
    pairwise,
    steer_groups,
    synergy,
)
from memgen.terms import DIRECTIONS
from steered import IDLE, ONE, RELEVANT, N, case_of


def test_a_group_keeps_signs_and_proportions_at_the_given_norm():
    nmd, rho = np.array([[3.0, -4.0], [1.0, 2.0]]), np.array([[0.5, -0.2], [0.1, -0.9]])
    found = group_shift(np.array([[0, 0], [0, 1]]), nmd, rho, 10.0)
    np.testing.assert_allclose(found, [[6.0, -8.0], [0.0, 0.0]])
    assert not group_shift(np.empty((0, 2), dtype=int), nmd, rho, 10.0).any()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_only_the_group_with_the_neuron_that_matters_steers(alike, direction):
    steering, neurons, labels = alike[0], np.array([RELEVANT, *IDLE]), np.array([0, 0, 1, 1, 2])
    groups = groups_to_steer(neurons, labels, np.random.default_rng(0))
    result, table = steer_groups(steering, case_of(alike, direction, alpha=1.5), neurons, groups, 0)
    assert [c["size"] for c in result["clusters"]] == [2, 2, 1]
    assert [c["success"] for c in result["clusters"]] == [1.0, 0.0, 0.0]
    assert [s["success"] for s in result["single"]] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert (
        result["chosen"]["success"] == result["cluster_largest"] == 1.0
        and result["chosen"]["n"] == result["n"] == N
    )
    assert result["clusters"][0]["neurons"] == [list(RELEVANT), list(IDLE[0])] and result[
        "single_mean"
    ] == pytest.approx(0.2)
    assert all(c["random"]["n"] == N_RANDOM * N for c in result["clusters"])
    assert result["difference"]["value"] == pytest.approx(
        result["cluster_mean"] - result["random_mean"]
    )
    assert (
        set(table.kind) == {"chosen", "together", "cluster", "random", "single"}
        and table.groupby("kind").size()["random"] == 3
    )


def test_all_groups_have_the_chosen_norm_and_random_ones_the_clusters_sizes(alike, monkeypatch):
    steering, seen = alike[0], []
    real = steering.outcomes
    monkeypatch.setattr(
        steering, "outcomes", lambda shifts, rows: (seen.append(shifts), real(shifts, rows))[1]
    )
    neurons = top_neurons(steering.nmd, steering.rho, 9)
    groups = groups_to_steer(
        neurons, np.array([0, 0, 0, 0, 1, 1, 1, 2, 2]), np.random.default_rng(0)
    )
    steer_groups(steering, case_of(alike, "m2g"), neurons, groups, 0)
    norm = np.linalg.norm(cell_shift(Cell(ONE, 1.0), steering.nmd, steering.rho))
    np.testing.assert_allclose(np.linalg.norm(seen[0], axis=(1, 2)), norm)
    random = groups[groups.kind == "random"]
    assert random.members.map(len).tolist() == np.repeat([4, 3, 2], N_RANDOM).tolist()
    assert random.members.map(lambda m: len(set(m)) == len(m)).all()


def test_planted_synergy_is_recovered_and_additive_effects_have_none():
    rng, n, pairs = np.random.default_rng(0), 40, [(0, 1), (0, 2), (1, 2)]
    keys, alone = np.repeat(np.arange(8), 5), rng.normal(1, 0.1, size=(3, n))
    additive = np.stack([alone.sum(0), *alone, *(alone[i] + alone[j] for i, j in pairs)])
    null = synergy(additive, pairs, keys, seed=0)
    assert null["mean"]["value"] == pytest.approx(0, abs=1e-12) and null["together"][
        "value"
    ] == pytest.approx(0, abs=1e-12)
    planted = additive.copy()
    planted[4] += 3.0  # neurons 0 and 1 need each other
    found = synergy(planted, pairs, keys, seed=0)
    assert found["matrix"][0][1] == found["matrix"][1][0] == pytest.approx(3.0)
    assert found["matrix"][0][2] == pytest.approx(0, abs=1e-12) and found["matrix"][0][0] is None
    assert found["mean"]["value"] == pytest.approx(1.0) and found["mean"]["n_keys"] == 8
    low, high = found["mean"]["interval"]
    assert low <= 1.0 <= high
    nothing = synergy(planted[:, :0], pairs, keys[:0], seed=0)
    assert (
        nothing["mean"]["value"] is None
        and nothing["single"] == [None] * 3
        and nothing["matrix"][0][1] is None
    )
    json.dumps([found, nothing], allow_nan=False)


def test_effects_are_towards_the_target_in_both_directions(alike):
    neurons = np.array([RELEVANT, *IDLE[:2]])
    for direction in DIRECTIONS:
        found = pairwise(alike[0], case_of(alike, direction), neurons, 0)
        assert found["single"][0] > 0.1 and found["all"] > 0.1
        assert max(abs(x) for x in found["single"][1:]) < found["single"][0]
        assert found["mean"]["n"] == N and len(found["matrix"]) == 3
    assert pairwise(alike[0], case_of(alike, "m2g"), neurons[:0], 0)["matrix"] == []
