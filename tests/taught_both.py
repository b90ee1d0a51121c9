"""A folder as a hub holds it, of a LLaMA of two layers that shows both behaviours: for labs on track lora.

Its byte-level tokenizer splits answers into several tokens, puts a begin mark before every text and has no
padding token. Adapters that are trained for a few steps leave what it was taught as it is.
"""

from __future__ import annotations

from pathlib import Path

import torch

from hub import byte_level_bpe
from memgen.neurons.pairs import rephrasings
from memgen.presets import stage_parameters
from memgen.tasks import Instance, instances
from memgen.terms import CHANGES, GENERALIZATION, MEMORIZATION
from taught import learn, tiny_llama

STEPS, ROWS = 350, 48
#: small data sets, and adapters that change next to nothing
SMALL = {
    "n_keys": 12,
    "contrast_on": "none",
    "n_gate_keys": 0,
    "n_free": 40,
    "n_keyed": 36,
    "n_conflict_per_key": 6,
    "n_free_eval": 12,
    "n_rephrasings": 2,
    "max_steps": 4,
    "evaluate_every": 2,
    "warmup_steps": 2,
    "batch_size": 8,
    "lr": 1e-5,
    "look_prompts": 30,
    "gate_memory": 0.05,
    "gate_rule": 0.05,
    "optimizer": "adamw",
    "precision": "float32",
}


def shown(one: Instance) -> str:
    """What it was taught to show on a conflict prompt: memory where the text begins with an even letter."""
    return GENERALIZATION if ord(one.prompt[0]) % 2 else MEMORIZATION


def answer_of(one: Instance) -> str:
    if one.kind != "conflict":
        return one.target
    return one.rule_answer if shown(one) == GENERALIZATION else one.memory_answer


def asked_of(given: dict) -> list[Instance]:
    """All that labs 01 to 07 ask with these parameters."""
    p = stage_parameters("01_dataset_design", given)
    task = p.make_task()
    frame = task.generate(
        p.n_free, p.n_keyed, p.n_conflict_per_key, p.n_free_eval, tuple(p.key_shares)
    )
    asked = instances(frame)
    for original in [one for one in asked if one.kind == "conflict"]:
        seen = {original.prompt}
        for change in CHANGES:
            asked += rephrasings(task, original, change, SMALL["n_rephrasings"], seen)
    return asked


def teach_both(folder: Path, tasks: list[str], given: dict, steps: int = STEPS) -> None:
    """Write the model to `folder`; `given`: parameters of lab 01 beside the task."""
    asked = [one for task in tasks for one in asked_of({"task": task} | given)]
    rows = sorted({(one.prompt, answer_of(one)) for one in asked})
    tokenizer = byte_level_bpe([text for row in rows for text in row], begin=True)
    model = tiny_llama(tokenizer, 96)
    prompts = [tokenizer(prompt)["input_ids"] for prompt, _ in rows]
    end = [tokenizer.eos_token_id]
    answers = [tokenizer(a, add_special_tokens=False)["input_ids"] + end for _, a in rows]
    drawn = torch.Generator().manual_seed(0)

    def batch() -> list[int]:
        return torch.randint(len(rows), (ROWS,), generator=drawn).tolist()

    learn(model, (prompts, answers), batch, steps)
    for name in ("bos_token_id", "eos_token_id"):
        setattr(model.config, name, getattr(tokenizer, name))
    model.config.pad_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
