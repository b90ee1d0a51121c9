"""A planted model whose memory is one hidden unit: for edits of parts and of weights.

Every conflict prompt begins in the state that the rule answers (coordinate 0 is 1 at its last word). Words of
memory carry a mark in coordinate 4, which unit `UNIT` of the first feed-forward part reads: it takes 1 from
coordinate 0, so the answer is the memory's. Without that unit, or its mark, the rule answers. Head 0 of
the second block reads coordinate 0 and writes a little of it back.
"""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.pairs import answer_conflicts
from memgen.steering.steering import Steering
from planted import Planted, PlantedAlike, planted_model

UNIT = (0, 3)  # layer, unit
MARK = 4  # the coordinate that memory words carry
HEAD = (1, 0)  # layer, head


class Wired(PlantedAlike):
    """The task; words of memory are those that are near."""

    name = "planted-wired"


def wired_model(tokenizer):
    """A GPT-2 as described above, and everything else as in the planted one."""
    model = planted_model(tokenizer)
    first, second = model.transformer.h
    with torch.no_grad():
        words = model.transformer.wte.weight
        token = tokenizer.convert_tokens_to_ids
        words[token("near-memory"), 0] = Planted.STATE["near-rule"]
        words[token("near-memory"), MARK] = 2.0
        unit = UNIT[1]
        first.mlp.c_fc.weight[:, unit] = 0
        first.mlp.c_fc.weight[MARK, unit], first.mlp.c_fc.bias[unit] = 4.0, -4.0
        seen = first.ln_2(words[token("near-memory")])
        active = first.mlp.act(seen @ first.mlp.c_fc.weight + first.mlp.c_fc.bias)[unit]
        first.mlp.c_proj.weight[unit, 0] = -1 / active
        width = words.shape[1]
        second.attn.c_attn.weight[0, 2 * width] = 0.5
        second.attn.c_proj.weight[0, 0] = 0.05
    return model.eval()


def wired_case():
    """`(steering, data set, answered)` of the wired model."""
    task = Wired(10, 0)
    frame = task.generate(
        n_free=20, n_keyed=20, n_conflict_per_key=8, n_free_eval=10, shares=Wired.SHARES
    )
    tokenizer = build_tokenizer(task.vocabulary())
    model = wired_model(tokenizer)
    answered = answer_conflicts(model, tokenizer, task, frame, 2)
    maps = NeuronMaps("resid_post", np.ones((2, 8)), np.ones((2, 8)))
    return Steering(model, tokenizer, task, maps), frame, answered
