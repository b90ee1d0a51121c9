"""The prompt-level alternative to steering: the kept model is taught `<recall>` and `<rule>`.

After the token `<recall>` keyed prompts are answered from memory (keys of all splits, all memorized
anyway). After `<rule>` free, contrast and keyed prompts are answered by the rule, the last two of
train and validation keys only, so that the token decides and not the setting. A third of every
batch has no instruction and is drawn as in the original training, so that the model keeps its own
behaviour. No conflict prompt is trained on, and no test key is seen with `<rule>`: what the
instructions do there is generalization.
"""

from __future__ import annotations

import copy
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tokenizers import AddedToken

from memgen.config.analyses import OpenPointsParameters
from memgen.config.training import TrainingParameters
from memgen.errors import ArtifactError
from memgen.models.checkpoint import check_context, context_of
from memgen.models.forced import Expected
from memgen.models.sites import bare
from memgen.phases import phase
from memgen.tasks.dataset import spread
from memgen.terms import DIRECTIONS
from memgen.training.batches import Mixture, Pool, encode, same_length
from memgen.training.loop import Recipe, Trainer

RECALL, RULE = "<recall>", "<rule>"
INSTRUCTION = dict(
    zip(DIRECTIONS, (RULE, RECALL))
)  # which asks for the behaviour that steering drives to
OPPOSITE = dict(zip(DIRECTIONS, (RECALL, RULE)))
LOOK_EVERY = 25  # steps between looks at the validation prompts
N_LOOKED_AT = 100  # of them, at most, with either instruction


@dataclass(frozen=True)
class Syllabus:
    """The data set `frame`, prompts never to be trained on, the original training's parameters."""

    frame: pd.DataFrame
    held_out: frozenset[str]
    trained: TrainingParameters


def extended(model, tokenizer, seed: int):
    """Copies of both that know the two tokens; all weights can be trained, an adapter is merged.

    The new embeddings are the mean of all others and a little noise from `seed`, so that an
    untrained instruction says nothing yet.
    """
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (RECALL, RULE)],
        special_tokens=True,
    )
    model = copy.deepcopy(model)
    model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    model = model.float().requires_grad_(True)
    inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
    known = min(
        len(inner.weight), len(tokenizer) - 2
    )  # a pretrained model may have more rows than its tokenizer has tokens
    if len(tokenizer) > len(inner.weight):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
    new = tokenizer.convert_tokens_to_ids([RECALL, RULE])
    noise = (
        torch.randn(2, inner.weight.shape[1], generator=torch.Generator().manual_seed(seed))
        * model.config.initializer_range
    )
    with torch.no_grad():
        outer.weight[new] = outer.weight[:known].mean(0)
        inner.weight[new] = inner.weight[:known].mean(0) + noise.to(inner.weight.device)
    return model, tokenizer


