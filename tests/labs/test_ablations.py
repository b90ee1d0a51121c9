"""Lab 10, on a model whose behaviour is planted: coordinate 0 after the last block decides, and nothing
else does.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from computing import planted_lab, run_cell
from memgen.figures import ablations as figures
from memgen.labs.ablations import answer, best_layer, checks, what_matters
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import flips
from memgen.steering.cells import Cell
from memgen.steering.comparison import GROUPS, REFERENCE
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from memgen.store.artifacts import Result
from memgen.terms import DIRECTIONS
from planted import PlantedAlike

M, R, X = 0, 1, 2
ONE = 1 / 16  # share that is one neuron of 2 layers x 8
CHOSEN = {d: {"alpha": 1.0, "top_n": ONE} for d in DIRECTIONS}


GIVEN = {"n_prompts": 40, "counts": [1, 4, 16], "n_draws": 2}


@pytest.fixture(scope="module")
def planted_stage(planted, planted_direction):
    """`(steering, answered, arrays)` of a differentiation stage on this model; the smallest p is at
    a coordinate that does nothing.
    """
    model, tokenizer, task, _, answered = planted(PlantedAlike)
    nmd = planted_direction["nmd.resid_post"]
    n = len(flips(answered[answered.split == "train"].reset_index(drop=True), "order"))
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
    maps = NeuronMaps.of(arrays, "resid_post")
    return Steering(model, tokenizer, task, maps), answered, arrays


@pytest.fixture(scope="module")
def run(planted, planted_stage, tmp_path_factory):
    """`run(answered=..., site=..., positions=...) -> (result, tables)`: the lab's computing cell, with the
    cell, site and positions that lab 06 chose.
    """
    folder = tmp_path_factory.mktemp("runs")

    def run(answered=None, site="resid_post", positions="all"):
        made = planted(PlantedAlike)
        made = made if answered is None else (*made[:4], answered)
        left = {
            "04_differentiation": Result(
                {"site": "resid_post"}, arrays={"arrays": planted_stage[2]}
            ),
            "06_intervention": Result(CHOSEN | {"site": site, "positions": positions}),
        }
        lab = planted_lab("10_ablations", folder, made, GIVEN, left)
        run_cell(lab)
        result = {name: value for name, value in lab.result.items() if name != "timings"}
        assert lab.result["timings"]["seconds"] >= 0
        return result, {name: lab.table(name) for name in ("variants", "outcomes")}

    return run


@pytest.fixture(scope="module")
def found_once(run):
    """`(result, tables)` of the cell as it was chosen."""
    return run()


def hooks_left(model) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# -- the whole stage -------------------------------------------------------------------------------
def test_the_stage_finds_what_was_planted(planted_stage, found_once):
    result, _ = found_once
    assert result["identity_holds"] and not hooks_left(planted_stage[0].model)
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
    result, tables = found_once
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


def test_clamps_are_held_against_the_shift_at_decision_positions(planted_stage, run, monkeypatch):
    """In this model positions make no difference, so answers at decision positions are marked."""
    real = Steering.outcomes

    def marked(self, shifts, rows, positions=None):
        there = positions == "decision"
        return np.full((len(shifts), len(rows)), X) if there else real(self, shifts, rows)

    monkeypatch.setattr(Steering, "outcomes", marked)
    answered = planted_stage[1].assign(same="but to be computed again")
    result = run(answered)[0]
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


def test_the_same_again(planted_stage, run, found_once):
    again = run(planted_stage[1].assign(same="but to be computed once more"))
    assert again[0] == found_once[0] and all(
        again[1][name].equals(table) for name, table in found_once[1].items()
    )


def test_the_layer_is_chosen_on_validation_keys(planted, planted_stage, run, found_once):
    """At the whole norm, layer 1 moves coordinate 0 by 4, as test keys need it here, and layer 2 by
    1, as validation keys do.
    """
    model, tokenizer, task, _, answered = planted()
    reference = np.zeros((2, 8))
    reference[0, 0], reference[1, 0], reference[1, 5] = np.sqrt(12), 0.5, np.sqrt(3.75)
    maps = NeuronMaps("resid_post", reference, np.sign(reference))
    steering = Steering(model, tokenizer, task, maps)
    rows = {split: steering_prompts(answered, split, "m2g", 40) for split in ("validation", "test")}
    trials = {split: Trial(steering, "m2g", Cell(1.0, 1.0), some) for split, some in rows.items()}
    assert (trials["test"].shift == reference).all()
    best = {split: best_layer(trial) for split, trial in trials.items()}
    assert best == {"validation": 2, "test": 1}

    _, answered, _ = planted_stage
    result, without = found_once[0], run(answered[answered.split != "validation"])[0]
    for direction in DIRECTIONS:
        assert (
            without[direction]["layers"]["best_single"]["layer"] is None
            and without[direction]["layers"]["best_single"]["n"] == 0
        )
        assert (
            without[direction]["ranking"] == result[direction]["ranking"]
        )  # nothing else looks at validation keys


def test_a_direction_without_prompts_is_null_and_one_key_has_no_interval(planted_stage, run):
    _, answered, _ = planted_stage
    test = answered.split == "test"
    one_key = answered[~test | (answered.key == answered.key[test].iloc[0])]
    result, tables = run(
        one_key[~((one_key.split == "test") & (one_key.behavior == "generalization"))]
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
    figures.overview(tables["variants"], REFERENCE)
    figures.by_count(tables["variants"])
    assert "none" in figures.described(tables["variants"])


def test_tests_of_another_site_are_not_used(run):
    result = run(site="ln_2", positions="decision")[0]
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
    overview, count = figures.overview(variants, REFERENCE), figures.by_count(variants)
    assert len(overview.figure.axes) == len(count.figure.axes) == 2
    labels = [label.get_text() for label in overview.figure.axes[0].get_yticklabels()]
    assert {"layer 2 only", "ln_2", "decision only", "smallest p", "clamp, same norm"} <= set(
        labels
    )
    written = figures.readable(variants)
    assert len(written) == len(variants) and not written.isna().any(axis=None)
    assert written[written.n == 0].success.eq("n/a").all()
    text = figures.described(variants)
    assert (
        "g2m, ranked by: as chosen 100%, |NMD| 100%, effect size 100%, smallest p 0%" in text
        and "layer 1 only none" in text
    )
    assert overview.alt.endswith(text) and "clamp, same norm 100%" in overview.alt
    assert count.alt.endswith(figures.described(variants[variants.group == "count"]))
    assert (overview.name, count.name) == ("overview", "count")
    assert overview.caption and count.caption


def test_what_makes_variants_comparable_is_checked(planted_stage, found_once):
    answered, (result, tables) = planted_stage[1], found_once
    assert all(checks(result, tables["variants"], answered).values())
    shared = answered.assign(key="key0")
    longer = tables["variants"].assign(norm=2 * tables["variants"].norm)
    broken = checks(result | {"identity_holds": False}, longer, shared)
    assert list(broken.values()) == [False] * 4


def test_the_answer_says_what_differs(found_once):
    result = found_once[0]
    for direction in DIRECTIONS:
        said = answer(result, direction)
        assert said.startswith("100% [") and "One layer alone (layer 2, chosen on" in said
        assert "smallest_p" in said.split("what differs: ")[1]
        assert "smallest_p 0%; tied" in what_matters(result, direction)
