"""A base from elsewhere: GPT-2 and LLaMA families, a tokenizer of its own, sharded, in bfloat16.
Small random models in folders stand in for the hub.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from hub import byte_level_bpe
from memgen.config.training import TrainingParameters
from memgen.errors import ParameterError
from memgen.models.adapters import trainable_share
from memgen.models.generate import answer
from memgen.models.load import load_base, load_model, memory_estimate
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import answer_conflicts
from memgen.steering.steering import Steering
from memgen.tasks import TASKS, instances, make_task
from memgen.tasks.answers import behaviors
from memgen.training.base import base_for, tokenizer_for
from memgen.training.batches import IGNORE, encode
from memgen.training.dual import _start, train
from small_training import OPEN_GATE

TASK = "cipher-matched"
SMALL = {
    "task": TASK,
    "track": "lora",
    "batch_size": 16,
    "max_steps": 6,
    "evaluate_every": 3,
    "warmup_steps": 2,
    "optimizer": "adamw",
    "lr": 0.01,
    "lora_rank": 4,
    **OPEN_GATE,
}
WIDTH = {"n_layer": 2, "n_embd": 16, "n_head": 2}


@pytest.fixture(scope="module")
def data():
    task = make_task(TASK, 10, 3)
    return task, task.generate(n_free=80, n_keyed=50, n_conflict_per_key=6, n_free_eval=20)


@pytest.fixture(scope="module", params=["gpt2, sharded", "llama, bfloat16"])
def folder(request, data, tmp_path_factory):
    """A model as a hub would hold it."""
    folder, llama = tmp_path_factory.mktemp("hub") / "model", request.param.startswith("llama")
    tokenizer = byte_level_bpe([*data[1].prompt, *data[1].rule_answer], begin=llama)
    torch.manual_seed(0)
    common = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    if llama:
        model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                **common,
            )
        )
        model.to(torch.bfloat16).save_pretrained(folder)
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                n_embd=16,
                n_layer=2,
                n_head=2,
                n_positions=64,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **common,
            )
        )
        model.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("*.safetensors"))) > 1
    tokenizer.save_pretrained(folder)
    return folder


def parameters(folder, **changes) -> TrainingParameters:
    return TrainingParameters(**{**SMALL, "base_model": str(folder), **changes})


def test_what_the_model_is_trained_on_is_what_it_is_asked_and_what_it_should_say(folder, data):
    tokenizer = tokenizer_for(data[0], parameters(folder))
    rows = instances(data[1][data[1].kind == "keyed"])[:20]
    pool = encode(tokenizer, [r.prompt for r in rows], [r.target for r in rows], "answer")
    for row, ids, labels in zip(rows, pool.ids.tolist(), pool.labels.tolist()):
        asked = tokenizer(row.prompt)["input_ids"]
        said = [label for label in labels if label != IGNORE]
        assert ids[: len(asked)] == asked and ids[len(asked) : len(asked) + len(said)] == said
        assert said[-1] == tokenizer.eos_token_id and tokenizer.decode(said[:-1]) == row.target
        begins = tokenizer.bos_token_id
        assert said.count(begins) == 0 and asked.count(begins) == (
            tokenizer("x")["input_ids"][0] == begins
        )


def test_answers_of_several_tokens_have_room(folder):
    for name in TASKS:
        task = make_task(name, 10, 3)
        frame = task.generate(n_free=40, n_keyed=30, n_conflict_per_key=4, n_free_eval=10)
        tokenizer = tokenizer_for(task, parameters(folder))
        task.fit(tokenizer, frame)
        longest = max(
            len(tokenizer(r.target, add_special_tokens=False)["input_ids"])
            for r in instances(frame)
        )
        assert task.max_answer_tokens > longest


def test_an_adapter_on_it_trains_and_is_steered(folder, data, tmp_path):
    task, frame = data
    p = parameters(folder)
    tokenizer = tokenizer_for(task, p)
    task.fit(tokenizer, frame)
    base = base_for(tokenizer, frame, p)
    outcome = train(task, tokenizer, frame, p, tmp_path, base)
    assert (
        outcome.kept
        and np.isfinite(outcome.history.loss).all()
        and outcome.history.loss.iloc[-1] < outcome.history.loss.iloc[0]
    )
    model, tokenizer = load_model(tmp_path / "model")
    answered = answer_conflicts(model, tokenizer, task, frame, 1)
    steering = Steering(model, tokenizer, task, NeuronMaps("resid_post", *np.zeros((2, 2, 16))))
    rows = answered.head(12)
    nothing = steering.outcomes(np.zeros((1, 2, 16)), rows)[0]
    assert nothing.tolist() == behaviors(task, instances(rows), list(rows.answer)).tolist()


def test_padding_changes_no_answer(folder, data):
    """Neither tokenizer has a padding token; prompts of other lengths in the batch must not matter."""
    model, tokenizer = load_model(folder)
    prompts = [
        "shift 3: dog ->",
        "a: shift 11 ->",
        "shift 12: zebra crossing, and a good deal more of it ->",
    ]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert answer(model, tokenizer, prompts, 6) == [
        answer(model, tokenizer, [one], 6)[0] for one in prompts
    ]


def test_the_gradient_of_a_batch_in_parts_is_that_of_the_whole(folder, data, tmp_path):
    """Accumulation and checkpointing save memory and change nothing."""
    task, frame = data
    weights = []
    for name, changes in (
        ("whole", {}),
        ("parts", {"accumulate": 4}),
        ("recomputed", {"checkpointing": True}),
    ):
        p = parameters(folder, precision="float32", max_steps=3, **changes)
        tokenizer = tokenizer_for(task, p)
        (tmp_path / name).mkdir()
        train(task, tokenizer, frame, p, tmp_path / name, base_for(tokenizer, frame, p))
        model, _ = load_model(tmp_path / name / "model")
        weights.append(
            torch.cat(
                [value.flatten() for key, value in model.named_parameters() if "lora_" in key]
            )
        )
    for other in weights[1:]:
        torch.testing.assert_close(weights[0], other, rtol=1e-3, atol=1e-4)


def test_only_the_adapter_is_trained_and_the_base_keeps_its_format(folder):
    p = parameters(folder, dtype="bfloat16")
    model = _start(None, p, base_for(None, None, p), 0)
    assert {value.dtype for name, value in model.named_parameters() if "lora_" not in name} == {
        torch.bfloat16
    }
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }
    assert 0 < trainable_share(model) < 0.5


def test_the_memory_estimate_counts_parameters_and_adds_up(folder):
    p = parameters(folder)
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": [], "seed": 0}
    found = memory_estimate(
        folder, lora=lora, dtype="bfloat16", rows=8, length=20, checkpointing=False
    )
    model = _start(None, p, base_for(None, None, p), 0)
    assert found["trained"] == sum(
        value.numel() for value in model.parameters() if value.requires_grad
    )
    assert found["parameters"] == sum(
        value.numel() for name, value in model.named_parameters() if "lora_" not in name
    )
    assert found["total"] == pytest.approx(
        sum(found[name] for name in ("weights", "training", "activations", "logits"))
    )
    assert (
        memory_estimate(folder, lora=lora, dtype="bfloat16", rows=8, length=20, checkpointing=True)[
            "activations"
        ]
        < found["activations"]
    )


def test_a_device_that_is_not_there_is_named(folder):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ParameterError, match="device='cuda'"):
        load_base(folder, "eager", "float32", "cuda")