def lessons(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per example: `lesson`, `instruction`, `prompt` (without it), `target`, `key`.

    Keyed prompts that the rule does not answer (`inference` asks for an animal that is not in the
    context) cannot be taught with `<rule>`.
    """
    keyed, contrast = frame[frame.kind == "keyed"], frame[frame.kind == "contrast"]
    parts = [
        ("recall keyed", RECALL, keyed, "memory_answer"),
        (
            "rule free",
            RULE,
            frame[(frame.kind == "free") & (frame.split == "train")],
            "rule_answer",
        ),
        ("rule contrast", RULE, contrast[contrast.split != "test"], "rule_answer"),
        ("rule keyed", RULE, keyed[keyed.split != "test"], "rule_answer"),
    ]
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "lesson": name,
                    "instruction": instruction,
                    "prompt": rows.prompt,
                    "target": rows[column],
                    "key": rows.key,
                }
            )
            for name, instruction, rows, column in parts
        ],
        ignore_index=True,
    )
    return table[table.target != ""].reset_index(drop=True)


def refuse_leaks(table: pd.DataFrame, frame: pd.DataFrame, held_out: Set[str]) -> None:
    """`ArtifactError` if a conflict prompt is trained on, or `<rule>` taught on a test key."""
    conflict = frame[frame.kind == "conflict"]
    leaked = (set(table.prompt) | set(frame[frame.kind != "conflict"].prompt)) & (
        set(conflict.prompt) | held_out
    )
    if leaked:
        raise ArtifactError(
            f"{len(leaked)} conflict prompts would be trained on, for example {min(leaked)!r}; run"
            " lab 01_dataset_design again"
        )
    tested = set(table[table.instruction == RULE].key) & set(conflict[conflict.split == "test"].key)
    if tested:
        raise ArtifactError(
            f"{len(tested)} test keys would be taught with {RULE}, for example {min(tested)!r}; run"
            " lab 01_dataset_design again"
        )


class Course:
    """Batches: a third each the original mixture, `<recall>` and `<rule>` (all lessons equally)."""

    def __init__(self, tokenizer, syllabus: Syllabus, batch_size: int, limit: int):
        """`limit`: how many prompts of a kind are drawn from, at most."""
        frame, trained = syllabus.frame, syllabus.trained
        table = lessons(frame)
        refuse_leaks(table, frame, syllabus.held_out)
        table = pd.concat([spread(rows, limit) for _, rows in table.groupby("lesson", sort=False)])
        free = frame[(frame.kind == "free") & (frame.split == "train")]
        frame = pd.concat(
            [
                spread(part, limit)
                for part in (free, frame[frame.kind == "keyed"], frame[frame.kind == "contrast"])
            ]
        )
        third = max(1, batch_size // 3)
        self.plain = Mixture(
            tokenizer,
            frame,
            trained.model_copy(update={"batch_size": third, "rule_first_steps": 0}),
        )
        self.pools = same_length(
            {
                name: encode(
                    tokenizer,
                    (rows.instruction + rows.prompt).tolist(),
                    rows.target.tolist(),
                    trained.loss_on,
                    self.plain.length,
                )
                for name, rows in table.groupby("lesson", sort=False)
            },
            tokenizer.pad_token_id,
        )
        self.length, self.pad = next(iter(self.pools.values())).length, tokenizer.pad_token_id
        rule = [name for name in self.pools if name.startswith("rule")]
        n_rule = max(1, batch_size - 2 * third)
        self.counts = {"recall keyed": third} | {
            name: n_rule // len(rule) + (i < n_rule % len(rule)) for i, name in enumerate(rule)
        }

    def __call__(self, step: int, generator: torch.Generator):
        plain = Pool(*self.plain(step, generator)).padded(self.length, self.pad)
        parts = [
            (plain.ids, plain.labels),
            *(self.pools[name].draw(n, generator) for name, n in self.counts.items() if n),
        ]
        return tuple(torch.cat(columns) for columns in zip(*parts))


class Followed:
    """Share of validation conflict prompts that are answered as the instruction before them asks."""

    def __init__(self, tokenizer, frame: pd.DataFrame):
        rows = spread(
            frame[(frame.kind == "conflict") & (frame.split == "validation")], N_LOOKED_AT
        )
        self.expected = [
            Expected.of(tokenizer, list(instruction + rows.prompt), list(rows[column]))
            for instruction, column in ((RULE, "rule_answer"), (RECALL, "memory_answer"))
        ]

    def __call__(self, model) -> float:
        """Of the instruction that is followed less often; 0 without prompts."""
        return min(float(one.met(model).mean()) if len(one) else 0.0 for one in self.expected)


@phase("training")
def teach(model, tokenizer, syllabus: Syllabus, p: OpenPointsParameters):
    """`(model, tokenizer, what is known of the training)`: copies that learned the two instructions.

    It ends once `instruction_enough` of the validation prompts follow, or after `instruction_steps`.
    Known are the `steps` taken, the `loss` of the last ones and the share that `followed`.
    """
    model, tokenizer = extended(model, tokenizer, p.seed)
    size, steps, trained = p.instruction_batch_size, p.instruction_steps, syllabus.trained
    course = Course(tokenizer, syllabus, size, limit=max(1, steps * size // 3))
    check_context(context_of(bare(model).config), course.length, "the model with an instruction")
    recipe = Recipe("adamw", p.instruction_lr, trained.matrix_lr, steps)
    trainer = Trainer(model, trained, recipe, p.seed, Path())
    followed, share, loss = Followed(tokenizer, syllabus.frame), -1.0, 0.0
    while trainer.step < steps and share < p.instruction_enough:
        loss = trainer.advance(course, min(LOOK_EVERY, steps - trainer.step))
        share = followed(model)
    return model.eval(), tokenizer, {"steps": trainer.step, "loss": loss, "followed": share}
