"""Lab 05: the computing cell reads the planted behaviour on test keys, and texts say what is measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from computing import planted_lab, run_cell
from memgen.figures import prediction as figures
from memgen.labs import prediction as science
from memgen.stats.auc import roc_auc

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
        "majority", "shuffled_labels", "prompt_only", "answer_margin", "entropy",
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
    table = pd.DataFrame({"cv_auc": [np.nan, 0.6, 0.9, 0.7], "auc": [1.0, 0.9, 0.1, 0.2]})
    assert science.best_layer(table) == 2


def test_shared_keys_are_found():
    answered = pd.DataFrame({"key": list("abb"), "split": ["train", "train", "test"]})
    assert science.shared_keys(answered) == {"b"} and not science.shared_keys(answered[:2])


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
}


def test_the_answer_in_words():
    assert science.in_words(R) == (
        "AUC 0.75 [0.50, undefined] at layer 2 on 40 prompts of 5 test keys; from the prompt's tokens"
        " alone undefined, shuffled labels 0.50."
    )


def test_the_figure_says_its_numbers(lab):
    drawing = figures.probe_curves(R, lab.table("probes"), lab.table("baselines"))
    assert drawing.name == "probes"
    assert "; at resid_post: none, 0.75; baselines: shuffled_labels " in drawing.alt
    assert "majority" not in drawing.alt  # it ranks nothing
    labels = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert {"resid_post", "ln_2", "prompt only"} <= set(labels) and "majority" not in labels
