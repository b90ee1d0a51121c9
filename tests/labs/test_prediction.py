"""Lab 05: the computing cell reads the planted behaviour on test keys, and texts say what is measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from computing import planted_lab, run_cell
from memgen.errors import ArtifactError, InapplicableError
from memgen.figures import prediction as figures
from memgen.labs import prediction as science
from memgen.models.adapters import weights_digest
from memgen.models.build import save_model
from memgen.neurons.baselines import Forecast
from memgen.neurons.probes import Examples
from memgen.neurons.prompt_features import PromptFeatures
from memgen.stats.auc import roc_auc
from memgen.store.folders import base_folder
from memgen.terms import FORECASTS
from planted import PlantedAlike

GIVEN = {"sites": ["resid_post", "ln_2"], "max_prompts": 60, "n_resamples": 50, "n_shuffles": 2}


@pytest.fixture(scope="module")
def lab(planted, tmp_path_factory):
    lab = planted_lab("05_prediction", tmp_path_factory.mktemp("runs"), planted(), GIVEN)
    run_cell(lab)
    return lab


def test_the_computing_cell_reads_the_planted_behaviour(lab):
    r, probes = lab.result, lab.table("probes")
    assert r["best_auc"] == r["auc"][r["best_layer"] - 1] == 1.0 and r["site"] == "resid_post"
    assert list(probes.site.unique()) == GIVEN["sites"] and len(probes) == 4
    assert set(lab.table("baselines").name) == {
        "majority", "shuffled_labels", "prompt_only", "token_position_table", "ceiling",
        "answer_margin", "entropy",
    }  # fmt: skip
    assert r["n_test"] == len(lab.table("scores")) <= 60


def test_the_kept_probe_and_scores_are_those_of_the_best_layer(lab, planted):
    model, tokenizer, *_, answered = planted()
    r, scores, best = lab.result, lab.table("scores"), lab.result["best_layer"] - 1
    assert roc_auc(scores.label, scores.probe) == r["best_auc"]
    assert roc_auc(scores.label, scores.prompt_only) == pytest.approx(r["prompt_only_auc"])
    rows = science.prompts(answered, "test", 60)
    assert list(scores.key) == list(rows.key)
    states = science.examples(model, tokenizer, rows, "resid_post").states[:, best]
    kept = lab.arrays("probe")
    again = states @ kept["weight"][best] + kept["bias"][best]
    np.testing.assert_allclose(again, scores.probe, rtol=1e-5, atol=1e-5)


def test_prompts_are_different_ones_of_one_split_that_show_a_behaviour():
    answered = pd.DataFrame(
        {
            "prompt": list("aabcd"),
            "split": ["train"] * 4 + ["test"],
            "behavior": ["memorization", "memorization", "other", "generalization", "memorization"],
        }
    )
    assert list(science.prompts(answered, "train", 9).prompt) == ["a", "c"]
    assert list(science.prompts(answered, "test", 9).prompt) == ["d"]
    assert len(science.prompts(answered, "train", 1)) == 1


def test_the_best_layer_is_chosen_by_cross_validation():
    assert science.best_layer([np.nan, 0.6, 0.9, 0.7]) == 2


def test_where_test_words_are_new_the_probe_gains_over_all_that_sees_words(lab):
    """The last word decides, and that of a test key's prompts is another one than in train."""
    r, scores = lab.result, lab.table("scores")
    assert r["baselines"]["prompt_only"]["auc"] == r["prompt_only_auc"] < 0.6
    assert r["gain"] > 0.4 and r["gain_interval"][0] > 0.3
    for name in (
        "role_features",
        "nearest_setting",
        "base_probe",
    ):  # the task and the run have none
        assert r["baselines"][name]["auc"] is None and r["baselines"][name]["gain"] is None
        assert scores[name].isna().all()
    assert r["auc_within_setting"] is None and r["auc_within_setting_interval"] == [None, None]
    assert r["auc_within_key"] == 1.0
    table = lab.table("baselines").set_index("name")
    assert table.gain[r["chosen_baseline"]] == r["gain"]
    assert (r["ceiling_auc"], scores.ceiling.isna().any()) == (table.auc["ceiling"], False)


def test_where_words_decide_the_probe_gains_nothing_over_them(planted, tmp_path):
    lab = planted_lab("05_prediction", tmp_path, planted(PlantedAlike), GIVEN)
    run_cell(lab)
    r, scores = lab.result, lab.table("scores")
    assert r["best_auc"] == r["chosen_baseline_auc"] == r["prompt_only_auc"] == 1.0
    assert r["chosen_baseline"] in ("prompt_only", "token_position_table")
    assert r["gain"] == 0.0 and r["gain_interval"] == [0.0, 0.0] and r["ceiling_auc"] > 0.9
    np.testing.assert_array_equal(scores.chosen_baseline, scores[r["chosen_baseline"]])


def test_the_base_is_read_on_the_same_prompts(planted, tmp_path):
    """A base that is the model itself knows all that the model knows."""
    model, tokenizer, *_, answered = planted()
    lab = planted_lab("05_prediction", tmp_path, planted(), GIVEN)
    trained = lab.input("02_training")
    rows = [science.prompts(answered, split, 60) for split in ("train", "test")]
    assert science.base_forecasts(trained, tokenizer, rows, "resid_post", lab.parameters) == {}
    folder = base_folder(str(tmp_path), "smoke", "planted", 0) / "model"
    save_model(folder, model, tokenizer)
    trained.result["base"] = weights_digest(folder)
    found = science.base_forecasts(trained, tokenizer, rows, "resid_post", lab.parameters)
    assert roc_auc(science.is_rule(rows[1]), found["base_probe"].scores) == 1.0
    trained.result["base"] = "another"
    with pytest.raises(ArtifactError, match="is not the base that .* started from"):
        science.base_forecasts(trained, tokenizer, rows, "resid_post", lab.parameters)


