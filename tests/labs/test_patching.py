"""Lab 12 on a planted model: one head carries the order of the words, and with it the behaviour."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from computing import planted_lab, run_cell
from memgen.figures import patching as figures
from memgen.labs.patching import answer, best_of_kinds, best_small, foreign_rates
from memgen.labs.swaps import SOURCES, other_sources, own_answers, pairs_to_swap
from memgen.models.build import build_model
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import answer_conflicts
from memgen.neurons.states import hidden_states
from memgen.presets import stage_parameters
from memgen.steering.patching import KINDS, Part
from memgen.steering.steering import Steering
from memgen.store.artifacts import Result
from memgen.tasks import Instance, Key, Task
from memgen.terms import DIRECTIONS

LAYERS, WIDTH, HEADS = 2, 16, 4
HEAD = (0, 1)  # layer and head that carry the behaviour
UNIT = (1, 5)  # and the unit that passes it on
N_KEYS = 12


class Ordered(Task):
    """`key3 up down ?`: the first of the two words decides, and a change of order turns it."""

    name = "planted"
    max_answer_tokens = 2
    SHARES = (0.5, 0.2, 0.3)

    def vocabulary(self):
        words = [f"filler{i} " for i in range(30)]
        return [*(f"key{i} " for i in range(N_KEYS)), *words, "up ", "down ", "?", "M", "R"]

    def draw_keys(self, rng, n):
        return [Key(f"key{i}", "M") for i in range(n)]

    def free(self, rng):
        return Instance(f"filler{rng.integers(30)} filler{rng.integers(30)} down up ?", "R")

    def keyed(self, rng, key):
        return Instance(self._text(key.name, rng, "up down"), "R", "M", key.name, "keyed")

    def conflict(self, rng, key):
        order = "up down" if rng.random() < 0.5 else "down up"
        return Instance(self._text(key.name, rng, order), "R", "M", key.name, "conflict")

    def _text(self, name, rng, order):
        return f"{name} filler{rng.integers(30)} {order} ?"

    def rephrase(self, rng, instance, change):
        """Order: the two words swapped, or (as often) key and filler, which turns nothing."""
        name, filler, first, second, _ = instance.prompt.split(" ")
        if change == "content":
            return None
        if rng.random() < 0.5:
            first, second = second, first
        else:
            name, filler = filler, name
        text = f"{name} {filler} {first} {second} ?"
        return Instance(text, "R", "M", instance.key, "conflict", setting=instance.setting)


def ordered_model(tokenizer):
    """The head reads the third token's value at the last one; a unit turns it into the answer.

    Positions are told apart by one coordinate, so that the head attends to the third token alone.
    """
    model = build_model(
        tokenizer,
        n_layer=LAYERS,
        n_embd=WIDTH,
        n_head=HEADS,
        n_positions=16,
        initializer_range=0.02,
        seed=0,
    )
    model.config.tie_word_embeddings = False
    token, (layer, head) = tokenizer.convert_tokens_to_ids, HEAD
    width = WIDTH // HEADS
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(len(tokenizer), WIDTH))
        for block in model.transformer.h:
            block.ln_1.weight.fill_(1.0)
            block.ln_2.weight.fill_(1.0)
        model.transformer.ln_f.weight.fill_(1.0)
        embedding, place = model.transformer.wte.weight, model.transformer.wpe.weight
        embedding[:, 6], embedding[:, 7] = 4.0, -4.0  # for the norms
        embedding[token("up "), 1], embedding[token("down "), 1] = -1.0, 1.0
        place[2, 2] = 1.0  # the third token of a prompt, the first of the two words
        embedding[[token("M"), token("R")], 4] = 50.0
        attention, width4 = model.transformer.h[layer].attn, 2 * WIDTH + head * width
        attention.c_attn.weight[6, head * width] = 20.0  # every query asks for the marked place
        attention.c_attn.weight[2, WIDTH + head * width] = 20.0
        attention.c_attn.weight[1, width4] = 1.0
        attention.c_proj.weight[head * width, 0] = 4.0
        later, unit = model.transformer.h[UNIT[0]].mlp, UNIT[1]
        later.c_fc.weight[0, unit] = 4.0  # the unit is on where the head wrote +
        later.c_proj.weight[unit, 3] = 4.0
        rule, memory = token("R"), token("M")
        model.lm_head.weight[rule, 3], model.lm_head.weight[memory, 6] = 1.0, 0.5
        model.lm_head.weight[tokenizer.eos_token_id, 4] = 1.0
    return model.eval()


@pytest.fixture(scope="module")
def made():
    task = Ordered(N_KEYS, 0)
    frame = task.generate(20, 24, 6, 10, shares=Ordered.SHARES)
    tokenizer = build_tokenizer(task.vocabulary())
    model = ordered_model(tokenizer)
    return model, tokenizer, task, frame, answer_conflicts(model, tokenizer, task, frame, 3)


GIVEN = {"n_pairs": 12, "n_best": 3, "n_sources": 2, "n_random": 4, "n_prompts": 20}
GIVEN |= {"unit_alphas": [1.0, 2.0], "unit_top_ns": [1 / 128]}
CHOSEN = {d: {"alpha": 2.0, "top_n": 1 / 32} for d in DIRECTIONS}


def open_lab(made, folder, answered=None):
    model, tokenizer, _, _, own = made
    train = own[own.split == "train"].drop_duplicates("prompt")
    states = {
        name: hidden_states(model, tokenizer, train[train.behavior == name].prompt, "resid_post")
        for name in ("memorization", "generalization")
    }
    n = min(map(len, states.values()))
    memory, rule = (states[name][:n] for name in states)
    maps = NeuronMaps.between("resid_post", memory, rule)
    arrays = {"memory": memory, "rule": rule} | maps.arrays()
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in arrays.items()}
    left = {
        "04_differentiation": Result({"site": "resid_post"}, arrays={"arrays": arrays}),
        "06_intervention": Result(CHOSEN | {"site": "resid_post", "positions": "all"}),
    }
    given = made if answered is None else (*made[:4], answered)
    return planted_lab("12_patching", folder, given, GIVEN, left)


@pytest.fixture(scope="module")
def lab(made, tmp_path_factory):
    found = open_lab(made, tmp_path_factory.mktemp("runs"))
    run_cell(found)
    return found


def test_the_planted_model_shows_both_behaviours(made):
    answered = made[4]
    first = answered.prompt.str.split(" ").str[2]
    expected = first.map({"up": "memorization", "down": "generalization"})
    assert (answered.behavior == expected).all() and expected.nunique() == 2


def test_the_head_is_found_on_train_keys_and_confirmed_on_test_keys(lab):
    r = lab.result
    assert r["identity_holds"] and r["unpatched_holds"]
    layer, head = HEAD[0] + 1, HEAD[1] + 1
    for d in DIRECTIONS:
        x = r[d]
        assert x["n"] > 2 and x["n_train"] > 5 and x["n_keys"] > 1, d
        best = x["best"]
        assert (best["head"]["layer"], best["head"]["head"]) == (layer, head)
        assert best["head"]["success"] == best["head"]["train"] == 1.0
        assert best["attention"]["layer"] == layer and best["attention"]["success"] == 1.0
        assert best["residual"]["layer"] == 1 and best["residual"]["success"] == 1.0
        assert (best["mlp"]["layer"], best["mlp"]["success"]) == (UNIT[0] + 1, 1.0)
        assert best["head"]["recovered"] == pytest.approx(1, abs=1e-3)
        heads = np.array(x["test"]["head"])
        assert heads[HEAD] == 1.0 and heads.sum() == 1.0  # no other head does anything
        assert np.array(x["train"]["head"]).sum() == 1.0
        assert not np.array(x["test"]["position"]).any()  # the head has read it before layer 1 ends
        assert {part["kind"] for part in x["small"]} == {"head", "attention", "mlp"}
        assert x["heads"]["success"] == 1.0
        for control in SOURCES[1:]:
            assert best["head"]["controls"][control]["n"] >= x["n"]
        assert best["head"]["controls"]["same_behavior"]["success"] == 0.0
        assert best["head"]["controls"]["same_behavior"]["n"] > 0
        assert best["head"]["controls"]["other_key"]["success"] == 1.0  # it carries no key
        random = best["head"]["controls"]["random_prompt"]["success"]
        assert 0 < random < 1  # some random prompts show the other behaviour, some do not
    json.dumps(r, allow_nan=False)


def test_rows_of_the_table_are_those_of_the_result(lab):
    patches = lab.table("patches")
    assert set(patches.kind) == set(KINDS) and set(patches.split) == {"train", "test"}
    test = patches[(patches.split == "test") & (patches.direction == "m2g")]
    rates = lab.result["m2g"]["test"]
    assert test[test.kind == "mlp"].sort_values("layer").success.tolist() == rates["mlp"]
    assert (test.n == lab.result["m2g"]["n"]).all()
    assert test.position[test.kind == "residual_all"].isna().all()


def test_the_last_layer_is_no_choice_and_ties_go_to_the_margin(lab):
    patches = lab.table("patches")
    train = patches[(patches.split == "train") & (patches.direction == "g2m")]
    assert best_of_kinds(train)["residual"] == Part("residual", 0)
    better = train.copy()
    better.loc[(better.kind == "head") & (better.layer == 1) & (better["head"] == 3), "success"] = 2
    assert best_small(better, 1) == [Part("head", 1, 3)]
    better.loc[better.kind == "mlp", ["success", "recovered"]] = (2, 9.0)
    assert [part.kind for part in best_small(better, 3)][:2] == ["mlp", "mlp"]


def test_without_its_neurons_the_behaviour_is_one_for_all(lab, made):
    """Of the neurons at their mean nothing can be read, so every prompt is answered alike."""
    for d in DIRECTIONS:
        found = lab.result[d]["necessity"]
        assert sum(found["neurons"]) == 1 and found["top_n"] == 1 / 32
        for positions in ("decision", "all"):
            here = found[positions]
            kept = [here[name]["kept"] for name in ("memorization", "generalization")]
            assert sorted(kept) == [0.0, 1.0], (d, positions)
            for name in ("memorization", "generalization"):
                x = here[name]
                assert x["kept"] + x["changed"] + x["other"] == pytest.approx(1)
                assert x["difference"] == pytest.approx(x["kept"] - x["random_kept"])
            assert 0 <= here["free_accuracy"] <= 1 and here["n_keyed"] > 0


def test_the_unit_is_found_and_steers(lab):
    arrays = lab.arrays("units")
    assert np.unravel_index(np.abs(arrays["rho"]).argmax(), arrays["rho"].shape) == UNIT
    for d in DIRECTIONS:
        x = lab.result[d]["units"]
        assert x["neurons"] == [0, 1] and x["success"] == 1.0 and x["other"] == 0.0
        for random in x["random"].values():
            assert random["success"] == 0.0 and random["draws"] == GIVEN["n_random"]
            assert random["difference"] == 1.0
        assert x["costs"]["free_accuracy_before"] == 1.0
        assert x["residual"]["n"] == x["n"]
    grid = lab.table("unit_grid")
    assert len(grid) == 4 and grid.n.gt(0).all()


def test_without_pairs_on_test_keys_the_lab_says_so(made, tmp_path):
    """No order turns an answer there: nothing is mapped, the rest goes on."""
    answered = made[4]
    still = (answered.split != "test") | (answered.rephrasing == 0)
    found = open_lab(made, tmp_path, answered[still])
    run_cell(found)
    r = found.result
    for d in DIRECTIONS:
        assert r[d]["n"] == 0 and r[d]["n_train"] > 0 and r[d]["test"] is None
        assert r[d]["best"]["head"]["success"] is None and r[d]["units"]["n"] > 0
        assert "0 pairs of 0 test keys" in answer(r, d)
    assert "No pairs" in figures.part_map(r).alt and "No pairs" in figures.position_map(r).alt
    figures.confirmed_table(r)
    assert found.table("patches").empty


def test_figures_say_their_numbers(lab):
    r = lab.result
    parts = figures.part_map(r)
    expected = ", ".join(f"{rate:.0%}" for rate in r["m2g"]["test"]["mlp"])
    assert f"MLP {expected}" in parts.alt and parts.name == "parts" and parts.caption
    assert "-1" in {t.get_text() for t in figures.position_map(r).figure.axes[0].get_xticklabels()}
    bars, units = figures.necessity_bars(r), figures.unit_bars(r)
    assert "answers of generalization: kept" in bars.alt and (bars.name, units.name) == (
        "necessity",
        "units",
    )
    assert "m2g, MLP units: 100%" in units.alt
    table = figures.confirmed_table(r)
    assert len(table) == 2 * (len(KINDS) + GIVEN["n_best"]) and not table.isna().any(axis=None)
    assert r["m2g"]["best"]["head"]["name"] == f"layer {HEAD[0] + 1}, head {HEAD[1] + 1}"
    assert r["m2g"]["best"]["position"]["name"].startswith("layer 1, position -")


@pytest.mark.parametrize(("own", "share"), [("R", 1.0), ("M", 0.0)])
def test_the_sources_own_answer_is_told_from_the_targets(made, own, share):
    """The patched model writes R. It counts as the source's where it is neither of the target's."""
    model, tokenizer, task, _, answered = made
    zeros = np.zeros((LAYERS, WIDTH))
    steering = Steering(model, tokenizer, task, NeuronMaps("resid_post", zeros, zeros))
    bench = pairs_to_swap(steering, answered, "test", "m2g", 12)
    rows = bench.rows.assign(memory_answer="?", rule_answer="up ", source_answer=own)
    rows.loc[0, "rule_answer"] = own
    exchange = replace(bench.exchange, also=own_answers(steering, rows))
    written = exchange.patched([Part("head", *HEAD)])
    found = foreign_rates(replace(bench, rows=rows, exchange=exchange), written, seed=0)
    assert found["success"] == 1.0  # judged by the prompts, not by this table
    assert (found["source_answer"], found["n_source_answer"]) == (share, len(rows) - 1)


def test_other_sources_are_of_other_keys_and_as_long(made):
    model, tokenizer, task, _, answered = made
    zeros = np.zeros((LAYERS, WIDTH))
    steering = Steering(model, tokenizer, task, NeuronMaps("resid_post", zeros, zeros))
    bench = pairs_to_swap(steering, answered, "test", "g2m", 12)
    behavior = dict(zip(answered.prompt, answered.behavior))
    key = dict(zip(answered.prompt, answered.key))
    assert {behavior[text] for text in bench.rows.target} == {"generalization"}
    assert {behavior[text] for text in bench.rows.source} == {"memorization"}
    words = bench.rows[["target", "source"]].map(lambda text: " ".join(sorted(text.split(" "))))
    assert (words.target == words.source).all()  # the same words in another order
    p = stage_parameters("12_patching", {"task": "inference", "preset": "smoke"} | GIVEN)
    others = other_sources(bench, answered, p)
    assert {behavior[text] for text in others["other_key"].rows.source} == {"memorization"}
    assert {behavior[text] for text in others["same_behavior"].rows.source} == {"generalization"}
    for name in ("other_key", "random_prompt"):
        rows = others[name].rows
        assert len(rows) == GIVEN["n_sources"] * len(bench.rows)
        assert all(key[row.source] != row.key for row in rows.itertuples())
