"""Lab 04: the planted neuron is found by the computing cell, shuffled behaviours are not, and texts say
what the figures show.
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from computing import planted_lab, run_cell
from memgen.config.analyses import DifferentiationParameters
from memgen.errors import StudyError
from memgen.figures import differentiation as figures
from memgen.labs import differentiation as science
from memgen.models.adapters import weights_digest
from memgen.models.build import save_model
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import flips
from memgen.stats.permutation import discoveries
from memgen.store.artifacts import Result
from memgen.store.folders import base_folder
from memgen.terms import CHANGES, SITES
from planted import ManyKeys, Planted, Worded

P = DifferentiationParameters(task="inference", n_permutations=200)


@pytest.fixture(scope="module")
def left(planted, tmp_path_factory) -> dict:
    """What the computing cell leaves behind. The base writes half of what the words say."""
    runs, made = tmp_path_factory.mktemp("runs"), planted(ManyKeys, 24)
    model, tokenizer, task = made[:3]
    base = copy.deepcopy(model)
    with torch.no_grad():
        base.transformer.wte.weight[:, 0] *= 0.5
    folder = base_folder(runs, "smoke", "planted", task.seed) / "model"
    save_model(folder, base, tokenizer)
    training = Result(
        {"free_accuracy": 1.0, "keyed_accuracy": 1.0, "base": weights_digest(folder)},
        files={"model": lambda folder: save_model(folder, model, tokenizer)},
    )
    given = {"n_permutations": 1000, "max_pairs": 40}
    lab = planted_lab("04_differentiation", runs, made, given, {"02_training": training})
    return run_cell(lab)


def test_the_computing_cell_finds_the_planted_neuron(left, planted):
    r, arrays, answered = left["r"], left["a"], planted(ManyKeys, 24)[-1]
    assert np.unravel_index(np.abs(arrays["rho.resid_post"]).argmax(), (2, 8)) in [(0, 0), (1, 0)]
    assert arrays["nmd.resid_post"][1, 0] == pytest.approx(1) and r["max_abs_rho"][1] > 0.99
    assert arrays["p"][1, 0] < 0.05 and r["significant_share"][1] >= 1 / 8
    assert r["null_significant_share"] == [0.0, 0.0] and r["n_pairs"] == 40 == len(arrays["memory"])
    train = answered[answered.split == "train"]
    assert r["n_keys"] == train.key.nunique() and r["site"] == "resid_post" == left["maps"].site
    assert {f"{name}.{site}" for name in ("nmd", "rho") for site in SITES} <= arrays.keys()
    assert all(values.dtype == np.float32 for values in arrays.values())
    assert set(left["null"].behavior) == {"memorization", "generalization", "both"}
    assert set(left["null"].sign) == {"drawn", "oriented"}
    assert r["pairs"] == "order" and "base" not in r


def test_the_base_is_read_on_the_same_pairs(left):
    """It has the planted neuron at half the size: the same map, half of NMD, as significant."""
    r, null = left["r"], left["r"]["base_null"]
    assert null["correlation"] == pytest.approx([1, 1])
    assert null["n_pairs"] == r["n_pairs"] and null["n_keys"] == r["n_keys"]
    for name in ("mean_abs_nmd", "nmd_split_half"):
        assert null[name] == pytest.approx(np.array(r[name]) / 2)
    assert null["significant_share"] == r["significant_share"]
    assert r["nmd_split_half"][1] == pytest.approx(1 / np.sqrt(8))  # one of eight neurons, by 1
    norms = np.linalg.norm(np.concatenate([left["a"]["memory"], left["a"]["rule"]])[:, 1], axis=1)
    assert r["nmd_relative"][1] == pytest.approx(1 / norms.mean(), rel=1e-3)


def test_the_other_kind_of_pair_is_reported_apart(left, planted):
    """In this task both kinds change a word, and the last token says which behaviour is shown."""
    r, kinds = left["r"], left["r"]["by_change"]
    assert {k: v for k, v in kinds["order"].items() if k in r} == {
        k: r[k] for k in kinds["order"] if k in r
    }
    assert kinds["order"]["base"] == r["base_null"]
    answered = planted(ManyKeys, 24)[-1]
    n = len(flips(answered[answered.split == "train"], "content"))
    assert kinds["content"]["n_pairs"] == min(40, n)
    assert kinds["content"]["same_token_share"] == 0 and kinds["content"]["same_token"] is None
    table = left["lab"].table("layers")
    assert set(zip(table.change, table.model, table.among)) == {
        (change, model, "all") for change in CHANGES for model in ("trained", "base")
    }


def test_words_that_tell_the_behaviour_turn_the_pairs_that_stay(left):
    r = left["r"]
    assert r["words"]["value"] == 1 and r["words"]["n"] == 40  # the last word decides
    assert len(r["oriented_null_significant_share"]) == 2


def test_what_the_test_can_find_is_said(left):
    r = left["r"]
    assert r["n_neurons"] == 16 and r["smallest_p"] == pytest.approx(
        max(1 / 1001, 2.0 ** (1 - r["n_keys"]))
    )
    k = r["fewest_together"]
    alone = np.ones(16)
    alone[: k - 1] = r["smallest_p"]
    assert k == 1 or not discoveries(alone).any()
    alone[:k] = r["smallest_p"]
    assert discoveries(alone).sum() == k


def test_without_a_base_there_is_no_null_of_it(planted, tmp_path):
    made = planted(ManyKeys, 24)
    given = {"n_permutations": 200, "max_pairs": 20, "pairs": "content"}
    left = run_cell(planted_lab("04_differentiation", tmp_path, made, given))
    r = left["r"]
    assert r["base_null"] is None and r["by_change"]["content"]["base"] is None
    assert r["pairs"] == "content" and r["n_pairs"] == 20
    assert set(left["lab"].table("layers").model) == {"trained"}
    for drawing in (figures.against_base(r), figures.layer_distributions(r, left["a"])):
        assert "base 0%" not in drawing.alt
    assert all("no base" in line for line in science.against_base(r))


def test_on_track_given_pairs_in_one_wording_stand_beside_the_others(planted, tmp_path):
    lab = planted_lab("04_differentiation", tmp_path, planted(Worded, 24), {"max_pairs": 20})
    lab.parameters = lab.parameters.model_copy(update={"track": "given"})
    left = run_cell(lab)
    found, a = left["r"]["same_wording"], left["a"]
    assert found["n_pairs"] == 20 and found["significant_share"][0] is not None
    assert a["same_wording.nmd.resid_post"][1, 0] == pytest.approx(1)
    assert a["nmd.resid_post"].shape == (2, 8) and found["correlation"] == pytest.approx([1, 1])
    assert "one wording" in figures.same_wording(left["r"]).alt
    assert science.same_wording_in_words(found, left["r"]["significant_share"]).startswith(
        "in one wording: 20 pairs"
    )


# -- pairs -----------------------------------------------------------------------------------------

ASKED = pd.DataFrame(
    [
        ("a", 0, 0, "", "memorization", "one near-memory"),
        ("a", 0, 1, "order", "generalization", "two near-memory"),
        ("a", 0, 2, "content", "generalization", "two near-rule"),
        ("b", 1, 0, "", "memorization", "three near-memory"),
        ("b", 1, 1, "content", "generalization", "four near-memory"),
    ],
    columns=["key", "group", "rephrasing", "change", "behavior", "prompt"],
).assign(split="train", setting="", kind="conflict", memory_answer="M", rule_answer="R")


class Settled(Planted):
    """Its prompts have a setting: whether their last word is near."""

    def nearness(self, instance):
        return float("near" in instance.prompt.split()[-1])


def test_prompts_of_a_pair_are_alike_in_last_token_and_in_setting(planted):
    tokenizer = planted()[1]
    said = ASKED.prompt.replace(
        {"one": "word1", "two": "word22", "three": "word3", "four": "word4"}, regex=True
    )
    asked = ASKED.assign(prompt="key1 " + said)
    for change, same in (("order", [True]), ("content", [False, True])):
        pairs = science.TrainPairs.differing_by(change, asked, 10)
        alike = pairs.alike(planted()[2], tokenizer)
        assert alike["same_token"].tolist() == same and pairs.change == change
        assert set(alike) == {"same_token"}  # the task has no settings
        alike = pairs.alike(Settled(10, 0), tokenizer)
        assert alike["same_setting"].all()  # a near prompt stays near
    far = asked.assign(
        prompt=asked.prompt.replace({"word22 near-rule": "word22 far-rule"}, regex=True)
    )
    alike = science.TrainPairs.differing_by("content", far, 10).alike(Settled(10, 0), tokenizer)
    assert alike["same_setting"].tolist() == [False, True]
    none = science.TrainPairs.differing_by("order", asked[asked.key == "b"], 10)
    assert none.read(*planted()[:2], "resid_post").memory.shape == (0, 2, 8)
    empty = {"same_token": np.zeros(0, dtype=bool)}
    assert science.layers({"trained": none}, none, empty, np.zeros((2, 8)), None) == []


def test_states_belong_to_the_prompts_of_the_pairs(planted):
    """Coordinate 0 is what the last word says: 0 from memory, 1 or 2 by the rule."""
    model, tokenizer, _, _, answered = planted()
    pairs = science.TrainPairs.of(answered, P)
    states = pairs.read(model, tokenizer, "resid_post")
    train = answered[answered.split == "train"].reset_index(drop=True)
    for side in ("memory", "rule"):
        last = train.prompt[pairs.flips[side]].str.split().str[-1]
        expected = last.map(
            {"near-memory": 0.0, "far-memory": -3.0, "near-rule": 1.0, "far-rule": 2.0}
        )
        assert getattr(states, side)[:, -1, 0] == pytest.approx(expected.to_numpy())
    assert (pairs.keys == train.key[pairs.flips.memory]).all()
    for behavior, differences in states.stays.items():
        assert len(differences) == len(pairs.stays[behavior]) and not differences[..., 0].any()


def test_too_few_pairs_end_the_lab_with_a_sentence(planted):
    answered = planted()[-1].assign(behavior="memorization")
    with pytest.raises(StudyError, match="two flip pairs on train keys that differ by order"):
        science.TrainPairs.of(answered, P)


def test_only_train_keys_are_read(planted):
    answered = planted()[-1]
    assert len(flips(answered, "order")) > len(science.TrainPairs.of(answered, P).flips)
    assert set(science.TrainPairs.of(answered, P).answered.split) == {"train"}


def test_what_is_stored_is_finite_float32():
    maps = {"ln_2": NeuronMaps("ln_2", np.ones((1, 2)), np.zeros((1, 2)))}
    stored = science.as_stored({"effect_size": np.array([[np.inf, np.nan]])}, maps)
    assert stored["effect_size"].tolist() == [[0, 0]] and stored["effect_size"].dtype == np.float32
    assert stored["nmd.ln_2"].tolist() == [[1, 1]]


def test_the_top_neurons_have_intervals_over_keys(left, planted):
    table = science.top_neurons(left["a"], planted(ManyKeys, 24)[-1], left["p"])
    assert list(table.columns) == science.TOP_COLUMNS and len(table) == 8
    assert table.neuron[0] == 0 and table.layer[0] in (1, 2)  # layers count from 1
    assert table.nmd_low[0] <= table.nmd[0] <= table.nmd_high[0]


# -- what an adapter inherits ----------------------------------------------------------------------

BASE = {
    "mean_abs_nmd": {"on": [0.1, 0.25], "off": [0.05, 0.1], "difference": [0.05, 0.15]},
    "correlation": [None, 0.5],
    "correlation_all": 0.4,
    "top_share": 0.05,
    "top_in_common": 0.3,
    "n_pairs": 12,
}
RATES = {"memory_rate": 0.25, "rule_rate": 0.5, "other_rate": 0.25}
CURVE = pd.DataFrame(
    [
        {"scale": scale, "n": 4}
        | {f"{name}{end}": rate + off for name, rate in RATES.items() for end, off in ENDS}
        for ENDS in [(("", 0), ("_low", -0.1), ("_high", 0.1))]
        for scale in (0.0, 1.5)
    ]
)


def test_the_model_against_its_base_in_words(left):
    order, content = science.against_base(left["r"])
    assert order.startswith("order (n=40,") and "0% ask about the same token" in order
    assert order.endswith("maps correlated 1.00 1.00") and content.startswith("content (n=")
    few = science.against_base({"by_change": {"content": None}})
    assert few == ["content: fewer than two pairs"]


def test_inheritance_compares_both_by_split_halves(left):
    a = left["a"]
    pairs = left["lab"].answered()
    pairs = science.TrainPairs.of(pairs, left["p"])
    on = science.PairStates("resid_post", a["memory"], a["rule"], {})
    off = science.PairStates("resid_post", a["memory"] / 4, a["rule"] / 4, {})
    base = science.inherit(on, off, pairs, 0)
    assert base["correlation_all"] == pytest.approx(1) and base["n_pairs"] == 40
    halves = {name: np.array(of) for name, of in base["nmd_split_half"].items()}
    assert halves["off"] == pytest.approx(halves["on"] / 4)
    assert halves["difference"] == pytest.approx(halves["on"] * 0.75)


def test_the_base_in_words():
    assert science.base_in_words(BASE) == (
        "correlation of NMD with the adapter on and off, by layer: undefined, 0.50; over all layers 0.40\n"
        "top 5% of the neurons by |rho| in common: 30% (by chance 5%)"
    )
    assert "over all layers undefined" in science.base_in_words(BASE | {"correlation_all": None})


# -- figures ---------------------------------------------------------------------------------------


def test_the_figures_say_their_numbers(left):
    r, arrays, maps = left["r"], left["a"], left["maps"]
    heatmaps = figures.neuron_heatmaps(maps)
    largest = ", ".join(f"{v:.2f}" for v in r["max_abs_rho"])
    assert heatmaps.name == "nmd-heatmap" and heatmaps.alt.endswith(f"|rho| by layer: {largest}")
    layers = figures.layer_distributions(r | {"significant_share": [0.125, 0.5]}, arrays)
    assert layers.name == "layers" and "layer; behaviour differs: 12%, 50%; stays: 0%" in layers.alt
    in_base = ", ".join(f"{v:.0%}" for v in r["base_null"]["significant_share"])
    assert layers.alt.endswith(f"same prompts, base: {in_base}")
    base = figures.against_base(r)
    assert base.name == "base" and base.alt.count("correlation of the maps 1.00, 1.00") == 2
    assert f"order (n=40): trained {in_base}; base {in_base}" in base.alt
    few = figures.against_base(r | {"by_change": r["by_change"] | {"content": None}})
    assert few.alt.endswith("content: fewer than two pairs")
    top = figures.top_neuron_map(maps.rho)
    counts = [int(bar.get_height()) for bar in top.figure.axes[0].patches]
    assert sum(counts) == 2 and f"in each layer: {counts[0]}, {counts[1]}. Right" in top.alt


def test_the_figure_of_one_wording_says_its_numbers(left):
    one = {
        "n_pairs": 6,
        "n_clusters": 3,
        "significant_share": [0.0, 0.25],
        "correlation": [None, 0.5],
    }
    one |= {"null_significant_share": [None, None], "nmd_relative": [0.1, 0.2]}
    drawing = figures.same_wording(left["r"] | {"same_wording": one})
    assert drawing.name == "same-wording" and "one wording 0%, 25%;" in drawing.alt
    assert "one, answered alike undefined, undefined" in drawing.alt
    assert drawing.alt.endswith("Correlation of both NMDs: undefined, 0.50")
    assert "n=6, 3 couples of keys" in drawing.caption


def test_a_trained_task_has_no_pairs_in_one_wording(left):
    assert "same_wording" not in left["r"]
    assert not [name for name in left["a"] if name.startswith("same_wording")]


def test_the_figure_of_the_base_says_its_numbers():
    drawing = figures.inheritance(BASE, CURVE)
    assert drawing.name == "inheritance"
    assert "adapter on: 0.100, 0.250; off: 0.050, 0.100. Correlation" in drawing.alt
    assert "by layer: undefined, 0.50. Right" in drawing.alt
    assert drawing.alt.endswith("scale 1.5: memory 25%, rule 50%, other 25%")
