"""Labs on track given: a model that was taught a dozen facts, asked as it is, as a user runs them."""

from __future__ import annotations

import numpy as np
import pytest

from capitals import asked_model
from memgen.errors import ArtifactError, ParameterError
from memgen.labs.scoreboard import identity_holds
from memgen.models.build import save_model
from memgen.models.generate import next_token_scores, tokenize_prompts
from memgen.models.load import load_trained
from memgen.neurons.states import Known, hidden_states
from memgen.pipeline.plan import Plan
from memgen.rivals.method import GIVEN
from memgen.rivals.roster import METHODS
from memgen.store.reader import FinishedRun
from memgen.terms import BEHAVIORS, DIRECTIONS
from running import study
from taught import TOLD, answer_of, teach

ASKED = {"task": "knowledge", "seed": 0, "preset": "smoke", "track": "given"}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """What labs 01 to 06 left, the lesson, and the taught model's folder."""
    home = tmp_path_factory.mktemp("given")
    runs, model = str(home / "runs"), home / "model"
    lesson = teach(model, ASKED | {"runs": runs, "base_model": str(model)})
    study(
        "labs",
        *("--preset", "smoke", "--tasks", "knowledge", "--tracks", "given", "--seeds", "0"),
        *("--set", f"base_model={model}", "--runs", runs, "--jobs", "1"),
        *("--labs", "05_prediction", "06_intervention", "13_scoreboard", "14_detection"),
    )
    return FinishedRun(home / "runs" / "smoke" / "given" / "knowledge" / "seed0"), lesson, model


@pytest.mark.slow
def test_the_keys_are_what_the_model_was_taught(chain):
    run, lesson, _ = chain
    found = run["01_dataset_design"].result
    assert set(found["known"]) == set(lesson.task.keys)
    assert found["n_asked"] == len(lesson.task.asked())
    assert set(run.task().keys) == set(run.dataset().key) - {""} == set(lesson.task.keys)


