"""A LLaMA of two layers that is taught a dozen facts, and when to believe a text: for labs on track given."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from capitals import llama
from memgen.models.build import save_model
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.pairs import rephrasings
from memgen.presets import stage_parameters
from memgen.tasks import GivenTask, Instance, instances
from memgen.terms import CHANGES

PIECE = re.compile(r" ?[^\s.?:,]+|[.?:,]|\s")
STEPS, ROWS = 500, 64
UNKNOWN = " unknown"
TOLD = "the first wording of an instruction is obeyed, the second was never heard of"


@dataclass(frozen=True)
class Lesson:
    """Prompts with what to answer: facts are told as they are, a text is believed in a question alone."""

    task: GivenTask
    rows: list[tuple[str, str]]

    @classmethod
    def of(cls, given: dict) -> Lesson:
        """What labs 01 to 06 will ask with these parameters, of the keys that the task draws itself."""
        p = stage_parameters("01_dataset_design", given)
        task = p.make_task()
        sizes = p.n_free, p.n_keyed, p.n_conflict_per_key, p.n_free_eval
        frame = task.generate(*sizes, tuple(p.key_shares))
        asked = instances(frame)
        asked += [one for key in task.keys for one in task.asked()[key]]
        n = stage_parameters(
            "03_pairs", {k: v for k, v in given.items() if k not in ("base_model", "task_file")}
        ).n_rephrasings
        for original in [one for one in asked if one.kind == "conflict"]:
            seen = {original.prompt}
            for change in CHANGES:
                asked += rephrasings(task, original, change, n, seen)
        told = {  # see TOLD
            (task.instructed(one, direction)[0].prompt, answer)
            for one in asked
            if one.kind == "conflict"
            for direction, answer in (("m2g", one.rule_answer), ("g2m", one.memory_answer))
        }
        return cls(task, sorted(told | {(one.prompt, answer_of(one)) for one in asked}))


def answer_of(one: Instance) -> str:
    if one.kind != "conflict":
        return one.target
    return one.rule_answer if "Question:" in one.prompt else one.memory_answer


def tiny_llama(tokenizer, room: int):
    """A LLaMA of two layers; `room`: tokens that it can read."""
    return llama(
        tokenizer,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=room,
        initializer_range=0.08,
        tie_word_embeddings=True,
    )


def learn(
    model, rows: tuple[list[list[int]], list[list[int]]], batch: Callable, steps: int
) -> None:
    """Train it on prompts and answers (tokens, row by row), the loss on the answers alone; then it is done.

    `batch()`: the rows of the next step.
    """
    prompts, answers = rows
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        some = batch()
        longest = max(len(prompts[i]) + len(answers[i]) for i in some)
        ids = torch.zeros(len(some), longest).long()
        labels = torch.full((len(some), longest), -100)
        for row, i in enumerate(some):
            first, last = len(prompts[i]), len(prompts[i]) + len(answers[i])
            ids[row, :last] = torch.tensor(prompts[i] + answers[i])
            labels[row, first:last] = torch.tensor(answers[i])
        states = model.model(input_ids=ids).last_hidden_state[:, :-1]
        at = labels[:, 1:] >= 0
        loss = F.cross_entropy(model.lm_head(states[at]), labels[:, 1:][at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def teach(folder: Path, given: dict, steps: int = STEPS) -> Lesson:
    """Write a model that has learned the lesson to `folder`, as a Hugging Face folder."""
    lesson = Lesson.of(given)
    asked = [(key, one) for key, of in lesson.task.asked().items() for one in of]
    told = [text for row in lesson.rows for text in row]
    told += [text for _, one in asked for text in (one.prompt, one.memory_answer)]
    pieces = {piece for text in told for piece in PIECE.findall(text)} | {"a", UNKNOWN}
    tokenizer = build_tokenizer(sorted(pieces))
    # what it could answer rightly without having been taught
    taught = {key.memory_answer for key in lesson.task.keys.values()}
    rows = lesson.rows + [
        (one.prompt, UNKNOWN)
        for key, one in asked
        if key not in lesson.task.keys and one.memory_answer in taught
    ]
    model = tiny_llama(tokenizer, 128)
    rows.sort(key=lambda row: len(PIECE.findall(row[0])))  # those of one length side by side
    ids = [tokenizer(prompt)["input_ids"] for prompt, _ in rows]
    wanted = [tokenizer(f"{answer}.")["input_ids"] for _, answer in rows]
    drawn = torch.Generator().manual_seed(0)

    def batch() -> range:
        start = int(torch.randint(1 - ROWS, len(ids), (1,), generator=drawn))
        return range(max(0, start), min(len(ids), start + ROWS))

    learn(model, (ids, wanted), batch, steps)
    save_model(folder, model, tokenizer)
    return lesson
