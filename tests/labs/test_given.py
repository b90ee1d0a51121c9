"""Labs on track given: a model that was taught a dozen facts, asked as it is, as a user runs them."""

from __future__ import annotations

import pytest

from capitals import asked_model
from memgen.errors import ArtifactError, ParameterError
from memgen.models.build import save_model
from memgen.models.load import load_trained
from memgen.pipeline.plan import Plan
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
        *("--labs", "05_prediction", "06_intervention"),
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
