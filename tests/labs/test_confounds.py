"""The confounds, each planted in arrays or in a model where it is known to be there, and found; and
not found where it is not.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from computing import planted_lab, run_cell
from memgen.config.analyses import ConfoundsParameters
from memgen.errors import ArchitectureError
from memgen.figures import confounds as figures
from memgen.labs.confounds import answers, checks, flipping_and_stable, leakage
from memgen.models.build import build_model
from memgen.models.generate import Sampling, sample_answers, tokenize_prompts
from memgen.neurons.lens import first_token_margins, lens_logits
from memgen.neurons.movement import movement
from memgen.neurons.probes import Examples, probe_by_layer
from memgen.neurons.splits import compare_splits, fold_numbers, held_out_scores
from memgen.neurons.states import hidden_states
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
    for number, split in enumerate(("train", "test")):
        keys[split] = np.repeat([f"{split}{k}" for k in range(N_KEYS)], PER_KEY)
        labels[split] = np.tile([0, 1], N_KEYS * PER_KEY // 2)
        states[split] = rng.normal(size=(len(labels[split]), n_layer, width))
    return states, labels, keys


# -- context ---------------------------------------------------------------------------------------
def pair_differences(rng, n: int, along: float, noise: float = 0.3) -> np.ndarray:
    """`[n, 2, WIDTH]`: `along` coordinate 0 in the second layer, noise everywhere."""
    difference = rng.normal(0, noise, (n, 2, WIDTH))
    difference[:, 1, 0] += along
    return difference


def test_movement_is_measured_in_units_of_the_train_flips():
    rng = np.random.default_rng(0)
    train = pair_differences(rng, 400, 2.0)
    found = {
        "flip": pair_differences(rng, 100, 1.0),
        "memory": pair_differences(rng, 60, 0.0),
        "rule": pair_differences(rng, 40, 0.0),
    }
    keys = {kind: np.arange(len(d)) % 10 for kind, d in found.items()}
    table = movement(train, found, keys, seed=0, n_resamples=200).set_index(["kind", "layer"])
    assert table["mean"]["flip", 2] == pytest.approx(0.5, abs=0.05)  # half as far as in training
    assert table["mean_low"]["flip", 2] < 0.5 < table["mean_high"]["flip", 2]
    for kind, n in (("memory", 60), ("rule", 40), ("same", 100)):
        assert (
            table["mean"][kind, 2] == pytest.approx(0, abs=0.05)
            and table.n[kind, 2] == n
            and table.n_keys[kind, 2] == 10
        )
        assert table["size"][kind, 2] == pytest.approx(
            0.3 / 2 * np.sqrt(2 / np.pi), rel=0.25
        )  # what is left is the noise, in these units
    own = movement(
        train,
        {"flip": train, "memory": train[:0], "rule": train[:0]},
        {"flip": np.arange(400), "memory": [], "rule": []},
        0,
        20,
    )
    np.testing.assert_allclose(own[own.kind == "flip"]["mean"], 1.0)
    assert (
        own[own.kind == "same"][["mean", "size"]].isna().all(axis=None)
        and (own[own.kind == "same"].n == 0).all()
    )


def test_rephrasing_that_moves_the_state_is_seen_in_the_size_and_if_it_drifts_in_the_mean():
    rng = np.random.default_rng(1)
    train = pair_differences(rng, 200, 1.0, 0.05)
    either_way = pair_differences(rng, 100, 0.0, 0.05)
    either_way[:, 1, 0] += np.tile([1.0, -1.0], 50)
    found = {"flip": train, "memory": either_way, "rule": pair_differences(rng, 100, 1.0, 0.05)}
    table = movement(
        train,
        found,
        {"flip": np.arange(200), "memory": np.arange(100), "rule": np.arange(100)},
        0,
        50,
    ).set_index(["kind", "layer"])
    assert table["mean"]["memory", 2] == pytest.approx(0, abs=0.05) and table["size"][
        "memory", 2
    ] == pytest.approx(1, abs=0.05)
    assert table["mean"]["rule", 2] == pytest.approx(1, abs=0.05)


def test_no_train_pair_gives_no_direction():
    some = np.ones((3, 2, WIDTH))
    table = movement(
        some[:0],
        {"flip": some, "memory": some, "rule": some},
        dict.fromkeys(("flip", "memory", "rule"), np.arange(3)),
        0,
        10,
    )
    assert table["mean"].isna().all() and (table[table.kind == "flip"].n == 3).all()


# -- logit lens ------------------------------------------------------------------------------------
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_lens_at_the_last_layer_is_the_model_and_below_it_the_model_cut_short(
    planted, architecture
):
    _, tokenizer, *_, answered = planted()
    model = build_model(
        tokenizer,
        architecture=architecture,
        n_layer=3,
        n_embd=16,
        n_head=2,
        n_positions=16,
        initializer_range=0.3,
        seed=1,
    ).eval()
    prompts = list(answered.prompt[:20])
    tokens = np.random.default_rng(0).integers(0, len(tokenizer), (20, 4))
    lens = lens_logits(model, hidden_states(model, tokenizer, prompts, "resid_post"), tokens)
    assert lens.shape == (20, 3, 4)
    ids, mask = tokenize_prompts(tokenizer, prompts)
    blocks = model.base_model.h if architecture == "gpt2" else model.base_model.layers
    for depth in (3, 2):
        with torch.inference_mode():
            own = (
                model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                )
                .logits[:, -1]
                .numpy()
            )
        np.testing.assert_allclose(
            lens[:, depth - 1], np.take_along_axis(own, tokens, axis=1), atol=1e-4
        )
        del blocks[depth - 1]
        model.config.num_hidden_layers = depth - 1


def test_an_unknown_architecture_is_named():
    class Other(torch.nn.Linear):
        pass

    with pytest.raises(ArchitectureError, match="final norm of Other.*GPT2LMHeadModel"):
        lens_logits(Other(2, 2), np.zeros((1, 1, 2)), np.zeros((1, 1), int))


# -- answer leakage --------------------------------------------------------------------------------
def read(margins, states, words, labels, keys, **changes):
    """`leakage` of these arrays, by split."""
    train, test = (Examples(states[s], labels[s], keys[s]) for s in ("train", "test"))
    return leakage(margins, words, train, test, parameters(readable=0.75, seed=0, **changes))


def planted_reading(seed: int = 0, permuted: bool = False):
    """Three layers: the state tells the behaviour from the first on, the lens margin from the
    third; the words know nothing.
    """
    rng = np.random.default_rng(seed)
    states, labels, keys = sides(rng, n_layer=3)
    for split in states:
        states[split][..., 0] += 3.0 * labels[split][:, None]
    margins = rng.normal(size=(len(labels["test"]), 3))
    margins[:, 2] += 4.0 * (labels["test"] - 0.5)
    if permuted:
        labels = {split: rng.permutation(of) for split, of in labels.items()}
    return margins, states, rng.normal(size=len(margins)), labels, keys


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
    margins, states, words, labels, keys = given
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
    margins, states, words, labels, keys = planted_reading()
    result, _ = read(margins[:, ::-1], states, words, labels, keys, n_resamples=20)
    assert result["readable_layer"] == 1 and result["layer_before"] is None
    assert result["probe_auc_before"] is None and result["lead_before_interval"] == [None, None]


@pytest.mark.parametrize("lost", ["test rule", "train rule", "test", "train"])
def test_reading_survives_a_missing_behaviour_and_a_missing_split(lost):
    margins, states, words, labels, keys = planted_reading()
    split, *behaviour = lost.split()
    kept = labels[split] == 0 if behaviour else labels[split] < 0
    if split == "test":
        margins, words = margins[kept], words[kept]
    for part in (states, labels, keys):
        part[split] = part[split][kept]
    result, table = read(margins, states, words, labels, keys, n_resamples=10)
    assert result["probe_auc"] == [None] * 3 and result["n"] == len(margins) and len(table) == 3
    assert result["auc"] == [None] * 3 if split == "test" else result["readable_layer"] == 3
    json.dumps(result, allow_nan=False)


def test_a_key_on_both_sides_is_refused():
    margins, states, words, labels, keys = planted_reading()
    with pytest.raises(ValueError, match="both train and test"):
        same = {"train": keys["train"], "test": keys["train"]}
        read(margins, states, words, labels, same, n_resamples=10)


# -- key identity ----------------------------------------------------------------------------------
def keyed_states(rng, leak: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One layer in which either the key alone shows (each key prefers a behaviour, `leak`) or the
    behaviour alone.
    """
    keys = np.repeat(np.arange(N_KEYS), PER_KEY)
    prefers = rng.permutation(np.tile([0.15, 0.85], N_KEYS // 2))
    labels = (rng.random(len(keys)) < (prefers[keys] if leak else 0.5)).astype(int)
    states = rng.normal(size=(len(keys), 1, 30))
    states += (
        2.0 * rng.normal(size=(N_KEYS, 1, 30))[keys]
    )  # whose key it is, in a random direction each
    if not leak:
        states[:, 0, 0] += 6.0 * labels
    return states, labels, keys


def test_a_random_split_leaks_the_key_and_a_split_by_key_does_not():
    states, labels, keys = keyed_states(np.random.default_rng(0), leak=True)
    result, table = compare_splits(Examples(states, labels, keys), seed=0, n_resamples=100)
    assert result["random_best"] > 0.75 and result["by_key_best"] < 0.65
    assert (
        result["leak"] == pytest.approx(result["random"][0] - result["by_key"][0])
        and result["leak_interval"][0] > 0.05
    )
    assert (table.n == len(labels)).all() and (table.n_keys == N_KEYS).all()
    assert compare_splits(Examples(states, labels, keys), seed=0, n_resamples=100)[0] == result


def test_without_a_leak_both_splits_agree():
    result, _ = compare_splits(
        Examples(*keyed_states(np.random.default_rng(0), leak=False)), seed=0, n_resamples=100
    )
    assert result["by_key_best"] > 0.85 and abs(result["leak"]) < 0.06


def test_shuffled_labels_leave_nothing_in_either_split():
    rng = np.random.default_rng(3)
    states, labels, keys = keyed_states(rng, leak=True)
    result, _ = compare_splits(
        Examples(states, rng.permutation(labels), keys), seed=0, n_resamples=10
    )
    assert abs(result["random"][0] - 0.5) < 0.12 and abs(result["by_key"][0] - 0.5) < 0.12


def test_folds_hold_whole_keys_or_random_prompts_and_never_what_was_fitted():
    keys = np.repeat(np.arange(12), 10)
    labels = np.tile([0, 1], 60)
    by_key, random = (fold_numbers(labels, keys, 0, by_key=by_key) for by_key in (True, False))
    assert set(by_key) == set(random) == set(range(5))
    assert (
        all(len(set(by_key[keys == key])) == 1 for key in range(12))
        and max(len(set(random[keys == key])) for key in range(12)) > 2
    )
    x = np.random.default_rng(0).normal(size=(120, 3))
    scores, changed = held_out_scores(x, labels, random), labels.copy()
    changed[random == 0] = 1 - changed[random == 0]
    again = held_out_scores(x, changed, random)
    np.testing.assert_array_equal(
        scores[random == 0], again[random == 0]
    )  # labels of a fold do not enter its own scores
    assert (scores[random == 1] != again[random == 1]).any()


@pytest.mark.parametrize(
    "labels, keys", [([], []), ([0, 1, 1], ["a"] * 3), ([1] * 6, list("aabbcc"))]
)
def test_splits_survive_no_prompts_one_key_and_one_behaviour(labels, keys):
    result, _ = compare_splits(
        Examples(np.zeros((len(labels), 2, 3)), np.array(labels, dtype=int), np.array(keys)),
        seed=0,
        n_resamples=10,
    )
    assert (
        result["by_key"] == result["random"] == [None, None]
        and result["leak"] is None
        and result["best_layer"] is None
    )
    assert result["n"] == len(labels)


# -- guessing --------------------------------------------------------------------------------------
def test_cold_samples_are_the_greedy_answer_and_warm_ones_follow_the_probabilities(planted):
    model, tokenizer, _, _, answered = planted(PlantedAlike)
    rows = answered[:6]
    cold = sample_answers(model, tokenizer, list(rows.prompt), 2, Sampling(4, 1e-3, 0))
    assert cold == [[text] * 4 for text in rows.answer]
    random = build_model(
        tokenizer, n_layer=1, n_embd=16, n_head=2, n_positions=16, initializer_range=0.5, seed=1
    ).eval()
    with torch.inference_mode():
        shares = (
            random(
                **tokenizer(rows.prompt.iloc[0], return_tensors="pt", return_token_type_ids=False)
            )
            .logits[0, -1]
            .softmax(-1)
            .numpy()
        )
    warm = sample_answers(random, tokenizer, [rows.prompt.iloc[0]], 1, Sampling(3000, 1.0, 0))[0]
    likely, rare = np.argsort(shares)[::-1][:5], np.argsort(shares)[::-1][5:40]
    for tokens in (*likely[:, None], rare):  # the whole vocabulary is drawn from, not its top only
        texts, expected = (
            {
                "" if token == tokenizer.eos_token_id else tokenizer.decode([token])
                for token in tokens
            },
            float(shares[tokens].sum()),
        )
        assert expected > 0.005 and np.mean([text in texts for text in warm]) == pytest.approx(
            expected, abs=4 * np.sqrt(expected / 3000)
        )


def test_samples_depend_on_the_seed_only_and_leave_the_stream_alone(planted):
    model, tokenizer, *_, answered = planted()
    prompts = list(answered.prompt[:5])
    before = torch.random.get_rng_state()
    first, again, other = (
        sample_answers(model, tokenizer, prompts, 2, Sampling(8, 1.0, seed)) for seed in (1, 1, 2)
    )
    assert first == again != other and [len(texts) for texts in first] == [8] * 5
    assert torch.equal(before, torch.random.get_rng_state())
    assert sample_answers(model, tokenizer, [], 2, Sampling(8, 1.0, 1)) == []


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
        "behavior": M,
        "prompt": "0/0",
    }  # flips in one group, stays in another
    found = flipping_and_stable(pd.DataFrame([*rows, twice]), 100)
    assert set(found["flip"].prompt) == {"0/0", "0/1"}  # the second R has no partner
    assert set(found["stable"].prompt) == {"1/0", "1/1", "2/0", "2/1", "2/2"}
    assert len(flipping_and_stable(pd.DataFrame(rows), 2)["stable"]) == 2


def test_margins_are_those_of_the_model_and_missing_where_both_answers_begin_alike(planted):
    model, tokenizer, *_, answered = planted()
    rows = answered[:4].assign(memory_answer=["M", "M", "M", "R"])
    margins = first_token_margins(model, tokenizer, rows)
    with torch.inference_mode():
        for prompt, margin in zip(rows.prompt[:3], margins):
            logits = model(
                **tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            ).logits[0, -1]
            m, r = (logits[tokenizer.convert_tokens_to_ids(answer)].item() for answer in "MR")
            assert margin == pytest.approx(abs(r - m), abs=1e-4)
    assert np.isnan(margins[3])


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
    for name in ("probe_auc", "lead", "gain"):
        assert (result["lens"][f"{name}_best"], result["lens"][f"{name}_best_interval"]) == (
            result["lens"][name][at],
            result["lens"][f"{name}_interval"][at],
        )
    warm, cold = (
        result["guessing"]["flip"],
        stage(made, temperature=1e-3).result["guessing"]["flip"],
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
