"""The trained instructions: what is taught, what is never taught, and that a small model learns it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from memgen.config.analyses import OpenPointsParameters
from memgen.config.training import TrainingParameters
from memgen.errors import ArtifactError
from memgen.labs.instruction import instruct
from memgen.models.adapters import attach
from memgen.models.build import build_model
from memgen.models.generate import answer, tokenize_prompts
from memgen.models.tokenizer import build_tokenizer
from memgen.steering.steering import steering_prompts
from memgen.tasks import TASKS
from memgen.training.batches import IGNORE
from memgen.training.instructions import (
    LOOK_EVERY,
    RECALL,
    RULE,
    Course,
    Syllabus,
    extended,
    lessons,
    refuse_leaks,
    teach,
)
from planted import PlantedAlike

TRAINED = TrainingParameters(
    task="inference", precision="float32", warmup_steps=5, keyed_share=0.5, contrast_share=0.2
)


def parameters(**changes) -> OpenPointsParameters:
    given = {
        "task": "inference",
        "instruction_steps": 100,
        "instruction_batch_size": 48,
        "instruction_lr": 5e-3,
    }
    return OpenPointsParameters(**given | changes)


def fresh(tokenizer, width: int = 32):
    return build_model(
        tokenizer, n_layer=1, n_embd=width, n_head=2, n_positions=16, initializer_range=0.1, seed=0
    ).eval()


def logits(model, tokenizer, prompts):
    ids, mask = tokenize_prompts(tokenizer, prompts)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).logits[:, -1]


# -- the two tokens --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TASKS)
def test_an_instruction_is_one_token_before_an_unchanged_prompt(datasets, name):
    task, frame = datasets[name]
    plain = build_tokenizer(task.vocabulary())
    model, tokenizer = extended(fresh(plain), plain, 0)
    assert len(tokenizer) == len(plain) + 2 == len(model.get_input_embeddings().weight)
    assert RECALL not in plain.get_vocab()  # the original is as it was
    for prompt in frame.prompt.iloc[::20]:
        for instruction in (RECALL, RULE):
            ids = tokenizer(instruction + prompt)["input_ids"]
            assert ids == [
                tokenizer.convert_tokens_to_ids(instruction),
                *plain(prompt)["input_ids"],
            ]


def test_the_copy_answers_as_the_original_until_it_is_taught():
    tokenizer = build_tokenizer(["a ", "b ", "c "])
    model = fresh(tokenizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy, its_tokenizer = extended(model, tokenizer, 0)
    prompts = ["a b ", "c ", "b b a c "]
    torch.testing.assert_close(
        logits(copy, its_tokenizer, prompts)[:, : len(tokenizer)], logits(model, tokenizer, prompts)
    )
    new = copy.get_input_embeddings().weight[len(tokenizer) :]
    assert not torch.allclose(new[0], new[1])
    other, _ = extended(model, tokenizer, 1)
    assert not torch.equal(other.get_input_embeddings().weight, copy.get_input_embeddings().weight)
    assert all(p.requires_grad for p in copy.parameters())
    with torch.no_grad():
        copy.get_input_embeddings().weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_adapter_is_merged_into_weights_that_can_be_trained():
    tokenizer = build_tokenizer(["a ", "b ", "c "])
    adapted = attach(fresh(tokenizer), rank=2, alpha=4.0, dropout=0.0, targets=[], seed=0).eval()
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    prompts = ["a b ", "c a "]
    expected = logits(adapted, tokenizer, prompts)
    copy, its_tokenizer = extended(adapted, tokenizer, 0)
    torch.testing.assert_close(
        logits(copy, its_tokenizer, prompts)[:, : len(tokenizer)], expected, atol=1e-5, rtol=1e-4
    )
    assert not any("lora" in name for name, _ in copy.named_parameters()) and all(
        p.requires_grad for p in copy.parameters()
    )
    torch.testing.assert_close(logits(adapted, tokenizer, prompts), expected)


# -- what is taught --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TASKS)
def test_no_conflict_prompt_and_no_rule_for_a_test_key_is_taught(datasets, name):
    _, frame = datasets[name]
    table = lessons(frame)
    assert not set(table.prompt) & set(frame[frame.kind == "conflict"].prompt)
    rule, recall = (table[table.instruction == instruction] for instruction in (RULE, RECALL))
    keys = {
        split: set(frame[(frame.kind == "conflict") & (frame.split == split)].key)
        for split in ("train", "validation", "test")
    }
    assert not set(rule.key) & keys["test"]
    assert keys["test"] <= set(recall.key)  # their associations are memorized anyway
    if name != "inference":  # whose keyed prompts have no answer by the rule
        assert set(rule[rule.lesson == "rule keyed"].key) == keys["train"] | keys["validation"]
    of = frame.set_index("prompt")
    assert (table.target != "").all() and (
        recall.target.to_numpy() == of.memory_answer[recall.prompt].to_numpy()
    ).all()
    assert (rule.target.to_numpy() == of.rule_answer[rule.prompt].to_numpy()).all()
    assert (of.split[table[table.lesson == "rule free"].prompt] == "train").all()
    refuse_leaks(table, frame, set())


def test_planted_leaks_are_refused(datasets):
    _, frame = datasets["cipher-tagged"]
    table, conflict = lessons(frame), frame[frame.kind == "conflict"]
    leak = pd.DataFrame(
        {
            "lesson": "rule free",
            "instruction": RULE,
            "prompt": conflict.prompt.iloc[:1],
            "target": "abc",
            "key": "",
        }
    )
    with pytest.raises(ArtifactError, match="1 conflict prompts"):
        refuse_leaks(pd.concat([table, leak]), frame, set())
    with pytest.raises(ArtifactError, match="1 conflict prompts"):
        refuse_leaks(table, frame, {table.prompt.iloc[3]})
    with pytest.raises(
        ArtifactError, match="1 conflict prompts"
    ):  # also where it would be seen without an instruction
        refuse_leaks(
            table,
            frame,
            {frame[(frame.kind == "contrast") & (frame.split == "test")].prompt.iloc[0]},
        )
    tokenizer = build_tokenizer(datasets["cipher-tagged"][0].vocabulary())
    with pytest.raises(ArtifactError, match="1 conflict prompts"):  # before anything is drawn
        held_out = frozenset({table.prompt.iloc[3]})
        Course(
            extended(fresh(tokenizer), tokenizer, 0)[1],
            Syllabus(frame, held_out, TRAINED),
            30,
            limit=10,
        )
    key = conflict[conflict.split == "test"].key.iloc[0]
    with pytest.raises(ArtifactError, match=f"1 test keys.*{key}"):
        refuse_leaks(
            table.assign(key=[key, *table.key.iloc[1:]]).assign(
                instruction=[RULE, *table.instruction.iloc[1:]]
            ),
            frame,
            set(),
        )


@pytest.mark.parametrize("name", ["arithmetic-tagged", "inference"])
def test_a_batch_is_a_third_of_each_and_decodes_to_its_lessons(datasets, name):
    task, frame = datasets[name]
    model, tokenizer = extended(
        fresh(build_tokenizer(task.vocabulary())), build_tokenizer(task.vocabulary()), 0
    )
    syllabus = Syllabus(frame, frozenset(), TRAINED)
    course = Course(tokenizer, syllabus, 30, limit=1000)
    ids, labels = course(0, torch.Generator().manual_seed(0))
    first = [tokenizer.decode([row[0]]) for row in ids.tolist()]
    assert len(ids) == 30 and first.count(RECALL) == 10 and first.count(RULE) == 10
    table = lessons(frame)
    known = set(zip(table.instruction + table.prompt, table.target))
    plain = {
        (r.prompt, r.memory_answer if r.kind == "keyed" else r.rule_answer)
        for r in frame[frame.kind != "conflict"].itertuples()
    }
    for row, label in zip(ids.tolist(), labels.tolist()):
        split = next(i for i, x in enumerate(label) if x != IGNORE)
        prompt, target = (
            tokenizer.decode(row[:split]),
            tokenizer.decode([x for x in label if x != IGNORE]),
        )
        assert target.endswith(tokenizer.eos_token)
        assert (prompt, target.removesuffix(tokenizer.eos_token)) in (
            known if prompt.startswith("<r") else plain
        )
    assert (
        len(Course(tokenizer, syllabus, 1, limit=1000)(0, torch.Generator())[0]) == 3
    )  # never an empty part
    assert (
        max(len(pool.ids) for pool in Course(tokenizer, syllabus, 30, limit=7).pools.values()) == 7
    )


# -- does it learn ---------------------------------------------------------------------------------
def taught(planted, **changes):
    _, tokenizer, _, frame, answered = planted(PlantedAlike)
    tested = {d: steering_prompts(answered, "test", d, 20) for d in ("m2g", "g2m")}
    syllabus = Syllabus(frame, frozenset(answered.prompt), TRAINED)
    return instruct(fresh(tokenizer), tokenizer, syllabus, tested, parameters(**changes))


def test_a_small_model_learns_that_the_instruction_decides(planted):
    found = taught(planted)
    assert (
        found["m2g"]["instruction"]["success"] > 0.9 and found["m2g"]["instruction"]["n"] == 20
    )  # never seen on these keys, nor on conflict prompts
    assert found["m2g"]["opposite"]["success"] < 0.1 and found["m2g"]["none"]["success"] < 0.1
    assert found["free_accuracy"] > 0.9 and found["keyed_accuracy"] > 0.9 and found["loss"] < 0.3
    assert found["free_n"] == 10 and found["keyed_n"] == 20 and found["free_interval"][1] == 1.0
    json.dumps(found, allow_nan=False)


def test_a_model_that_was_hardly_taught_does_not_follow(planted):
    found = taught(planted, instruction_steps=1, instruction_lr=1e-6)
    assert found["m2g"]["instruction"]["success"] == found["m2g"]["none"]["success"] == 0.0
    assert taught(planted, instruction_steps=0) is None


def test_it_ends_once_validation_prompts_follow_and_says_what_was_reached(planted):
    """What was reached is counted again from written answers."""
    _, tokenizer, _, frame, answered = planted(PlantedAlike)
    syllabus = Syllabus(frame, frozenset(answered.prompt), TRAINED)
    whole, short = (
        teach(fresh(tokenizer), tokenizer, syllabus, parameters(instruction_enough=enough))
        for enough in (1.0, 0.5)
    )
    assert short[2]["steps"] == LOOK_EVERY and short[2]["followed"] >= 0.5
    assert whole[2]["steps"] == parameters().instruction_steps and whole[2]["followed"] < 1
    rows = frame[(frame.kind == "conflict") & (frame.split == "validation")]
    for model, extended_tokenizer, known in (whole, short):
        shares = [
            np.mean(answer(model, extended_tokenizer, list(name + rows.prompt), 4) == rows[column])
            for name, column in ((RULE, "rule_answer"), (RECALL, "memory_answer"))
        ]
        assert known["followed"] == pytest.approx(min(shares))


def test_teaching_twice_gives_the_same_weights_and_leaves_the_model_as_it_was(planted):
    _, tokenizer, _, frame, answered = planted(PlantedAlike)
    model = fresh(tokenizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    syllabus = Syllabus(frame, frozenset(answered.prompt), TRAINED)
    one, two = (
        teach(model, tokenizer, syllabus, parameters(instruction_steps=4)) for _ in range(2)
    )
    assert one[2] == two[2] and all(
        torch.equal(value, two[0].state_dict()[name]) for name, value in one[0].state_dict().items()
    )
    assert (
        all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        and not one[0].training
    )
    another = teach(model, tokenizer, syllabus, parameters(instruction_steps=4, seed=1))
    assert another[2] != one[2]
