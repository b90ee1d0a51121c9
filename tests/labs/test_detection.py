"""Lab 14: the black box finds what no train key could teach a probe, and nothing where nothing is planted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from computing import planted_lab, run_cell
from memgen.errors import InapplicableError
from memgen.figures import detection as figures
from memgen.labs import detection as science
from memgen.rivals.detectors.detector import Found
from memgen.rivals.detectors.roster import BLACK_BOX, DETECTORS, PROBE
from memgen.stats.auc import roc_auc
from memgen.store.artifacts import Result
from planted_asking import Asking, MemorizedRule, made

GIVEN = {"n_prompts": 120, "n_perturbations": 3, "n_samples": 20, "n_resamples": 60}
PROBED = {"sites": ["resid_post"], "max_prompts": 200, "n_resamples": 20, "n_shuffles": 1}


def probed(built: tuple, runs) -> Result:
    """What lab 05 leaves on a planted model."""
    lab = planted_lab("05_prediction", runs, built, PROBED)
    run_cell(lab)
    return Result(
        {k: v for k, v in lab.result.items() if k != "timings"},
        {"probes": lab.table("probes")},
        {"probe": lab.arrays("probe")},
    )


def detected(built: tuple, probe: Result, runs, **given):
    """Lab 14, its cell run, after lab 05."""
    lab = planted_lab("14_detection", runs, built, GIVEN | given, {"05_prediction": probe})
    run_cell(lab)
    return lab


@pytest.fixture(scope="module")
def built() -> tuple:
    return made(Asking, 16)


@pytest.fixture(scope="module")
def probe(built, tmp_path_factory) -> Result:
    return probed(built, tmp_path_factory.mktemp("before"))


@pytest.fixture(scope="module")
def lab(built, probe, tmp_path_factory):
    return detected(built, probe, tmp_path_factory.mktemp("runs"))


def numbers_of(lab) -> dict:
    return {name: value for name, value in lab.result.items() if name != "timings"}


def test_the_black_box_beats_a_probe_that_never_saw_such_keys(lab):
    r = numbers_of(lab)
    box, probe = r["detectors"][BLACK_BOX], r["detectors"][PROBE]
    assert box["auc"] == 1.0 and 2.5 < box["further"] <= 3.0
    assert box["difference"] == pytest.approx(box["auc"] - probe["auc"])
    assert probe["auc"] < 0.8 and box["difference_interval"][0] > 0.1
    assert r["best"]["after"] in (BLACK_BOX, "content_solved", "order_solved")
    assert [one["auc"] for one in r["price"]] == r["price_auc"] == [1.0] * 3
    content = r["changes"]["content"]
    assert content["unchanged_memorization"] == 1.0 and content["unchanged_generalization"] == 0.0
    assert content["same_rule"] == 0.0 and content["limem"] == 0.0
    order = r["changes"]["order"]
    assert order["unchanged_generalization"] == order["same_rule"] == 1.0
    json.dumps(r, allow_nan=False)


def test_scores_are_those_of_the_table_and_other_is_dropped_and_counted(lab, built):
    *_, answered = built
    r, scores, table = lab.result, lab.table("scores"), lab.table("detectors").set_index("name")
    assert list(scores.columns) == ["key", "prompt", "answer", "label", *DETECTORS]
    for name in DETECTORS:
        assert roc_auc(scores.label, scores[name]) == pytest.approx(r["detectors"][name]["auc"])
    assert table.loc[PROBE, "difference"] == 0.0
    originals = answered[(answered.rephrasing == 0) & (answered.split == "test")]
    assert r["n_other"]["test"] == (originals.behavior == "other").sum() > 0
    assert r["n_test"] + r["n_other"]["test"] == r["n_originals"]["test"] == len(originals)
    assert set(scores.key) <= set(originals.key)
    assert r["n_rule"] == scores.label.sum()


def test_test_keys_choose_and_turn_nothing(lab, built, probe, tmp_path):
    """With the behaviours of test prompts exchanged, all scores stay and all AUCs are turned over."""
    model, tokenizer, task, frame, answered = built
    turn = {"memorization": "generalization", "generalization": "memorization", "other": "other"}
    test = answered.split == "test"
    changed = answered.assign(behavior=answered.behavior.where(~test, answered.behavior.map(turn)))
    other = detected((model, tokenizer, task, frame, changed), probe, tmp_path)
    mine, theirs = lab.table("scores"), other.table("scores")
    assert list(theirs.label) == list(1 - mine.label)
    for name in DETECTORS:
        np.testing.assert_allclose(theirs[name], mine[name], rtol=1e-6, atol=1e-6)
        was, now = (one.result["detectors"][name] for one in (lab, other))
        assert now["auc"] == pytest.approx(1 - was["auc"]) and now["choice"] == was["choice"]
    assert other.result["best"] == lab.result["best"]


def test_shuffled_behaviours_sink_every_detector(tmp_path):
    model, tokenizer, task, frame, answered = made(Asking, 24)
    rng, shown = np.random.default_rng(0), answered.behavior != "other"
    shuffled = answered.behavior.copy()
    shuffled[shown] = answered[shown].groupby("key").behavior.transform(rng.permutation)
    built = (model, tokenizer, task, frame, answered.assign(behavior=shuffled))
    before = probed(built, tmp_path / "before")
    found = detected(built, before, tmp_path / "runs", n_prompts=400).result
    aucs = {name: one["auc"] for name, one in found["detectors"].items()}
    assert all(abs(auc - 0.5) < 0.2 for auc in aucs.values()), aucs
    assert np.mean(list(aucs.values())) == pytest.approx(0.5, abs=0.06)


def test_memorized_rules_are_beyond_the_black_box(tmp_path):
    built = made(MemorizedRule, 16)
    r = detected(built, probed(built, tmp_path / "before"), tmp_path / "runs").result
    assert (
        r["detectors"][BLACK_BOX]["auc"] == 0.5 and r["detectors"]["content_solved"]["auc"] == 1.0
    )
    content = r["changes"]["content"]
    assert content["unchanged_memorization"] == content["unchanged_generalization"] == 0.0


def test_the_same_twice(lab, built, probe, tmp_path):
    assert numbers_of(detected(built, probe, tmp_path)) == numbers_of(lab)


@pytest.mark.parametrize("split", ["train", "test"])
def test_without_both_behaviours_there_is_nothing_to_detect(built, split):
    model, tokenizer, *_, answered = built
    lost = answered[(answered.split != split) | (answered.behavior != "generalization")]
    with pytest.raises(InapplicableError, match=f"no conflict prompt of {split} keys shows gener"):
        science.asked(model, tokenizer, lost, "resid_post", 50)


def test_the_figures_and_words_say_what_was_measured(lab):
    r = lab.result
    drawings = [
        figures.detectors(r),
        figures.stays(r),
        figures.separation(lab.table("scores")),
        figures.price(r),
    ]
    figures.plt.close("all")
    assert [d.name for d in drawings] == ["detectors", "stays", "separation", "price"]
    said = " ".join([science.in_words(r), *(d.alt for d in drawings)])
    assert "None" not in said and "nan" not in said
    assert "unchanged with other content (after the answer) 1.00" in drawings[0].alt
    assert "from memory" in said and "3.0 further answers and nothing else" in said
    assert all(holds for _, holds in science.checks(r, lab.answered()))
    overview = science.overview(lab.table("detectors"))
    assert len(overview) == len(DETECTORS)
    assert list(overview["further answers"])[-1] == r["detectors"][BLACK_BOX]["further"]


def test_what_is_undefined_is_drawn_and_said(lab):
    r = json.loads(json.dumps(lab.result))
    nothing = {"auc": None, "interval": [None, None]}
    nothing |= {"difference": None, "difference_interval": [None, None]}
    for one in (*r["detectors"].values(), *r["price"]):
        one |= nothing
    for change in r["changes"].values():
        for name in list(change):
            if name.startswith(("unchanged", "solved")):
                change[name] = [None, None] if name.endswith("interval") else None
    said = [science.in_words(r)]
    said += [figures.detectors(r).alt, figures.stays(r).alt, figures.price(r).alt]
    figures.plt.close("all")
    assert "undefined" in " ".join(said) and "None" not in " ".join(said)


def test_a_price_is_counted_from_what_was_asked(lab):
    again = lab.table("again")
    runs = science.further_prompts(again, lab.result["n_test"], lab.parameters)
    assert runs["nothing"] == 0.0 and runs["samples"] == 20.0
    assert runs["content"] * lab.result["n_test"] == (again.change == "content").sum()
    by_price = science.by_price(again, lab.result["n_test"], lab.parameters)
    assert set(by_price) == {1, 2, 3} and isinstance(by_price[1], Found)
    assert (by_price[3].scores == lab.table("scores")[BLACK_BOX]).all()