def test_within_one_key_only_its_own_prompts_are_compared():
    """A probe that knows each key's preference and nothing else."""
    keys = np.repeat(np.arange(8), 10)
    labels = np.where(np.tile(np.arange(10), 8) < np.repeat([2, 8] * 4, 10), 1, 0)
    test = Examples(np.zeros((80, 1)), labels, keys)
    prefers = np.repeat([0.0, 1.0] * 4, 10)
    features = PromptFeatures(
        np.tile([[1], [2]], (40, 1)), pd.DataFrame(index=range(80)), labels.astype(float)
    )
    found = science.within(test, prefers, features, seed=0, n_resamples=50)
    assert roc_auc(labels, prefers) == pytest.approx(0.8)
    assert found["auc_within_key"] == 0.5 and found["auc_within_key_interval"] == [0.5, 0.5]
    assert found["auc_within_setting"] is None  # one behaviour at each nearness
    assert found["auc_within_cell"] == pytest.approx(0.8, abs=0.1)


def test_gains_stand_beside_the_forecasts_alone():
    labels = np.array([0, 1] * 10)
    test = Examples(np.zeros((20, 1)), labels, np.repeat(np.arange(5), 4))
    others = pd.DataFrame({"name": ["majority", "prompt_only"], "auc": [0.5, 0.4]})
    forecasts = {"prompt_only": Forecast(1.0 - labels, 0.7)}
    table = science.with_gains(
        others, test, labels + 0.0, forecasts, seed=0, n_resamples=20
    ).set_index("name")
    assert (
        np.isnan(table.gain["majority"]) and table.gain["prompt_only"] == 0.5
    )  # chance is the floor


def test_shared_keys_are_found():
    answered = pd.DataFrame({"key": list("abb"), "split": ["train", "train", "test"]})
    assert science.shared_keys(answered) == {"b"} and not science.shared_keys(answered[:2])


def beside(auc=None, gain=None) -> dict:
    return {
        "auc": auc,
        "interval": [auc, auc],
        "cv_auc": auc,
        "gain": gain,
        "gain_interval": [gain, None],
    }


R = {
    "site": "resid_post",
    "best_layer": 2,
    "n_test": 40,
    "n_test_keys": 5,
    "auc": [None, 0.75],
    "best_auc": 0.75,
    "best_auc_interval": [0.5, None],
    "prompt_only_auc": None,
    "shuffled_auc": 0.5,
    "baselines": {name: beside() for name in FORECASTS} | {"nearest_setting": beside(0.7, 0.05)},
    "chosen_baseline": "nearest_setting",
    "chosen_baseline_auc": 0.7,
    "gain": 0.05,
    "gain_interval": [-0.1, None],
    "auc_within_key": 0.6,
    "auc_within_key_interval": [0.5, 0.7],
    "auc_within_setting": None,
    "auc_within_setting_interval": [None, None],
    "ceiling_auc": 0.9,
    "ceiling_interval": [0.8, 1.0],
}
NONE = R | {"chosen_baseline": None, "chosen_baseline_auc": None, "gain": None}


def test_the_answer_in_words():
    assert science.in_words(R) == (
        "AUC 0.75 [0.50, undefined] at layer 2 on 40 prompts of 5 test keys; strongest baseline on"
        " train keys: nearest trained setting, 0.70; gain over it and over chance +0.05 [-0.10,"
        " undefined]; within one key 0.60, within one setting undefined; shuffled labels 0.50."
    )
    assert "; no baseline could be fitted; " in science.in_words(NONE)


def test_the_figures_say_their_numbers(lab):
    tables = lab.table("probes"), lab.table("baselines")
    drawing = figures.probe_curves(lab.result, *tables)
    assert drawing.name == "probes"
    chosen = FORECASTS[lab.result["chosen_baseline"]]
    auc = lab.result["chosen_baseline_auc"]
    assert f"; beside them: {chosen} {auc:.2f}, shuffled_labels " in drawing.alt
    assert "majority" not in drawing.alt  # it ranks nothing
    labels = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert {"resid_post", "ln_2", chosen} <= set(labels) and "majority" not in labels
    undefined = figures.probe_curves(NONE, *tables)
    assert "; at resid_post: none, 0.75; beside them: shuffled_labels " in undefined.alt
    drawing = figures.rivals(R)
    assert drawing.name == "rivals"
    assert "the probe 0.75 [0.50, undefined]; " in drawing.alt
    assert (
        "nearest trained setting 0.70 [0.70, 0.70]; hidden states of the base undefined"
        in drawing.alt
    )
    assert drawing.alt.endswith(
        "Strongest forecast on train keys: nearest trained setting; gain of the probe over it +0.05"
        " [-0.10, undefined]"
    )
    (shade,) = [p for p in drawing.figure.axes[0].patches if p.get_width() > 0]
    assert (shade.get_x(), shade.get_width()) == pytest.approx((0.7, 0.05))
    assert "on train keys: none; " in figures.rivals(NONE).alt
    figures.plt.close("all")


@pytest.mark.parametrize(
    ("behaviors", "said"),
    [
        (
            ["memorization", "other", "memorization", "generalization"],
            "train keys shows generalization",
        ),
        (["memorization", "generalization", "other", "other"], "test keys shows memorization"),
    ],
)
def test_a_split_with_one_behaviour_is_left_out_in_one_sentence(behaviors, said):
    answered = pd.DataFrame(
        {"prompt": list("abcd"), "split": ["train", "train", "test", "test"], "behavior": behaviors}
    )
    with pytest.raises(InapplicableError, match=said):
        science.asked(answered, 9)