@pytest.mark.slow
def test_nothing_is_trained_and_no_weights_are_copied(chain):
    run, _, model = chain
    stage = run["02_training"]
    assert stage.result["passed"] and stage.result["trainable_share"] == 0
    assert [path.name for path in stage.path("model").iterdir()] == ["pointer.json"]
    assert stage.result["keyed_accuracy"] == 1.0
    found, _ = load_trained(stage)
    assert found.config._attn_implementation == stage.parameters.attention
    weights = (model / "model.safetensors").read_bytes()
    try:
        (model / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
        with pytest.raises(ArtifactError, match=f"weights in {model} were altered"):
            load_trained(stage)
    finally:
        (model / "model.safetensors").write_bytes(weights)


@pytest.mark.slow
def test_questions_stand_beside_texts_that_are_no_conflict(chain):
    run, lesson, _ = chain
    found = run["02_training"].result["contexts"]
    test = [
        key for key, split in lesson.task.split_keys(lesson.task.shares).items() if split == "test"
    ]
    assert found["none"]["right"] == 1.0 and found["none"]["n"] == 2 * len(test)
    for name in ("gold", "irrelevant"):
        assert 0 < found[name]["n"] <= 4 * len(test) and found[name]["n_keys"] <= len(test)
        assert 0 <= found[name]["right"] <= 1 and 0 <= found[name]["stated"] <= 1
    assert found["gold"]["right"] == found["gold"]["stated"] and found["none"]["stated"] is None


@pytest.mark.slow
def test_a_text_is_believed_where_it_was_taught_to_be(chain):
    run, _, _ = chain
    answered = run.answered()
    rule = [answer_of(row) == row.rule_answer for row in answered.itertuples()]
    taught = answered.behavior.map(BEHAVIORS.index) == rule
    assert taught.mean() > 0.8 and answered.answer.str.len().min() > 1
    assert 0 < sum(rule) < len(rule)
    assert run["03_pairs"].result["n_pairs"]["train"] > 10
    # which wording is believed is no secret of the hidden states
    assert run["05_prediction"].result["baselines"]["role_features"]["auc"] > 0.9


@pytest.mark.slow
def test_states_are_kept_of_the_passes_that_answer(chain):
    """Those that a pass over the prompts alone would find, and the scores with them."""
    run, _, _ = chain
    known, prompts = Known.left(run["03_pairs"]), list(run.answered().prompt.unique())
    model, tokenizer = load_trained(run["02_training"])
    expected = hidden_states(model, tokenizer, prompts, "resid_post")
    assert known.covers(prompts, "resid_post") and expected.std() > 0.1
    np.testing.assert_allclose(known.read("resid_post", prompts), expected, rtol=1e-3, atol=1e-3)
    scores = next_token_scores(model, *tokenize_prompts(tokenizer, prompts))
    for name, values in scores.items():
        np.testing.assert_allclose(known.read(name, prompts), values, rtol=1e-3, atol=1e-3)
    assert Known.left(run["02_training"]) is None


@pytest.mark.slow
def test_pairs_in_one_wording_stand_beside_rephrasings(chain):
    """What is believed was taught by wording, so few keys differ within one: counted, and maybe tested."""
    stage = chain[0]["04_differentiation"]
    found, n_layer = stage.result["same_wording"], len(stage.result["significant_share"])
    assert found["n_keys"] == 2 * found["n_clusters"] and found["n_pairs"] >= found["n_clusters"]
    for name in ("significant_share", "nmd_relative", "correlation", "null_significant_share"):
        assert len(found[name]) == n_layer
    own = {name for name in stage.arrays("arrays") if name.startswith("same_wording.")}
    assert own == (
        {"same_wording.nmd.resid_post", "same_wording.rho.resid_post"}
        if found["n_pairs"]
        else set()
    )


@pytest.mark.slow
def test_a_pretrained_model_is_asked_shifts_alone_by_labs_13_and_14_where_they_are_named(chain):
    run, _, _ = chain
    r = run["13_scoreboard"].result
    shifts = {name for name, method in METHODS.items() if method.shifts}
    assert set(r["lacking"]) == set(METHODS) - shifts and set(r["lacking"].values()) == {GIVEN}
    assert len(shifts) == 10 and identity_holds(r)
    for direction in DIRECTIONS:
        row = r[direction]["rows"]["caa"]["max"]
        assert row["setting"]["positions"] == "decision" and row["validation_n_keyed"] > 0
        steered = run["06_intervention"].result[direction]["max"]
        paper = r[direction]["rows"]["nmd"]["max"]
        assert (paper["success"], paper["n"]) == (steered["success"], steered["n"])
    detected = run["14_detection"].result
    assert detected["n_test"] > 0 and {"probe", "content_unchanged"} <= set(detected["detectors"])


@pytest.mark.slow
def test_instructions_stand_beside_steering(chain):
    run, _, _ = chain
    result = run["06_intervention"].result
    assert result["identity_holds"] and result["positions"] == "decision"
    for direction in DIRECTIONS:
        rivals = result[direction]["rivals"]
        tuned = {"one_layer", "one_layer_kept", "optimised", "optimised_kept"}
        assert set(rivals) == {"instruction_1", "instruction_2"} | tuned
        assert rivals["optimised"]["steps"] in (1, 2) and rivals["optimised"]["norm"] > 0
        obeyed, unheard = (rivals[f"instruction_{wording}"]["success"] for wording in (1, 2))
        assert obeyed > unheard + 0.2, TOLD
        assert rivals["one_layer"]["layer"] in (1, 2)
        for cell in (result[direction]["max"], rivals["one_layer"]):
            assert cell["perplexity_before"] > 1 and cell["perplexity_after"] > 1
            assert cell["keyed_accuracy_before"] == 1.0
            assert cell["validation_keyed_before"] == 1.0 and cell["validation_n_keyed"] > 0
        lost = {
            kind: result[direction]["kept"][f"validation_{kind}_before"]
            - result[direction]["kept"][f"validation_{kind}_after"]
            for kind in ("free", "keyed")
            if result[direction]["kept_exists"]
        }
        assert all(share <= result["collateral_limit"] for share in lost.values())
    kinds = set(run["06_intervention"].table("outcomes").kind)
    assert {"instruction_1", "instruction_2", "one_layer"} <= kinds


@pytest.mark.slow
@pytest.mark.parametrize(
    "lab", ["09_confounds", "10_ablations", "11_open_points", "12_patching", "07_transfer"]
)
def test_a_lab_of_another_track_ends_well_where_it_is_asked_alone(chain, lab, tmp_path):
    run, _, _ = chain
    own = ["--preset", "smoke", "--track", "given", "--task", "knowledge", "--out"]
    own += [str(tmp_path / "out.ipynb"), "--runs", str(run.folder.parents[3])]
    spanning = ["--set", "seeds=[0]", "tasks=[knowledge]"] if "transfer" in lab else ["--seed", "0"]
    study("lab", lab, *own, *spanning)
    where = run.folder.with_name("all") if "transfer" in lab else run.folder
    assert FinishedRun(where)[lab].verify().exists


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"tasks": ["knowledge"]}, "task='knowledge' is no task of track=scratch"),
        (
            {"tasks": ["inference"], "tracks": ["given"]},
            "task='inference' is no task of track=given",
        ),
        ({"tasks": ["knowledge"], "tracks": ["given"]}, "base_model is empty, and track=given"),
        (
            {"tasks": ["knowledge"], "tracks": ["given"], "settings": {"base_model": "no/such"}},
            "base_model='no/such' is neither a folder",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(asked, said, tmp_path):
    with pytest.raises(ParameterError, match=said):
        Plan(preset="smoke", seeds=[0], runs=str(tmp_path), **asked)


def test_transfer_is_left_out_where_all_seeds_ask_one_model(tmp_path):
    save_model(tmp_path / "model", *asked_model())
    settings = {"base_model": str(tmp_path / "model")}
    plan = Plan("smoke", ["knowledge"], [0], str(tmp_path / "runs"), settings, ["given"])
    assert not [stamp for stamp in plan.studied if "07_transfer" in stamp or "00_base" in stamp]
    assert "given/knowledge/seed0/06_intervention.stamp" in plan.studied
