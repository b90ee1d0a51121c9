"""Groups of neurons: only the one with the neuron that matters steers; planted synergy is recovered."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from scipy.stats import binomtest

from memgen.neurons.clusters import top_neurons
from memgen.neurons.nmd import NeuronMaps
from memgen.steering import groups as module
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


def test_groups_are_listed_in_order_under_names_that_tell_them_apart():
    neurons = np.array([RELEVANT, *IDLE])
    groups = groups_to_steer(neurons, np.array([0, 1, 1, 0, 1]), np.random.default_rng(0))
    draws = N_RANDOM * ["random"]
    singles = ["layer 2, no. 0", "layer 2, no. 4", "layer 2, no. 5", "layer 2, no. 6"]
    assert groups.kind.tolist() == [
        *("chosen", "together"),
        *("cluster", *draws, "cluster", *draws),
        *(len(neurons) * ["single"]),
    ]
    assert groups.name.tolist() == [
        *("chosen shift", "all 5 together"),
        *((1 + N_RANDOM) * ["cluster 1 (2)"] + (1 + N_RANDOM) * ["cluster 2 (3)"]),
        *(*singles, "layer 1, no. 7"),
    ]
    own = groups[groups.kind != "random"].members.tolist()
    assert own[0] is None
    assert [one.tolist() for one in own[1:]] == [
        [0, 1, 2, 3, 4],
        *([0, 3], [1, 2, 4]),
        *([0], [1], [2], [3], [4]),
    ]


def test_one_cluster_is_one_group_and_no_neurons_are_none():
    one = groups_to_steer(np.array(IDLE), np.zeros(4, dtype=int), np.random.default_rng(0))
    assert one.kind.tolist().count("cluster") == 1
    none = groups_to_steer(np.empty((0, 2), int), np.array([], int), np.random.default_rng(0))
    assert none.kind.tolist() == ["chosen", "together"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_chosen_shift_itself_is_run_and_each_group_on_its_neurons_alone(
    alike, direction, monkeypatch
):
    steering, case, seen = alike[0], case_of(alike, direction), []
    monkeypatch.setattr(
        steering,
        "outcomes",
        lambda shifts, rows: (seen.append(shifts), np.zeros((len(shifts), len(rows)), int))[1],
    )
    neurons = np.array([RELEVANT, *IDLE])
    groups = groups_to_steer(neurons, np.array([0, 0, 1, 1, 1]), np.random.default_rng(0))
    result, _ = steer_groups(steering, case, neurons, groups, 0)
    np.testing.assert_array_equal(seen[0][0], case.sign * steering.shift(case.cell))
    for shift, members in zip(seen[0][1:], groups.members[1:]):
        assert {tuple(one) for one in np.argwhere(shift).tolist()} == {
            tuple(one) for one in neurons[members].tolist()
        }
    assert result["chosen"]["neurons"] == []  # it is no group of these
    assert result["together"]["neurons"] == neurons.tolist()


def planted_codes(alike, monkeypatch, codes_of):
    """`(steering, case, neurons, groups)` whose outcomes are `codes_of(kinds [groups], keys [P])`."""
    steering, case, neurons = alike[0], case_of(alike, "m2g"), np.array([RELEVANT, *IDLE])
    groups = groups_to_steer(neurons, np.array([0, 0, 1, 1, 1]), np.random.default_rng(0))
    codes = codes_of(groups.kind.to_numpy()[:, None], case.keys[None])
    codes = np.broadcast_to(codes, (len(groups), N)).astype(int)
    monkeypatch.setattr(steering, "outcomes", lambda shifts, rows: codes)
    return steering, case, neurons, groups


def test_the_table_shows_each_groups_rate_with_wilsons_interval(alike, monkeypatch):
    made = planted_codes(alike, monkeypatch, lambda kind, keys: kind != "single")
    result, table = steer_groups(*made, 0)
    assert table.columns.tolist() == [
        *("direction", "kind", "name", "low", "high", "success", "other", "n")
    ]
    assert set(table.direction) == {"m2g"}
    assert table.name.tolist() == made[3].drop_duplicates(["kind", "name"]).name.tolist()
    for row in table.itertuples():
        n = N * (N_RANDOM if row.kind == "random" else 1)
        wins = 0 if row.kind == "single" else n
        expected = binomtest(wins, n).proportion_ci(method="wilson")
        assert row.n == n and row.success == (row.kind != "single")
        assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert result["together"]["success"] == 1.0


def test_a_cluster_is_compared_with_random_groups_prompt_by_prompt(alike, monkeypatch):
    """Both succeed on the prompts of the same keys: no prompt differs, and no draw of keys does."""
    made = planted_codes(alike, monkeypatch, lambda kind, keys: keys > min(keys[0]))
    assert 0 < (made[1].keys == made[1].keys.min()).mean() < 1
    found = steer_groups(*made, 0)[0]["difference"]
    assert found["value"] == pytest.approx(0) and found["interval"] == pytest.approx([0, 0])


def test_the_same_seed_gives_the_same_intervals(alike, monkeypatch):
    made = planted_codes(
        alike, monkeypatch, lambda kind, keys: (keys > min(keys[0])) & (kind == "cluster")
    )
    first, again = (steer_groups(*made, 3)[0]["difference"] for _ in range(2))
    assert first == again and first["interval"][0] < first["value"] < first["interval"][1]
    rng, pairs, keys = np.random.default_rng(0), [(0, 1), (0, 2), (1, 2)], np.arange(30)
    effects = rng.normal(size=(7, 30))
    first, again = (synergy(effects, pairs, keys, seed=3) for _ in range(2))
    assert first == again and first["together"]["interval"][0] < first["together"]["value"]


def test_a_study_without_neurons_has_no_clusters_and_no_largest(alike):
    neurons, labels = np.empty((0, 2), dtype=int), np.array([], dtype=int)
    groups = groups_to_steer(neurons, labels, np.random.default_rng(0))
    result, table = steer_groups(alike[0], case_of(alike, "m2g"), neurons, groups, 0)
    assert table.kind.tolist() == ["chosen", "together"]
    assert result["clusters"] == result["single"] == [] and result["together"]["success"] == 0
    for kind in ("cluster", "random", "single"):
        assert result[f"{kind}_mean"] is result[f"{kind}_largest"] is None
    assert result["difference"] == {"value": None, "interval": None, "n": 0, "n_keys": 0}
    json.dumps(result, allow_nan=False)


def test_synergy_is_what_is_left_of_the_sum_by_hand():
    effects = np.array([[9.0, 11.0], [1.0, 3.0], [2.0, 2.0], [4.0, 8.0]])
    found = synergy(effects, [(0, 1)], np.array(["a", "b"]), seed=0)
    assert found["matrix"] == [[None, 2.0], [2.0, None]] and found["mean"]["value"] == 2.0
    assert found["single"] == [2.0, 2.0] and found["single_mean"] == 2.0
    assert found["all"] == 10.0 and found["together"]["value"] == 6.0
    one = synergy(effects[:, :1], [(0, 1)], np.array(["a"]), seed=0)
    assert one["matrix"][0][1] == 1.0 and one["single"] == [1.0, 2.0] and one["all"] == 9.0


def test_synergy_of_nothing_is_undefined_and_warns_of_nothing():
    nothing = {"value": None, "interval": None, "n": 0, "n_keys": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        no_prompts = synergy(np.zeros((4, 0)), [(0, 1)], np.array([]), seed=0)
        alone = synergy(np.ones((2, 6)), [], np.arange(6), seed=0)
        no_neurons = synergy(np.ones((1, 6)), [], np.arange(6), seed=0)
    assert no_prompts["mean"] == no_prompts["together"] == nothing
    assert no_prompts["single_mean"] is no_prompts["all"] is no_neurons["single_mean"] is None
    assert alone["mean"] == no_neurons["mean"] == nothing and alone["single_mean"] == 1.0
    assert alone["all"] == no_neurons["all"] == 1.0


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_pairs_are_shifted_by_the_sum_of_two_neurons_at_an_equal_part_of_the_norm(
    alike, direction, monkeypatch
):
    case, neurons, seen = case_of(alike, direction), np.array([RELEVANT, *IDLE[:2]]), []
    rho = alike[0].rho.copy()
    rho[0, 3] = 0.0  # a neuron that nothing goes with
    steering = alike[0].at(NeuronMaps("resid_post", alike[0].nmd, rho))
    effects = np.random.default_rng(0).normal(size=(1 + 1 + 3 + 3, case.distinct.sum()))
    monkeypatch.setattr(
        module, "margins", lambda steering, shifts, prompts: (seen.append(shifts), effects)[1]
    )
    seeds, whole = [], module.synergy
    monkeypatch.setattr(
        module, "synergy", lambda *given: (seeds.append(given[3]), whole(*given))[1]
    )
    found, again = (pairwise(steering, case, neurons, 3) for _ in range(2))
    assert seeds == [3, 3]  # of the intervals
    shifts = case.sign * seen[0]
    part = np.linalg.norm(steering.shift(case.cell)) / np.sqrt(3)
    single = np.zeros((3, 2, 8))
    for one, (layer, index) in zip(single, neurons):
        one[layer, index] = part * np.sign(rho[layer, index])
    both = [single[0] + single[1], single[0] + single[2], single[1] + single[2]]
    np.testing.assert_allclose(shifts, [0 * rho, single.sum(0), *single, *both], atol=1e-12)
    assert found["neurons"] == neurons.tolist() and found == again
    own = case.sign * (effects[1:] - effects[0])
    expected = (own[4:] - own[[1, 1, 2]] - own[[2, 3, 3]]).mean(1)
    assert [found["matrix"][i][j] for i, j in ((0, 1), (0, 2), (1, 2))] == pytest.approx(
        expected.tolist()
    )
