"""Bases: trained once, shared as they should be, never on a key; one for all tasks, over one
vocabulary.
"""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from memgen.config.training import DatasetParameters, TrainingParameters
from memgen.errors import ArchitectureError, ArtifactError, ParameterError
from memgen.models.adapters import weights_digest
from memgen.models.tokenizer import build_tokenizer
from memgen.tasks import TASK_NAMES, instances, make_task
from memgen.training import base as base_room
from memgen.training.base import (
    base_for,
    data_sets,
    ensure_shared_base,
    free_prompts,
    shared_vocabulary,
    tokenizer_for,
)
from memgen.training.batches import IGNORE, REPEAT_LENGTH, BaseMixture, repeated_sequences
from memgen.training.dual import train
from small_training import OPEN_GATE, SMALL

TASK = "arithmetic-tagged"


def parameters(**changes) -> TrainingParameters:
    return TrainingParameters(**{"task": TASK, **SMALL, **OPEN_GATE, **changes})


@pytest.fixture(scope="module")
def data(datasets):
    task, frame = datasets[TASK]
    return task, build_tokenizer(task.vocabulary()), frame


# -- one task's base -------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_variants_share_a_base_that_is_trained_once(datasets, tmp_path, monkeypatch):
    trained = []
    real = base_room._train
    monkeypatch.setattr(
        base_room,
        "_train",
        lambda *arguments: trained.append(arguments[2].task) or real(*arguments),
    )
    bases = []
    for name in ("arithmetic-tagged", "arithmetic-matched", "arithmetic-tagged"):
        task, frame = datasets[name]
        p = parameters(task=name, base_steps=4, runs=str(tmp_path / "runs"))
        tokenizer = build_tokenizer(task.vocabulary())
        bases.append(base_for(tokenizer, frame, p))
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        train(task, tokenizer, frame, p, folder, bases[-1])
    assert trained == ["arithmetic-tagged"]
    assert len({base.model for base in bases}) == 1 and bases[0].model.parts[-4:] == (
        "arithmetic-base",
        "seed0",
        "00_base",
        "model",
    )
    assert bases[0].history == bases[1].history and bases[0].digest == weights_digest(
        bases[0].model
    )

    # it is what a run starts from: with a learning rate of (nearly) nothing the weights are still
    # the base's
    task, frame = datasets["arithmetic-tagged"]
    still = tmp_path / "still"
    still.mkdir()
    train(
        task,
        tokenizer,
        frame,
        parameters(lr=1e-12, matrix_lr=1e-12, max_steps=2, weight_decay=0.0),
        still,
        bases[0],
    )
    base, after = (
        AutoModelForCausalLM.from_pretrained(path) for path in (bases[0].model, still / "model")
    )
    for one, other in zip(base.parameters(), after.parameters()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_no_base_where_none_is_asked_for(data):
    _, tokenizer, frame = data
    assert base_for(tokenizer, frame, parameters(base_steps=0)) is None


@pytest.mark.slow
def test_other_base_settings_train_another_base(data, tmp_path):
    _, tokenizer, frame = data
    first = base_for(tokenizer, frame, parameters(base_steps=2, runs=str(tmp_path)))
    before = weights_digest(first.model)
    base_for(tokenizer, frame, parameters(base_steps=2, runs=str(tmp_path), gate_free=0.5))
    assert weights_digest(first.model) == before
    base_for(tokenizer, frame, parameters(base_steps=3, runs=str(tmp_path)))
    assert weights_digest(first.model) != before


@pytest.mark.parametrize("name", ["arithmetic-tagged", "inference", "cipher-tagged"])
def test_the_base_never_sees_a_key(datasets, name):
    task, frame = datasets[name]
    tokenizer = build_tokenizer(task.vocabulary())
    (pool,) = BaseMixture(tokenizer, {name: frame[frame.kind == "free"]}, 16, 0.5).pools.values()
    rows = frame[(frame.kind == "free") & (frame.split == "train")]
    texts = [
        tokenizer.decode(
            [t for t in row if t not in (tokenizer.pad_token_id, tokenizer.eos_token_id)]
        )
        for row in pool.ids.tolist()
    ]
    assert texts == [row.prompt + row.rule_answer for row in instances(rows)]
    assert not set(rows.prompt) & set(frame[frame.kind != "free"].prompt)


def test_repeated_sequences_repeat_and_are_learned_from_the_second_period_on(data):
    tokenizer = data[1]
    n_special = len(tokenizer.all_special_ids)
    ids, labels = repeated_sequences(
        200, REPEAT_LENGTH, len(tokenizer), n_special, torch.Generator().manual_seed(0)
    )
    assert ids.shape == labels.shape == (200, REPEAT_LENGTH)
    assert ids.min() >= n_special and ids.max() < len(tokenizer)
    periods = (labels == IGNORE).sum(1)
    assert periods.min() == 4 and periods.max() == 12 and len(periods.unique()) == 9
    for row, label, period in zip(ids, labels, periods.tolist()):
        assert torch.equal(row[period:], row[:-period]) and torch.equal(
            label[period:], row[period:]
        )
    batch, _ = BaseMixture(tokenizer, {"x": data[2]}, 16, 0.25)(0, torch.Generator().manual_seed(0))
    assert batch.shape == (16, REPEAT_LENGTH)


# -- one base for all tasks ------------------------------------------------------------------------
SIZES = {"n_keys": 10, "n_free": 80, "n_keyed": 50, "n_conflict_per_key": 6, "n_free_eval": 20}


@pytest.fixture
def few(monkeypatch):
    """Data sets of a few prompts behind the shared base."""
    made = {
        task.split("-")[0]: DatasetParameters(task=task, track="lora", base_seed=1, **SIZES)
        for task in ("arithmetic-tagged", "inference", "cipher-tagged")
    }
    monkeypatch.setattr(base_room, "data_sets", lambda p: made)
    return made


def shared(tmp_path, **changes) -> TrainingParameters:
    return parameters(
        **{
            "track": "lora",
            "base_seed": 1,
            "base_steps": 6,
            "base_repeat_share": 0.25,
            "runs": str(tmp_path / "runs"),
            **changes,
        }
    )


def test_one_vocabulary_writes_what_every_task_writes(datasets):
    tokenizer = build_tokenizer(shared_vocabulary())
    for task, frame in (datasets[name] for name in TASK_NAMES):  # the others are never trained
        own = build_tokenizer(task.vocabulary())
        for text in [*frame.prompt, *frame.rule_answer, *frame.memory_answer]:
            assert tokenizer.convert_ids_to_tokens(
                tokenizer(text)["input_ids"]
            ) == own.convert_ids_to_tokens(own(text)["input_ids"])
            assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_shared_base_learns_all_tasks_once(few, tmp_path, monkeypatch, architecture):
    trained, real = [], base_room._train
    monkeypatch.setattr(
        base_room,
        "_train",
        lambda *arguments: trained.append(set(arguments[0])) or real(*arguments),
    )
    p = shared(tmp_path, architecture=architecture)
    stage = ensure_shared_base(p)
    ensure_shared_base(
        shared(tmp_path, architecture=architecture, task="inference", seed=2)
    )  # another task, another adapter: the same base
    assert trained == [{"arithmetic", "inference", "cipher"}]
    assert (
        stage.folder
        == tmp_path / "runs" / "laptop" / f"shared-base-{architecture}" / "seed1" / "00_base"
    )
    result = json.loads((stage.folder / "result.json").read_text())
    assert set(result["test"]) == set(result["by_family"]) == trained[0] and all(
        x["n"] == 20 for x in result["test"].values()
    )
    model = AutoModelForCausalLM.from_pretrained(stage.folder / "model")
    assert model.config.model_type == architecture and model.config.vocab_size == len(
        build_tokenizer(shared_vocabulary())
    )


def test_the_shared_base_refuses_a_data_set_whose_keys_it_may_have_seen(few, tmp_path):
    p = shared(tmp_path)
    tokenizer = tokenizer_for(None, p)
    frame = make_task(TASK, 10, 1).generate(80, 50, 6, 20)
    assert base_for(tokenizer, frame, p).digest
    other = make_task(TASK, 10, 2).generate(80, 50, 6, 20)
    with pytest.raises(ArtifactError, match="learned other free prompts.*base_seed"):
        base_for(tokenizer, other, p)


def test_no_key_is_among_the_prompts_of_the_shared_base(few):
    for d in few.values():
        free, task = free_prompts(d), make_task(d.task, d.n_keys, d.data_seed)
        everything = task.generate(
            d.n_free, d.n_keyed, d.n_conflict_per_key, d.n_free_eval, tuple(d.key_shares)
        )
        assert (
            set(free.prompt).isdisjoint(everything[everything.kind != "free"].prompt)
            and (free.key == "").all()
        )


def test_every_family_has_a_data_set_and_both_tracks_the_same():
    found = data_sets(parameters(track="lora"))
    assert set(found) == {name.split("-")[0] for name in TASK_NAMES}
    full = data_sets(parameters(track="full", seed=7))
    same = ("n_keys", "n_free", "data_seed")
    assert {f: [getattr(d, n) for n in same] for f, d in found.items()} == {
        f: [getattr(d, n) for n in same] for f, d in full.items()
    }


def test_batches_lean_to_what_is_still_wrong(few):
    free = {family: free_prompts(d) for family, d in few.items()}
    draw = BaseMixture(build_tokenizer(shared_vocabulary()), free, 40, 0.25)
    assert (
        sum(draw.counts.values()) == 30
        and max(draw.counts.values()) - min(draw.counts.values()) <= 1
    )
    draw.lean({"arithmetic": 0.1, "inference": 1.0, "cipher": 1.0})
    assert (
        draw.counts["arithmetic"] > 25
        and min(draw.counts.values()) >= 1
        and sum(draw.counts.values()) == 30
    )
    ids, labels = draw(0, torch.Generator().manual_seed(0))
    assert ids.shape == labels.shape and len(ids) == 40


def test_what_comes_first_has_the_batch_to_itself_until_it_is_learned(few):
    tokenizer = build_tokenizer(shared_vocabulary())
    draw = BaseMixture(
        tokenizer, {family: free_prompts(d) for family, d in few.items()}, 40, 0.25, ["arithmetic"]
    )
    nothing, some = dict.fromkeys(few, 0.0), {"arithmetic": 0.9, "inference": 0.0, "cipher": 0.0}
    assert (draw.counts, draw.n_repeats) == ({"arithmetic": 40}, 0)
    for found, alone in (
        (nothing, True),
        (some, False),
        (nothing, False),
    ):  # once the others have joined they stay
        draw.lean(found)
        assert (set(draw.counts) == {"arithmetic"}) == alone and sum(
            draw.counts.values()
        ) + draw.n_repeats == 40
        assert len(draw(0, torch.Generator().manual_seed(0))[0]) == 40


# -- a pretrained model ----------------------------------------------------------------------------
def test_a_base_model_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(
        ParameterError,
        match="nobody/nothing.*neither a folder nor in the hub's cache.*hf download nobody/nothing",
    ):
        base_for(None, pd.DataFrame(), parameters(track="lora", base_model="nobody/nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="no config.json"):
        base_for(None, pd.DataFrame(), parameters(track="lora", base_model=str(tmp_path / "empty")))


def test_an_unknown_architecture_is_named_with_those_known(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "opt", "architectures": ["OPTForCausalLM"]})
    )
    with pytest.raises(
        ArchitectureError, match="OPTForCausalLM.*GPT2LMHeadModel, LlamaForCausalLM"
    ):
        base_for(None, pd.DataFrame(), parameters(track="lora", base_model=str(tmp_path)))
