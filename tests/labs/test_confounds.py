"""The confounds, each planted in arrays or in a model where it is known to be there, and found; and
not found where it is not.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from computing import planted_lab, run_cell
from memgen.config.analyses import ConfoundsParameters
from memgen.figures import confounds as figures
from memgen.labs.confounds import answers, checks, flipping_and_stable, leakage
from memgen.neurons.probes import Examples, probe_by_layer
from planted import Planted, PlantedAlike

M, R, X = "memorization", "generalization", "other"
N_KEYS, PER_KEY, WIDTH = 24, 10, 6


def parameters(**changes) -> ConfoundsParameters:
    return ConfoundsParameters(
        **{"task": "inference", "n_prompts": 80, "n_samples": 6, "n_resamples": 60} | changes
    )


def sides(rng, n_layer: int = 2, width: int = WIDTH) -> tuple[dict, dict, dict]:
    """Noise `[n, n_layer, width]`, labels and keys of train and test; each key shows both
    behaviours.
    """
    states, labels, keys = {}, {}, {}
    for _number, split in enumerate(("train", "test")):
        keys[split] = np.repeat([f"{split}{k}" for k in range(N_KEYS)], PER_KEY)
        labels[split] = np.tile([0, 1], N_KEYS * PER_KEY // 2)
        states[split] = rng.normal(size=(len(labels[split]), n_layer, width))
    return states, labels, keys


# -- answer leakage --------------------------------------------------------------------------------
def read(margins, states, rival, labels, keys, **changes):
    """`leakage` of these arrays, by split."""
    train, test = (Examples(states[s], labels[s], keys[s]) for s in ("train", "test"))
    both = [margins["train"], margins["test"]]
    return leakage(both, rival, train, test, parameters(readable=0.75, seed=0, **changes))


def planted_reading(seed: int = 0, permuted: bool = False):
    """Three layers: the state tells the behaviour from the first on, the lens margin from the
    third; the prompt's forecast knows nothing.
    """
    rng = np.random.default_rng(seed)
    states, labels, keys = sides(rng, n_layer=3)
    for split in states:
        states[split][..., 0] += 3.0 * labels[split][:, None]
    margins = {split: rng.normal(size=(len(of), 3)) for split, of in labels.items()}
    for split, of in labels.items():
        margins[split][:, 2] += 4.0 * (of - 0.5)
    if permuted:
        labels = {split: rng.permutation(of) for split, of in labels.items()}
    return margins, states, rng.normal(size=len(labels["test"])), labels, keys


def test_a_behaviour_that_shows_before_the_answer_is_found():
    given = planted_reading()
    result, table = read(*given, n_resamples=100)
    assert result["readable_layer"] == 3 and result["layer_before"] == 2
    assert result["auc"][2] > 0.95 and all(abs(auc - 0.5) < 0.1 for auc in result["auc"][:2])
    assert (
        result["probe_auc_before"] == result["probe_auc"][1] > 0.9
        and result["probe_auc_before_interval"][0] > 0.85
    )
    assert result["lead_before_interval"][0] > 0.2 and result["gain_before_interval"][0] > 0.2
    assert result["lead"] == pytest.approx(np.subtract(result["probe_auc"], result["auc"]))
    assert result["before_answer"] is True and result["lens_before"] == result["auc"][1]
    assert result["lens_before_interval"] == result["auc_interval"][1]
    _, states, _, labels, keys = given
    train, test = (Examples(states[s], labels[s], keys[s]) for s in ("train", "test"))
    reference = probe_by_layer(train, test, seed=0, n_resamples=100)
    np.testing.assert_allclose(
        table[["probe", "probe_low", "probe_high"]], reference[["auc", "auc_low", "auc_high"]]
    )
    assert read(*given, n_resamples=100)[0] == result


def test_shuffled_labels_leave_nothing_to_read():
    result, _ = read(*planted_reading(permuted=True), n_resamples=20)
    assert all(abs(auc - 0.5) < 0.1 for auc in result["auc"] + result["probe_auc"])
    assert (
        result["readable_layer"] is None
        and result["layer_before"] == 3
        and abs(result["probe_auc_before"] - 0.5) < 0.1
    )


def test_where_the_first_layer_reads_the_answer_nothing_lies_before():
    margins, *rest = planted_reading()
    turned = {split: of[:, ::-1] for split, of in margins.items()}
    result, _ = read(turned, *rest, n_resamples=20)
    assert result["readable_layer"] == 1 and result["layer_before"] is None
    assert result["probe_auc_before"] is None and result["lead_before_interval"] == [None, None]
    assert result["before_answer"] is None and result["lens_before"] is None


def test_the_layer_is_looked_up_on_train_keys_alone():
    """Whatever the lens says of test prompts, the layer stays; what it says there is reported."""
    margins, states, rival, labels, keys = planted_reading()
    early = np.repeat(2.0 * labels["test"][:, None], 3, axis=1) + 0.01 * margins["test"]
    result, table = read({**margins, "test": early}, states, rival, labels, keys, n_resamples=50)
    assert result["readable_layer"] == 3 and result["layer_before"] == 2
    assert result["lens_before"] > 0.95 and result["before_answer"] is False
    changed = {**labels, "test": 1 - labels["test"]}
    assert read(margins, states, rival, changed, keys, n_resamples=5)[0]["readable_layer"] == 3
    assert result["auc_train"] == list(table.lens_train)


def test_the_gain_is_over_the_prompts_forecast_and_never_over_less_than_chance():
    margins, states, rival, labels, keys = planted_reading()
    knowing = labels["test"] + 0.0
    result, _ = read(margins, states, knowing, labels, keys, n_resamples=20)
    assert result["gain_before"] == pytest.approx(result["probe_auc_before"] - 1.0)
    result, _ = read(margins, states, -knowing, labels, keys, n_resamples=20)
    assert result["gain_before"] == pytest.approx(result["probe_auc_before"] - 0.5)


@pytest.mark.parametrize("lost", ["test rule", "train rule", "test", "train"])
def test_reading_survives_a_missing_behaviour_and_a_missing_split(lost):
    margins, states, rival, labels, keys = planted_reading()
    split, *behaviour = lost.split()
    kept = labels[split] == 0 if behaviour else labels[split] < 0
    if split == "test":
        rival = rival[kept]
    for part in (margins, states, labels, keys):
        part[split] = part[split][kept]
    result, table = read(margins, states, rival, labels, keys, n_resamples=10)
    assert result["probe_auc"] == [None] * 3 and result["n"] == len(rival) and len(table) == 3
    if split == "test":
        assert result["auc"] == [None] * 3 and result["readable_layer"] == 3
    else:  # nothing to look the layer up on
        assert result["readable_layer"] is None and result["auc"][2] > 0.95
    json.dumps(result, allow_nan=False)


def test_a_key_on_both_sides_is_refused():
    *given, keys = planted_reading()
    with pytest.raises(ValueError, match="both train and test"):
        same = {"train": keys["train"], "test": keys["train"]}
        read(*given, same, n_resamples=10)


# -- guessing --------------------------------------------------------------------------------------
def test_prompts_that_flip_and_prompts_that_stay_are_told_apart():
    groups = [
        ("a", "test", [M, R, R, X]),
        ("b", "test", [M, M]),
        ("c", "test", [R, R, R]),
        ("d", "test", [R]),
        ("e", "test", [X, X]),
        ("f", "train", [M, R]),
    ]
    rows = [
        {
            "key": key,
            "split": split,
            "group": g,
            "rephrasing": i,
            "change": "order" if i else "",
            "behavior": b,
            "prompt": f"{g}/{i}",
        }
        for g, (key, split, behaviours) in enumerate(groups)
        for i, b in enumerate(behaviours)
    ]
    twice = {
        "key": "b",
        "split": "test",
        "group": 1,
        "rephrasing": 2,
        "change": "order",
        "behavior": M,
        "prompt": "0/0",
    }  # flips in one group, stays in another
    another_question = rows[-1] | {
        **{"key": "c", "split": "test", "group": 2, "rephrasing": 3},
        **{"change": "content", "behavior": M, "prompt": "2/3"},
    }  # of a group that stays; not the same question
    found = flipping_and_stable(pd.DataFrame([*rows, twice, another_question]), 100, "order")
    assert set(found["flip"].prompt) == {"0/0", "0/1"}  # the second R has no partner
    assert set(found["stable"].prompt) == {"1/0", "1/1", "2/0", "2/1", "2/2"}
    assert len(flipping_and_stable(pd.DataFrame(rows), 2, "order")["stable"]) == 2


# -- the whole stage -------------------------------------------------------------------------------
TABLES = ("context", "reading", "guessing", "split")


@pytest.fixture
def stage(tmp_path):
    """`run(made, **parameters)`: the lab whose own computing cell has run on what `planted` made."""
    runs = iter(range(9))

    def run(made, **changes):
        given = parameters(**changes).model_dump(include={"n_prompts", "n_samples", "n_resamples"})
        lab = planted_lab("09_confounds", tmp_path / str(next(runs)), made, given | changes)
        run_cell(lab)
        return lab

    return run


def numbers_of(lab) -> dict:
    return {name: value for name, value in lab.result.items() if name != "timings"}


def test_the_stage_reports_what_was_planted(planted, stage):
    """The planted model decides by the prompt's last word: words, lens and probe all read it at
    once, rephrasings flip it, and keys say nothing.
    """
    made = planted(PlantedAlike)
    lab = stage(made)
    result = numbers_of(lab)
    assert (
        result["lens"]["is_the_models_own"]
        and result["lens"]["auc"] == [1.0, 1.0]
        and result["lens"]["readable_layer"] == 1
    )
    assert (
        result["prompt_only_auc"] == 1.0
        and result["lens"]["probe_auc"] == [1.0, 1.0]
        and result["lens"]["probe_auc_before"] is None
    )
    assert result["lens"]["share_used"] == 1.0 and result["n_test_keys"] == 3
    assert (
        result["context"]["flip"] == pytest.approx([1.0, 1.0]) and result["context"]["n_flip"] > 0
    )
    assert result["context"]["same"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert abs(result["split"]["leak"]) < 0.05
    at = result["split"]["best_layer"] - 1
    assert result["chosen_baseline"] in ("prompt_only", "token_position_table")
    assert result["chosen_baseline_auc"] == 1.0 and result["lens"]["gain_best"] == 0.0
    assert result["baselines"]["nearest_setting"] == {"auc": None, "interval": [None, None]}
    for name in ("probe_auc", "lead", "gain"):
        assert (result["lens"][f"{name}_best"], result["lens"][f"{name}_best_interval"]) == (
            result["lens"][name][at],
            result["lens"][f"{name}_interval"][at],
        )
    warm, cold = (
        result["guessing"]["flip"],
        stage(made, temperature=0.01).result["guessing"]["flip"],
    )
    assert (
        warm["n"] > 0 and warm["agreement"] < 0.5 and cold["agreement"] == 1.0
    )  # at temperature 1 its distribution is flat
    assert warm["agreement"] + warm["opposite"] + warm["other"] == pytest.approx(1.0)
    assert numbers_of(stage(made)) == result
    assert {path.stem for path in lab.kept.folder.glob("*.parquet")} == set(TABLES)
    json.dumps(result, allow_nan=False)
    assert [holds for _, holds in checks(result, lab.answered())] == [True, True]
    answered = lab.answered().assign(split="test")
    both = pd.concat([answered, answered.assign(split="train")])
    assert checks(result, both)[0] == ("train and test keys are disjoint", False)


def test_shuffled_behaviours_leave_every_auc_at_chance(planted, stage):
    model, tokenizer, task, frame, answered = planted(PlantedAlike, 24)
    shuffled = answered.assign(behavior=np.random.default_rng(0).permutation(answered.behavior))
    made = (model, tokenizer, task, frame, shuffled)
    result = stage(made, n_prompts=400, n_samples=1, n_resamples=20).result
    aucs = [
        result["prompt_only_auc"],
        *result["lens"]["auc"],
        *result["lens"]["probe_auc"],
        *result["split"]["by_key"],
        *result["split"]["random"],
    ]
    assert all(abs(auc - 0.5) < 0.15 for auc in aucs), aucs
    assert result["lens"]["readable_layer"] is None


EMPTIED = {
    "no test rule": lambda t: ~((t.split == "test") & (t.behavior == R)),
    "no test": lambda t: t.split != "test",
    "no train": lambda t: t.split != "train",
    "no flips": lambda t: t.behavior == M,
    "one prompt": lambda t: t.index == t.index[0],
    "other only": lambda t: t.behavior == X,
}


@pytest.mark.parametrize("what", EMPTIED)
def test_the_stage_and_its_figures_survive_what_a_tiny_run_lacks(planted, stage, what):
    model, tokenizer, task, frame, answered = planted(Planted)
    made = (model, tokenizer, task, frame, answered[EMPTIED[what]])
    lab = stage(made, n_samples=2, n_resamples=5)
    result = lab.result
    json.dumps(result, allow_nan=False)
    assert result["lens"]["auc"] == [None, None] or what == "no train"
    drawings = [
        figures.movement(lab.table("context"), result["context"]),
        figures.reading(lab.table("reading"), result),
        figures.guessing(lab.table("guessing"), result["guessing"]),
        figures.splits(lab.table("split"), result["split"]),
    ]
    figures.plt.close("all")
    assert [drawing.name for drawing in drawings] == ["context", "lens", "guessing", "split"]
    said = " ".join([*answers(result), *(drawing.alt for drawing in drawings)])
    assert "None" not in said and "nan" not in said
    assert "undefined" in said
