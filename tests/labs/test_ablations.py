"""Ablations, on a model whose behaviour is planted: coordinate 0 after the last block decides, and
nothing else does.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from planted import PlantedAlike

from memgen.config.analyses import AblationsParameters
from memgen.figures.style import ablations
from memgen.labs.ablations import GROUPS, REFERENCE, best_layer, study
from memgen.models.generate import answer, tokenize_prompts
from memgen.models.hooks import add, capture, clamp, shift
from memgen.neurons.pairs import flips
from memgen.neurons.probes import probe_scores, probe_weights
from memgen.neurons.states import mean_norm
from memgen.steering.clamping import distance, moved
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.variants import (
    by_count,
    by_layer,
    by_magnitude,
    by_ranking,
    p_ranking,
    rankings,
    rescaled,
)
from memgen.terms import DIRECTIONS

M, R, X = 0, 1, 2
ONE = 1 / 16  # share that is one neuron of 2 layers x 8
CHOSEN = {d: {"alpha": 1.0, "top_n": ONE} for d in DIRECTIONS}


def parameters(**changes) -> AblationsParameters:
    return AblationsParameters(
        **{"task": "inference", "n_prompts": 40, "counts": [1, 4, 16], "n_draws": 2} | changes
    )


@pytest.fixture(scope="module")
def planted_stage(planted, planted_direction):
    """`(steering, answered, arrays)` of a differentiation stage on this model; the smallest p is at
    a coordinate that does nothing.
    """
    model, tokenizer, task, _, answered = planted(PlantedAlike)
    nmd, rho = planted_direction["nmd.resid_post"], planted_direction["rho.resid_post"]
    n = len(flips(answered[answered.split == "train"].reset_index(drop=True)))
    rng = np.random.default_rng(3)
    memory = rng.normal(0, 0.05, (n, 2, 8))
    p = np.full((2, 8), 0.5)
    p[0, 5] = 0.01
    arrays = planted_direction | {
        "memory": memory,
        "rule": memory + nmd + rng.normal(0, 0.05, (n, 2, 8)),
        "p": p,
        "effect_size": nmd / 0.1,
    }
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in arrays.items()}
    return (
        Steering(
            model, tokenizer, task, "resid_post", arrays["nmd.resid_post"], arrays["rho.resid_post"]
        ),
        answered,
        arrays,
    )


def run(stage, chosen=CHOSEN, answered=None, tested_site="resid_post", **changes):
    steering, everything, arrays = stage
    return study(
        steering,
        parameters(**changes),
        everything if answered is None else answered,
        arrays,
        chosen,
        tested_site,
    )


@pytest.fixture(scope="module")
def found_once(planted_stage):
    """`(result, tables, seconds)` with the default parameters."""
    return run(planted_stage)


def hooks_left(model) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.fixture
def maps():
    """A random reference of 12 neurons, NMD and rho, 3 layers x 8."""
    rng = np.random.default_rng(1)
    nmd = rng.normal(0, 1, (3, 8))
    rho = np.sign(nmd) * rng.uniform(0.1, 0.9, (3, 8))
    chosen = np.abs(rho) >= np.sort(np.abs(rho), axis=None)[-12]
    return np.where(chosen, 2 * nmd, 0), nmd, rho


# -- variants of a shift ---------------------------------------------------------------------------
def test_every_variant_has_the_norm_of_the_whole(maps):
    reference, nmd, rho = maps
    norm, rng = np.linalg.norm(reference), np.random.default_rng(0)
    scores = rankings(
        nmd, {"effect_size": rng.normal(size=nmd.shape), "p": rng.uniform(size=nmd.shape)}, rho
    )
    groups = [
        by_layer(reference),
        by_count(nmd, rho, norm, [1, 5, 20], 3, rng),
        by_ranking(nmd, rho, 0.5, norm, scores),
        by_magnitude(reference, nmd, nmd),
    ]
    draws = [one for group in groups for draws in group.values() for one in draws]
    assert len(draws) == 6 + (3 + 9 + 1) + 3 + 3
    np.testing.assert_allclose([np.linalg.norm(one) for one in draws], norm)


def test_a_layer_alone_and_all_but_it_are_the_two_parts_of_the_shift(maps):
    reference = maps[0]
    found = by_layer(reference)
    for k in (1, 2, 3):
        (only,), (others,) = found[f"layer_{k}_only"], found[f"all_but_layer_{k}"]
        rows = np.arange(3) == k - 1
        assert not only[~rows].any() and not others[rows].any()
        assert ((only != 0) | (others != 0)).sum() == (reference != 0).sum()
        assert (np.sign(only[rows]) == np.sign(reference[rows])).all()


def test_a_layer_without_chosen_neurons_has_no_shift(maps):
    reference = maps[0] * (np.arange(3) == 1)[:, None]
    found = by_layer(reference)
    assert found["layer_1_only"] == found["layer_3_only"] == found["all_but_layer_2"] == []
    np.testing.assert_allclose(found["layer_2_only"][0], reference)
    np.testing.assert_allclose(found["all_but_layer_1"][0], reference)


def test_counts_take_the_largest_rho_and_draws_grow(maps):
    _, nmd, rho = maps
    found = by_count(nmd, rho, 1.0, [1, 5, 24, 99], 2, np.random.default_rng(0))
    for count in (1, 5):
        (ranked,) = found[f"n_{count}"]
        assert set(np.flatnonzero(ranked)) == set(np.argsort(-np.abs(rho), axis=None)[:count])
        assert [np.count_nonzero(one) for one in found[f"random_{count}"]] == [count, count]
    assert found["n_24"] == found["n_99"] == found["random_24"] == []  # all coordinates are `all`
    assert np.count_nonzero(found["all"][0]) == 24
    for small, large in zip(found["random_1"], found["random_5"]):
        assert set(np.flatnonzero(small)) < set(np.flatnonzero(large))
        np.testing.assert_array_equal(np.sign(large), np.where(large != 0, np.sign(nmd), 0))
    assert (found["random_5"][0] != 0).tolist() != (found["random_5"][1] != 0).tolist()


def test_neurons_that_never_differ_are_not_drawn(maps):
    _, nmd, rho = maps
    nmd = np.where(np.arange(24).reshape(3, 8) < 4, nmd, 0)
    found = by_count(nmd, rho, 1.0, [3, 10], 5, np.random.default_rng(0))
    assert (
        all(np.flatnonzero(one).max() < 4 for one in found["random_3"]) and found["random_10"] == []
    )


def test_p_ranks_the_smallest_first_and_rho_breaks_ties():
    p, rho = (
        np.array([[0.5, 0.01, 0.01], [0.2, 0.01, 1.0]]),
        np.array([[0.9, 0.1, -0.8], [0.3, 0.5, 0.99]]),
    )
    assert np.argsort(-p_ranking(p, rho), axis=None).tolist() == [2, 4, 1, 3, 0, 5]


def test_magnitudes_keep_the_neurons(maps):
    reference, nmd, _ = maps
    weights = np.random.default_rng(5).normal(size=nmd.shape)
    found = {name: draws[0] for name, draws in by_magnitude(reference, nmd, weights).items()}
    chosen = reference != 0
    assert (
        len(set(np.abs(found["constant"][chosen]).round(9))) == 1
        and (np.sign(found["constant"]) == np.sign(reference)).all()
    )
    assert not found["probe_weight"][~chosen].any()
    np.testing.assert_allclose(
        found["probe_weight"][chosen] / weights[chosen],
        (found["probe_weight"] / weights)[chosen][0],
    )
    assert np.corrcoef(found["dense_difference"].ravel(), nmd.ravel())[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("values, norm", [(np.zeros((2, 3)), 1.0), (np.ones((2, 3)), 0.0)])
def test_nothing_has_no_direction(values, norm):
    assert rescaled(values, norm) == []


def test_probe_weights_are_the_slopes_of_the_probe_in_the_units_of_the_states():
    rng, n = np.random.default_rng(2), 80
    memory, rule = rng.normal(size=(n, 2, 4)), rng.normal(size=(n, 2, 4))
    rule[:, 1, 2] += 2.0  # planted in the second layer; the first holds nothing
    memory[..., 3], rule[..., 3] = 100 * memory[..., 3], 100 * rule[..., 3]
    keys = np.arange(n) % 10
    weights = probe_weights(memory, rule, keys, seed=0)
    assert (
        weights[1].argmax() == 2
        and weights[1, 2] > 3 * np.abs(np.delete(weights[1], 2)).max()
        and np.abs(weights[:, 3]).max() < 0.05
    )
    assert np.abs(weights[0]).max() < weights[1, 2] / 3
    points, labels = rng.normal(size=(6, 4)), np.repeat([0, 1], n)
    line = probe_scores(
        np.concatenate([memory[:, 1], rule[:, 1]]), labels, np.tile(keys, 2), points, seed=0
    )
    np.testing.assert_allclose(np.diff(points @ weights[1]), np.diff(line), atol=1e-9)


def test_the_mean_norm_is_over_all_layers_together():
    assert mean_norm(np.full((2, 2, 2), 1.0), np.full((2, 2, 2), 2.0)) == pytest.approx(
        3.0
    )  # norms 2 and 4


# -- add and clamp ---------------------------------------------------------------------------------
def prompts(stage, direction="m2g"):
    steering, answered, _ = stage
    rows = steering_prompts(answered, "test", direction, 20)
    return steering, rows, tokenize_prompts(steering.tokenizer, list(rows.prompt))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_a_clamp_moves_the_chosen_neurons_towards_the_mean(planted_stage, strength):
    steering, rows, tokens = prompts(planted_stage)
    mean, mask = np.random.default_rng(0).normal(size=(2, 8)), np.zeros((2, 8), dtype=bool)
    mask[1, [0, 3]] = True
    before = capture(steering.model, *tokens)
    with clamp(steering.model, "resid_post", mean, mask, strength) as made:
        after = capture(steering.model, *tokens)
    expected = before.numpy() + strength * np.where(mask, mean - before.numpy(), 0)
    np.testing.assert_allclose(after.numpy(), expected, atol=1e-5)
    assert made[0] is None  # a layer without chosen neurons has no hook
    if strength:
        np.testing.assert_allclose(made[1].numpy(), (after - before)[:, 1].numpy(), atol=1e-5)
    else:
        assert made[1] is None and torch.equal(before, after)
    norm = moved(steering, rows, clamp(steering.model, "resid_post", mean, mask, strength))[1]
    assert norm == pytest.approx(strength * distance(steering, rows, mean, mask), rel=1e-4)
    assert not hooks_left(steering.model)


def test_hooks_go_when_the_block_fails(planted_stage):
    steering, _, tokens = prompts(planted_stage)
    with pytest.raises(RuntimeError, match="inside"):
        with clamp(
            steering.model, "resid_post", np.zeros((2, 8)), np.ones((2, 8), dtype=bool), 1.0
        ):
            assert hooks_left(steering.model)
            raise RuntimeError("inside")
    assert not hooks_left(steering.model)


@pytest.mark.parametrize(
    "mean, mask, strength",
    [
        (np.zeros((3, 8)), np.ones((2, 8)), 1.0),
        (np.zeros((2, 8)), np.ones((2, 7)), 1.0),
        (np.zeros(8), np.ones((2, 8)), 1.0),
        (np.full((2, 8), np.nan), np.ones((2, 8)), 1.0),
        (np.zeros((2, 8)), np.ones((2, 8)), np.inf),
    ],
)
def test_what_does_not_fit_the_model_is_refused(planted_stage, mean, mask, strength):
    with pytest.raises(ValueError):
        clamp(planted_stage[0].model, "resid_post", mean, mask, strength)
    assert not hooks_left(planted_stage[0].model)


def test_adding_is_the_shift_at_decision_positions(planted_stage):
    steering, rows, tokens = prompts(planted_stage)
    delta = np.zeros((2, 8), dtype=np.float32)
    delta[1, 0] = 1.0
    with shift(steering.model, "resid_post", torch.from_numpy(delta), "decision"):
        expected, texts = (
            capture(steering.model, *tokens),
            answer(steering.model, steering.tokenizer, list(rows.prompt), 2),
        )
    with add(steering.model, "resid_post", delta):
        assert torch.equal(capture(steering.model, *tokens), expected)
        assert answer(steering.model, steering.tokenizer, list(rows.prompt), 2) == texts
    codes, norm = moved(steering, rows, add(steering.model, "resid_post", delta, generated=False))
    assert (codes == R).all() and norm == pytest.approx(1.0)


def test_a_clamp_at_generated_tokens_can_lose_the_rest_of_the_answer(planted_stage):
    """Coordinate 3 is 0 at the end of prompts and tells, at an answer's token, that the end has
    come.
    """
    steering, rows, _ = prompts(planted_stage)
    mean, mask = np.zeros((2, 8)), np.zeros((2, 8), dtype=bool)
    mask[1, 3] = True
    codes = {
        generated: moved(
            steering, rows, clamp(steering.model, "resid_post", mean, mask, 1.0, generated)
        )[0]
        for generated in (True, False)
    }
    assert (codes[True] == X).all() and (codes[False] == M).all()


# -- the whole stage -------------------------------------------------------------------------------
def test_the_stage_finds_what_was_planted(planted_stage, found_once):
    result, _, seconds = found_once
    assert (
        result["identity_holds"]
        and not hooks_left(planted_stage[0].model)
        and seconds["seconds"] >= 0
    )
    expected = {  # group: what succeeds always, what never
        "layers": ({"as_chosen", "layer_2_only", "all_but_layer_1", "best_single"}, set()),
        "site": ({"as_chosen", "resid_post"}, {"ln_2"}),
        "positions": ({"as_chosen", "all", "decision"}, set()),
        "count": ({"as_chosen", "n_1", "n_4", "all"}, set()),
        "ranking": ({"as_chosen", "abs_nmd", "effect_size"}, {"smallest_p"}),
        "magnitude": ({"as_chosen", "constant", "probe_weight", "dense_difference"}, set()),
    }
    for direction in DIRECTIONS:
        found = result[direction]
        assert (
            found["n"] > 10
            and found["n_keys"] > 1
            and found["neurons"] == 1
            and found["norm"] == pytest.approx(1.0)
        )
        for group, (always, never) in expected.items():
            assert {name for name, x in found[group].items() if x["success"] == 1.0} == always, (
                direction,
                group,
            )
            assert {name for name, x in found[group].items() if x["success"] == 0.0} >= never, (
                direction,
                group,
            )
        for group in ("clamping", "clamping_prompt"):
            rates = {name: x["success"] for name, x in found[group].items()}
            half = 0.0 if direction == "m2g" else 1.0  # half way from 0 to 1 is still memory
            assert rates == {
                "additive": 1.0,
                "clamp_half": half,
                "clamp_full": 1.0,
                "clamp_same_norm": 1.0,
            }
            assert found[group]["clamp_same_norm"]["norm"] == pytest.approx(found["norm"], rel=1e-4)
        assert (
            found["layers"]["best_single"]["layer"] == 2
            and found["by_layer"]["only"] == [None, 1.0]
            and found["by_layer"]["all_but"] == [1.0, None]
        )
        assert (
            found["layers"]["layer_1_only"]["n"] == 0
            and found["count"]["n_16"]["success"] is None
            and found["site"]["mlp_out"]["n"] == 0
        )
        assert found["count"]["random_1"]["n"] == 2 * found["n"]
        assert found["matters"]["ranking"] == ["smallest_p"] and found["ranking"]["smallest_p"][
            "difference_interval"
        ] == [-1.0, -1.0]
        assert (
            found["matters"]["positions"]
            == found["matters"]["magnitude"]
            == found["matters"]["layers"]
            == []
        )
        assert (
            found["common"] == {"abs_nmd": 1.0, "effect_size": 1.0, "smallest_p": 0.0}
            and found["p_ties"] == 1
        )
    json.dumps(result, allow_nan=False)


def test_shifts_of_other_sites_have_the_same_relative_norm(found_once):
    result = found_once[0]
    norms = result["state_norm"]
    for direction in DIRECTIONS:
        found = result[direction]["site"]["ln_2"]
        assert (
            found["norm"] / norms["ln_2"]
            == pytest.approx(result[direction]["norm"] / norms["resid_post"])
            and found["cosine"] is None
        )
    assert norms["mlp_out"] == 0.0  # the planted blocks compute nothing


def test_differences_are_paired_and_every_rate_can_be_counted_again(found_once):
    result, tables, _ = found_once
    outcomes, variants = tables["outcomes"], tables["variants"]
    by_variant = outcomes.groupby(["direction", "group", "variant"]).success.agg(["mean", "size"])
    for row in variants[variants.n > 0].itertuples():
        again = by_variant.loc[(row.direction, row.group, row.variant)]
        found = result[row.direction][row.group][row.variant]
        assert (again["mean"], again["size"]) == (
            pytest.approx(found["success"]),
            found["n"],
        ) and row.success == found["success"]
        assert row.low <= row.success <= row.high
        of = outcomes[(outcomes.direction == row.direction) & (outcomes.group == row.group)]
        reference = of[of.variant == REFERENCE[row.group]].set_index("prompt").success
        per_prompt = of[of.variant == row.variant].groupby("prompt").success.mean() - reference
        assert found["difference"] == pytest.approx(per_prompt.mean())
    assert set(variants.group) == set(GROUPS) and variants[variants.n == 0].success.isna().all()


def test_clamps_are_held_against_the_shift_at_decision_positions(planted_stage, monkeypatch):
    """In this model positions make no difference, so answers at decision positions are marked."""
    steering, real = planted_stage[0], planted_stage[0].outcomes
    marked = lambda shifts, rows, positions=None: (
        np.full((len(shifts), len(rows)), X) if positions == "decision" else real(shifts, rows)
    )
    monkeypatch.setattr(steering, "outcomes", marked)
    result = run(planted_stage)[0]
    for direction in DIRECTIONS:
        found = result[direction]
        assert (
            found["clamping"]["additive"]["other"] == found["positions"]["decision"]["other"] == 1.0
        ), direction
        assert (
            found["positions"]["as_chosen"]["other"]
            == found["clamping_prompt"]["additive"]["other"]
            == 0.0
        )
        assert found["clamping"]["clamp_full"]["difference"] == 1.0


def test_the_same_again(planted_stage, found_once):
    again = run(planted_stage)
    assert again[0] == found_once[0] and all(
        again[1][name].equals(table) for name, table in found_once[1].items()
    )


def test_the_layer_is_chosen_on_validation_keys(planted, planted_stage, found_once):
    """At the whole norm, layer 1 moves coordinate 0 by 4, as test keys need it here, and layer 2 by
    1, as validation keys do.
    """
    model, tokenizer, task, _, answered = planted()
    reference = np.zeros((2, 8))
    reference[0, 0], reference[1, 0], reference[1, 5] = np.sqrt(12), 0.5, np.sqrt(3.75)
    steering = Steering(model, tokenizer, task, "resid_post", reference, np.sign(reference))
    best = {
        split: best_layer(steering, reference, "m2g", steering_prompts(answered, split, "m2g", 40))
        for split in ("validation", "test")
    }
    assert best == {"validation": 2, "test": 1}

    _, answered, _ = planted_stage
    result, without = (
        found_once[0],
        run(planted_stage, answered=answered[answered.split != "validation"])[0],
    )
    for direction in DIRECTIONS:
        assert (
            without[direction]["layers"]["best_single"]["layer"] is None
            and without[direction]["layers"]["best_single"]["n"] == 0
        )
        assert (
            without[direction]["ranking"] == result[direction]["ranking"]
        )  # nothing else looks at validation keys


def test_a_direction_without_prompts_is_null_and_one_key_has_no_interval(planted_stage):
    _, answered, _ = planted_stage
    test = answered.split == "test"
    one_key = answered[~test | (answered.key == answered.key[test].iloc[0])]
    result, tables, _ = run(
        planted_stage,
        answered=one_key[~((one_key.split == "test") & (one_key.behavior == "generalization"))],
    )
    assert (
        result["m2g"]["n"] > 0 and result["m2g"]["n_keys"] == 1 and result["m2g"]["n_compared"] == 0
    )
    assert (
        result["m2g"]["ranking"]["smallest_p"]["difference"] == -1.0
        and result["m2g"]["ranking"]["smallest_p"]["difference_interval"] is None
    )
    assert result["g2m"]["n"] == 0 and not any(result["g2m"]["matters"].values())
    assert all(
        x["success"] is None and x["n"] == 0
        for group in GROUPS
        for x in result["g2m"][group].values()
    )
    json.dumps(result, allow_nan=False)
    ablations.overview(tables["variants"], REFERENCE)
    ablations.by_count(tables["variants"])
    assert "none" in ablations.described(tables["variants"])


def test_tests_of_another_site_are_not_used(planted_stage):
    steering, answered, arrays = planted_stage
    other = Steering(
        steering.model,
        steering.tokenizer,
        steering.task,
        "ln_2",
        arrays["nmd.ln_2"],
        arrays["rho.ln_2"],
        "decision",
    )
    result = study(other, parameters(), answered, arrays, CHOSEN, "resid_post")[0]
    for direction in DIRECTIONS:
        found = result[direction]
        assert (
            found["ranking"]["effect_size"]["n"] == found["ranking"]["smallest_p"]["n"] == 0
            and found["ranking"]["abs_nmd"]["n"] == found["n"]
        )
        assert found["common"]["smallest_p"] is None and found["p_ties"] is None
        assert set(found["positions"]) == {"as_chosen", "all", "decision"} and set(
            found["site"]
        ) == {"as_chosen", "resid_post", "mlp_out", "ln_2"}
        assert found["positions"]["decision"] == found["positions"]["as_chosen"]
        assert found["clamping"]["additive"]["success"] == found["positions"]["decision"]["success"]
    assert (result["site"], result["positions"]) == ("ln_2", "decision") and result[
        "identity_holds"
    ]


# -- pages -----------------------------------------------------------------------------------------
def test_figures_and_tables_show_every_variant(found_once):
    variants = found_once[1]["variants"]
    overview, count = ablations.overview(variants, REFERENCE), ablations.by_count(variants)
    assert len(overview.axes) == len(count.axes) == 2
    labels = [label.get_text() for label in overview.axes[0].get_yticklabels()]
    assert {"layer 2 only", "ln_2", "decision only", "smallest p", "clamp, same norm"} <= set(
        labels
    )
    written = ablations.readable(variants)
    assert (
        len(written) == len(variants)
        and written[written.n == 0].success.eq("n/a").all()
        and not written.isna().any(axis=None)
    )
    text = ablations.described(variants)
    assert (
        "g2m, ranked by: as chosen 100%, |NMD| 100%, effect size 100%, smallest p 0%" in text
        and "layer 1 only none" in text
    )
