"""The reviewers' open points, on arrays with a planted truth and on a model of which it is known
what every shift does.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from computing import planted_lab, run_cell
from memgen.errors import StudyError
from memgen.figures import open_points as figures
from memgen.labs.hybrid import COMBINATIONS, hybrid
from memgen.labs.open_points import (
    accuracy_table,
    along_alpha,
    answers,
    asymmetry,
    checks,
    commitment,
    directions_table,
    performance,
)
from memgen.models.build import build_model
from memgen.models.generate import first_token_log_probabilities
from memgen.models.hooks import position_ids, shift
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.clusters import cluster, coactivation, top_neurons
from memgen.neurons.nmd import NeuronMaps
from memgen.stats.reported import by_key, rate
from memgen.steering.answers import beginnings, behaviors_of, written
from memgen.steering.case import open_case
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.groups import (
    N_RANDOM,
    group_shift,
    groups_to_steer,
    pairwise,
    steer_groups,
    synergy,
)
from memgen.steering.margins import margins
from memgen.steering.prompts import make_prompts
from memgen.steering.steering import Steering
from memgen.store.artifacts import Result
from memgen.terms import CODE, DIRECTIONS, SIGN
from planted import PlantedAlike

ONE = 1 / 16  # share that is one neuron of 2 layers x 8
N = 20  # test prompts a direction
CHOSEN = {"top_n": ONE, "alpha": 1.0}
RELEVANT, IDLE = (
    (1, 0),
    [
        (1, 4),
        (1, 5),
        (1, 6),
        (0, 7),
    ],
)  # coordinate 0 decides; these four change no logit


SMALL = {
    "n_prompts": N,
    "n_top": 6,
    "n_clusters": 3,
    "n_pairwise": 3,
    "alphas": [1.0, 4.0],
    "instruction_steps": 0,
    "n_hybrid": 12,
}


def intervened() -> dict:
    one = {
        **CHOSEN,
        "success": 1.0,
        "interval": [0.9, 1.0],
        "other": 0.0,
        "n": 30,
        "free_accuracy_after": 0.5,
        "keyed_accuracy_after": 0.25,
        "rephrase_floor": 0.5,
        "rephrase_n": 8,
    }
    return {"site": "resid_post", "positions": "all", "m2g": dict(one), "g2m": dict(one)}


@pytest.fixture
def alike(planted, planted_direction):
    """`(steering, data set, answered)` of the planted model; one neuron, shifted by 1, turns every
    answer.
    """
    model, tokenizer, task, frame, answered = planted(PlantedAlike)
    maps = NeuronMaps.of(planted_direction, "resid_post")
    return Steering(model, tokenizer, task, maps), frame, answered


def case_of(alike, direction, **changes):
    return open_case(alike[0], alike[2], direction, CHOSEN | changes, N)


# -- clusters --------------------------------------------------------------------------------------
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


# -- margins and synergy ---------------------------------------------------------------------------
def test_margin_is_what_the_unsteered_model_says_and_a_zero_shift_changes_nothing(alike):
    steering, case = alike[0], case_of(alike, "m2g")
    log = first_token_log_probabilities(
        steering.model, case.prompts.input_ids, case.prompts.attention_mask
    )
    memory, rule = (steering.tokenizer.convert_tokens_to_ids(token) for token in "MR")
    one = SIGN["m2g"] * cell_shift(case.cell, steering.nmd, steering.rho)
    found = margins(steering, np.stack([0 * one, one]), case.prompts)
    np.testing.assert_allclose(found[0], (log[:, rule] - log[:, memory]).numpy(), atol=1e-6)
    assert (found[0] < 0).all() and (found[1] > 0).all()
    assert margins(steering, np.zeros((3, 2, 8)), None).shape == (3, 0)


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


# -- tokens ----------------------------------------------------------------------------------------
END = 99
STEERED = {
    "throughout": (True, True),
    "until_first_token": (True, False),
    "after_first_token": (False, True),
}  # the first token, the later ones
MATCHED = np.array([[[3, 9, 1, END], [8, 0, 2, END]]])
TAGGED = np.array([[[50, 3, 9, 1, END], [8, 0, 2, END, -1]]])


@pytest.mark.parametrize(
    "candidates, answer, kind",
    [
        (MATCHED, [3, 0, 1], 2),
        (MATCHED, [8, 9, 5], 2),
        (MATCHED, [3, 5, 1], 1),
        (MATCHED, [5, 0, 2], 0),
        (MATCHED, [3, 2, 5], 1),  # 2 stands at another place
        (TAGGED, [50, 8, 0, 2], 2),
        (TAGGED, [50, 5, 0, 7], 2),
        (TAGGED, [50, 3, 8, 7], 1),
        (TAGGED, [8, 9, 5], 2),
        (TAGGED, [8, 3, 5], 1),
        (TAGGED, [7, 3, 9], 0),
    ],
)
def test_mixed_answers_are_told_from_broken_ones(candidates, answer, kind):
    tokens = np.full((1, 5), -1)
    tokens[0, : len(answer) + 1] = [*answer, END]
    assert beginnings(tokens, candidates).tolist() == [kind]
    assert behaviors_of(tokens, candidates).tolist() == [CODE["other"]]


def test_behaviours_are_read_from_tokens_with_the_end_mark():
    tokens = np.array(
        [[[3, 9, 1, END, -1]], [[8, 0, 2, END, -1]], [[8, 0, 2, 2, END]], [[8, 0, 2, 7, 7]]]
    )
    assert behaviors_of(tokens, MATCHED)[:, 0].tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    "phase, positions", [*((phase, "all") for phase in STEERED), ("until_first_token", "decision")]
)
def test_written_answers_are_those_of_a_plain_loop_without_cache(phase, positions):
    """One step at a time, the whole text read anew, steered in the steps that the phase names."""
    tokenizer = build_tokenizer([f"w{i} " for i in range(12)])
    model = build_model(
        tokenizer, n_layer=2, n_embd=16, n_head=2, n_positions=16, initializer_range=0.6, seed=1
    ).eval()
    steering = Steering(
        model,
        tokenizer,
        SimpleNamespace(max_answer_tokens=4),
        NeuronMaps("resid_post", np.zeros((2, 16)), np.zeros((2, 16))),
        positions,
    )
    rng = np.random.default_rng(0)
    texts = [
        "".join(f"w{i} " for i in rng.integers(0, 12, size=length)) for length in (3, 5, 4, 2, 5, 3)
    ]
    prompts = make_prompts(tokenizer, texts, ["w1 "] * 6, ["w2 "] * 6)
    deltas = rng.normal(0, 1.5, size=(3, 2, 16)).astype(np.float32)
    found, (first, later) = written(steering, deltas, prompts, phase), STEERED[phase]
    for c, delta in enumerate(torch.from_numpy(deltas)):
        ids, mask = prompts.input_ids, prompts.attention_mask
        for step in range(4):
            with (
                torch.inference_mode(),
                shift(
                    model,
                    "resid_post",
                    delta if (later if step else first) else 0 * delta,
                    positions,
                ),
            ):
                chosen = (
                    model(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask))
                    .logits[:, -1]
                    .argmax(-1)
                )
            ids, mask = (
                torch.cat([ids, chosen[:, None]], 1),
                torch.nn.functional.pad(mask, (0, 1), value=1),
            )
        expected = ids[:, prompts.input_ids.shape[1] :].numpy()
        ended = (
            np.cumsum(expected == tokenizer.eos_token_id, 1) - (expected == tokenizer.eos_token_id)
            > 0
        )
        assert found[c].tolist() == np.where(ended, -1, expected).tolist()
    assert len({str(one.tolist()) for one in found}) > 1  # the shifts do something


# -- is the flip binary ----------------------------------------------------------------------------
@pytest.mark.parametrize("direction, at_4", [("m2g", "other"), ("g2m", "memorization")])
def test_margins_and_behaviours_follow_the_strength(alike, direction, at_4):
    case = case_of(alike, direction)
    result, table = along_alpha(alike[0], case, [1.0, 4.0])
    start, target = (
        ("memorization", "generalization")
        if direction == "m2g"
        else ("generalization", "memorization")
    )
    assert result["alphas"] == [0.0, 1.0, 4.0] and result["n"] == result["n_all"] == N
    assert result["behaviors"][start][0] == 1.0  # alpha 0 is the identity
    assert result["behaviors"][target][1] == 1.0 and result["behaviors"][at_4][2] == 1.0
    assert (
        result["sign_changes"]["once"]["share"] == 1.0
        and result["sign_changes"]["once"]["interval"][0] > 0.8
    )
    medians = SIGN[direction] * table.q50.to_numpy()
    assert (np.diff(medians) > 0).all() and (
        table[["q05", "q25", "q50", "q75", "q95"]].diff(axis=1).iloc[:, 1:] >= 0
    ).all(axis=None)
    other = result["other_answers"]
    assert other["neither"]["n"] == (N if at_4 == "other" else 0)  # X is neither
    assert other["neither"]["share"] == (1.0 if at_4 == "other" else None)


def test_an_answer_of_one_token_is_decided_by_it(alike):
    for direction in DIRECTIONS:
        found, table = commitment(alike[0], case_of(alike, direction))
        assert found["throughout"]["success"] == found["until_first_token"]["success"] == 1.0
        assert (
            found["after_first_token"]["success"] == 0.0
            and found["after_first_token"]["stays"] == 1.0
        )
        assert len(table) == 3 and (table.n == N).all() and found["throughout"]["interval"][0] > 0.8


def test_without_prompts_that_have_a_margin_there_is_n_0_and_no_number(alike):
    steering, _, answered = alike
    same = answered.assign(rule_answer="MR")  # both answers begin with M
    case = open_case(steering, same, "m2g", CHOSEN, 10)
    assert not case.distinct.any() and case.begin_differently is None
    result, table = along_alpha(steering, case, [1.0])
    assert (
        result["n"] == 0
        and result["n_all"] == 10
        and result["quantiles"][0] == [None] * 5
        and result["sign_changes"]["once"]["share"] is None
    )
    assert table.q50.isna().all()
    assert commitment(steering, case)[0]["throughout"]["mixed"] is None
    assert pairwise(steering, case, np.array([RELEVANT, IDLE[0]]), 0)["mean"] == {
        "value": None,
        "interval": None,
        "n": 0,
        "n_keys": 0,
    }


# -- asymmetry -------------------------------------------------------------------------------------
def test_a_planted_asymmetry_and_a_protecting_margin_are_found():
    rng, keys = np.random.default_rng(0), {d: np.repeat(np.arange(15), 10) for d in DIRECTIONS}
    margin = {"m2g": rng.normal(-4, 2, 150), "g2m": rng.normal(4, 2, 150)}
    success = {"m2g": np.abs(margin["m2g"]) < 4.5, "g2m": rng.random(150) < 0.2}
    distinct = {d: np.ones(150, bool) for d in DIRECTIONS}
    found = asymmetry(success, margin, distinct, keys, seed=0)
    assert found["difference"]["value"] == pytest.approx(
        success["m2g"].mean() - success["g2m"].mean()
    )
    low, high = found["difference"]["interval"]
    assert (
        0 < low < found["difference"]["value"] < high
        and found["difference"]["n"] == 300
        and found["difference"]["n_keys"] == 15
    )
    assert (
        found["m2g"]["auc"] == 0.0
        and found["g2m"]["interval"][0] < 0.5 < found["g2m"]["interval"][1]
    )
    assert found["m2g"]["n_success"] == success["m2g"].sum()


def test_an_asymmetry_without_prompts_or_with_one_outcome_is_none():
    keys = {"m2g": np.array(["a", "a", "b"]), "g2m": np.array([], dtype=object)}
    success = {"m2g": np.array([True, True, True]), "g2m": np.array([], dtype=bool)}
    margin, distinct = (
        {"m2g": np.array([1.0, 2.0]), "g2m": np.array([])},
        {
            "m2g": np.array([True, False, True]),
            "g2m": np.array([], bool),
        },
    )
    found = asymmetry(success, margin, distinct, keys, seed=0)
    assert (
        found["difference"]["value"] is None
        and found["g2m"]["auc"] is None
        and found["g2m"]["n"] == 0
    )
    assert (
        found["m2g"]["auc"] is None and found["m2g"]["n"] == 2
    )  # every one a success: nothing to tell apart
    json.dumps(found, allow_nan=False)


def test_rates_and_intervals_of_nothing_are_none():
    assert rate(np.array([], dtype=bool)) == {"share": None, "interval": None, "n": 0}
    assert rate([True, False], "accuracy")["accuracy"] == 0.5
    one_key = by_key(
        lambda values, weights: weights @ values / weights.sum(-1),
        np.array(["a", "a"]),
        np.array([1.0, 0.0]),
        seed=0,
    )
    assert one_key == {"value": 0.5, "interval": None, "n": 2, "n_keys": 1}


# -- performance and hybrids -----------------------------------------------------------------------
def test_performance_collects_what_others_measured_with_n(planted):
    frame = planted(PlantedAlike)[3]
    history = [
        {"free_accuracy": 0.1},
        {"free_accuracy": 0.8, "by_family": {"inference": 0.9, "cipher": 0.8}},
    ]
    trained = {"base_history": history, "free_accuracy": 0.7, "keyed_accuracy": 0.6}
    found = performance(trained, intervened(), frame, 4, "inference")
    assert found["base"]["free"]["accuracy"] == 0.9 and found["base"]["keyed"] == {
        "accuracy": None,
        "interval": None,
        "n": 0,
    }
    assert (
        found["base"]["free"]["n"] == found["dual"]["free"]["n"] == 10
        and found["dual"]["keyed"]["n"] == 20
        and found["m2g"]["free"]["n"] == 4
    )
    assert found["m2g"]["free"]["interval"][0] < 0.5 < found["m2g"]["free"]["interval"][1]
    assert (
        performance(trained | {"base_history": []}, intervened(), frame, 4, "inference")["base"][
            "free"
        ]["accuracy"]
        is None
    )


def test_a_model_that_reads_the_last_word_alone_answers_hybrids_as_it_does_prompts(alike, planted):
    steering, frame, _ = alike
    found = hybrid(steering.model, steering.tokenizer, steering.task, frame, 12, seed=0)
    assert set(found) == set(COMBINATIONS)
    for part in found.values():
        assert (
            part["n"] > 1
            and part["accuracy"] == part["alone"]["accuracy"] == 1.0
            and part["n_too_long"] == 0
        )
    model = planted(PlantedAlike)[0]
    spoiled = frame.assign(
        memory_answer=frame.memory_answer.str.replace("M", "X")
    )  # what is counted as right is the target
    assert (
        hybrid(model, steering.tokenizer, steering.task, spoiled, 12, seed=0)["reason_then_recall"][
            "accuracy"
        ]
        == 0.0
    )


def test_hybrids_that_do_not_fit_are_left_out_and_counted(alike, monkeypatch):
    steering, frame, _ = alike
    monkeypatch.setattr(
        steering.model.config, "n_positions", 9
    )  # keyed and free have 4 and 3 tokens, answer and end mark 2, an answer needs 2
    found = hybrid(steering.model, steering.tokenizer, steering.task, frame, 12, seed=0)
    assert found["recall_then_reason"] == {
        "accuracy": None,
        "interval": None,
        "n": 0,
        "alone": {"accuracy": None, "interval": None, "n": 0},
        "n_too_long": found["recall_then_reason"]["n_too_long"],
        "tokens": None,
    }
    assert found["recall_then_reason"]["n_too_long"] > 1
    assert (
        hybrid(
            steering.model,
            steering.tokenizer,
            steering.task,
            frame[frame.kind != "keyed"],
            12,
            seed=0,
        )["recall_then_recall"]["n"]
        == 0
    )


# -- the whole stage -------------------------------------------------------------------------------
@pytest.fixture
def stage(tmp_path, planted, planted_direction):
    """`run(made, arrays, site, **parameters)`: the lab whose own computing cell has run."""
    runs = iter(range(9))

    def run(made=None, arrays=planted_direction, site="resid_post", **changes):
        left = {
            "04_differentiation": Result({"site": site}, arrays={"arrays": arrays}),
            "06_intervention": Result(intervened()),
        }
        made, folder = made or planted(PlantedAlike), tmp_path / str(next(runs))
        lab = planted_lab("11_open_points", folder, made, SMALL | changes, left)
        run_cell(lab)
        return lab

    return run


def numbers_of(lab) -> dict:
    return {name: value for name, value in lab.result.items() if name != "timings"}


def test_the_stage_reports_what_was_planted_again_and_from_test_keys_only(stage, planted):
    lab = stage()
    result, tables = numbers_of(lab), [path.stem for path in lab.kept.folder.glob("*.parquet")]
    assert set(result) == {
        "clusters",
        "synergy",
        "binary",
        "commitment",
        "asymmetry",
        "instruction",
        "performance",
        "hybrid",
    }
    assert result["instruction"] is None and set(tables) == {"clusters", "binary", "commitment"}
    for direction in DIRECTIONS:
        assert (
            result["clusters"][direction]["chosen"]["success"]
            == result["commitment"][direction]["throughout"]["success"]
            == 1.0
        )
        assert result["clusters"][direction]["single"][0]["success"] == 1.0
    assert (
        result["asymmetry"]["difference"]["value"] == 0.0
        and result["clusters"]["n_neurons"] == 6
        and sum(result["clusters"]["layers"]) == 6
    )
    json.dumps(result, allow_nan=False)
    *model, frame, answered = planted(PlantedAlike)
    again = stage((*model, frame, answered[answered.split == "test"]))
    assert numbers_of(again) == result
    for name in tables:
        pd.testing.assert_frame_equal(lab.table(name), again.table(name))
    assert [holds for _, holds in checks(result)] == [True, True]


def test_a_shift_that_does_nothing_is_found_to_do_nothing(stage, planted_direction):
    rolled = {  # the top neuron is now an idle one
        name: array if name in ("memory", "rule") else np.roll(array, 5, axis=1)
        for name, array in planted_direction.items()
    }
    result = stage(arrays=rolled).result
    for direction in DIRECTIONS:
        assert (
            result["clusters"][direction]["chosen"]["success"] == 0.0
            and result["commitment"][direction]["throughout"]["stays"] == 1.0
        )
        assert result["binary"][direction]["sign_changes"]["never"]["share"] == 1.0


def test_states_of_another_site_are_refused(stage):
    with pytest.raises(StudyError, match="mlp_out.*resid_post"):
        stage(site="mlp_out")


def test_figures_and_answers_say_what_the_stage_found(stage):
    lab = stage(instruction_steps=1, instruction_batch_size=6)
    r = lab.result
    drawings = [
        figures.cluster_dots(lab.table("clusters"), r["clusters"]),
        figures.synergy_heatmaps(r["synergy"]),
        figures.margin_bands(lab.table("binary")),
        figures.commitment_bars(lab.table("commitment")),
        figures.instruction_bars(r["instruction"]),
        figures.hybrid_bars(r["hybrid"]),
    ]
    figures.plt.close("all")
    assert [drawing.name for drawing in drawings] == [
        "clusters",
        "synergy",
        "margins",
        "commitment",
        "instruction",
        "hybrid",
    ]
    assert "m2g throughout: 100% change sides, 0% stay, 0% other." in drawings[3].alt
    assert "steering 100%" in drawings[4].alt and "rephrasing 50%" in drawings[4].alt
    said = answers(r)
    assert said[0].startswith("from memory to rule: chosen shift 100%, all 6 top neurons 100%")
    assert said[2].endswith("steering 100%") and said[-1].startswith("m2g minus g2m: +0% [")
    without = answers(r | {"instruction": None})
    assert len(said) == len(without) + 2 == 7
    assert list(directions_table(r["asymmetry"]).index) == list(DIRECTIONS)
    accuracies = accuracy_table(r["performance"]).set_index("model")
    assert accuracies["keyed accuracy"]["m2g"] == 0.25 and accuracies["free n"]["dual"] == 10
    broken = r | {"commitment": {d: {"throughout": {"success": 0.5}} for d in DIRECTIONS}}
    assert [holds for _, holds in checks(broken)] == [False, True]
