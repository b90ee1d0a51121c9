"""What steers without the neurons: a token forbidden or forced, or a token's own direction added.

If one of these does what the shift does, the shift has only written a token. None needs hidden
states of pairs, a label of a neuron, or a choice of cells.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pandas as pd
import torch

from memgen.models.generate import decode, first_token_log_probabilities
from memgen.models.hooks import evaluating
from memgen.models.room import fitting
from memgen.models.sites import bare
from memgen.neurons.lens import first_tokens
from memgen.neurons.nmd import NeuronMaps
from memgen.phases import phase
from memgen.steering.answers import behaviors_of
from memgen.steering.bars import Bar
from memgen.steering.cells import cumulative_norm
from memgen.steering.passes import Asked, Batch, Decoded, decoded
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering, outcome_rows
from memgen.steering.trial import Trial
from memgen.steering.unsteered import ROWS
from memgen.terms import CODE, OUTPUT_CONTROLS, START, TARGET

#: log-probabilities `[rows, vocabulary]` and the rows' places among the prompts -> tokens `[rows]`
First = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def forbidding(tokens: torch.Tensor) -> First:
    """The likeliest first token that is not the prompt's own `tokens[P]` (-1 forbids none)."""

    def first(log: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        allowed = log.clone()
        forbidden = tokens[rows]
        places = (forbidden >= 0).nonzero()[:, 0]
        allowed[places, forbidden[places]] = -torch.inf
        return allowed.argmax(-1)

    return first


def forcing(tokens: torch.Tensor) -> First:
    """The prompt's own `tokens[P]`, whatever the model says."""
    return lambda log, rows: tokens[rows]


@phase("sweep")
@torch.inference_mode()
def answered_from(steering: Steering, prompts: Prompts, first: First) -> np.ndarray:
    """Behaviour codes `[P]` where `first` picks the first token; the rest is greedy, unsteered."""
    model, tokenizer = steering.model, steering.tokenizer
    length, found = steering.task.max_answer_tokens, []
    if (
        steering.marks[1] is not None
    ):  # in free text nothing ends before: no longer than is compared
        length = min(length, prompts.candidates.shape[-1])
    most = fitting(model, prompts.input_ids.shape[1], ROWS)
    for rows in torch.arange(len(prompts)).split(most):
        ids, mask = prompts.input_ids[rows].cpu(), prompts.attention_mask[rows].cpu()
        log = (
            first_token_log_probabilities(model, ids, mask)
            if steering.kept is None
            else _from_kept(steering, ids, mask, 1).logits.float().log_softmax(-1).cpu()
        )
        chosen = first(log, rows)[:, None]
        tokens = chosen
        if length > 1:
            ids = torch.cat([ids, chosen], dim=1)
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            rest = (
                decode(model, tokenizer, ids, mask, length - 1)
                if steering.kept is None
                else _from_kept(steering, ids, mask, length - 1).tokens.cpu()
            )
            ended = chosen == tokenizer.eos_token_id
            tokens = torch.cat([chosen, rest.masked_fill(ended, -1)], dim=1)
        found.append(tokens)
    tokens, candidates = torch.cat(found).numpy(), prompts.candidates.cpu().numpy()
    return behaviors_of(tokens, candidates, *steering.marks)


def _from_kept(steering: Steering, ids: torch.Tensor, mask: torch.Tensor, length: int) -> Decoded:
    """What follows these prompts, greedy, unsteered: of a prompt's pass the last token alone is new."""
    nothing = torch.zeros(len(ids), 0, length, dtype=torch.long)
    prompts = Prompts(ids, mask, nothing.new_zeros(len(ids), 2, 1)).to(steering.model.device)
    asked = Asked(nothing, length, steering.tokenizer.eos_token_id)
    with evaluating(steering.model):
        shared = steering.kept.pick(steering.model, prompts)
        batch = Batch(shared, torch.arange(len(ids), device=steering.model.device), back=1)
        return decoded(batch, lambda live, step: nullcontext(), asked)


def unembedding_direction(steering: Steering, answered: pd.DataFrame) -> np.ndarray:
    """Mean of W_U[first token of the rule's answer] - W_U[that of the memory's], `[d_model]`.

    Over the prompts of train keys, each with its own two answers; what the model said plays no part
    in it, and neither do pairs: one direction for all prompts, read off the output embedding. Zeros
    without prompts of train keys.
    """
    train = answered[answered.split == "train"]
    weights = bare(steering.model).get_output_embeddings().weight.detach().float().cpu().numpy()
    if train.empty:
        return np.zeros(weights.shape[1])
    memory, rule = first_tokens(steering.tokenizer, train).T
    return (weights[rule].astype(np.float64) - weights[memory]).mean(axis=0)


def unembedding_shifts(direction: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """The direction `[d]` in the last layer at the reference's norm; in all, at its cumulative one.

    Each `[L, d]`, towards the rule; none where the direction is 0.
    """
    length = np.linalg.norm(direction)
    if not length:
        return {}
    unit, (n_layer, _) = direction / length, reference.shape
    last = np.zeros(reference.shape)
    last[-1] = np.linalg.norm(reference) * unit
    each = np.tile(unit * cumulative_norm(reference) / n_layer, (n_layer, 1))
    return {"unembedding_last": last, "unembedding_all": each}


def output_controls(
    trial: Trial, direction: np.ndarray
) -> tuple[dict[str, Bar], dict, pd.DataFrame]:
    """By name its bar; what holds by construction; one row per answer.

    `direction`: `unembedding_direction`. `by_construction`: the share of prompts whose target is
    one token, so that forcing it is success; `same_first_token`: of those whose two answers begin
    alike, where forbidding the source's first token forbids the target's, too.
    """
    steering, name = trial.steering, trial.direction
    prompts = steering.prompts(trial.rows)
    first = prompts.candidates[:, :, 0].cpu()  # [P, 2]
    target, source = first[:, TARGET[name]], first[:, CODE[START[name]]]
    codes = {
        "forbid_source": answered_from(steering, prompts, forbidding(source)),
        "force_target": answered_from(steering, prompts, forcing(target)),
    }
    there = steering.at(NeuronMaps("resid_post", steering.nmd, steering.rho))
    shifts = unembedding_shifts(direction, trial.shift)
    codes |= dict(zip(shifts, trial.run(list(shifts.values()), steering=there)))
    bars = {
        one: Bar.of(one, codes[one], name, shifts.get(one)) if one in codes else Bar(one)
        for one in OUTPUT_CONTROLS
    }
    lengths = (prompts.candidates[:, TARGET[name]] >= 0).sum(-1)  # with the end mark
    facts = {
        "by_construction": float((lengths == 2).float().mean()),
        "same_first_token": float((source == target).float().mean()),
    }
    rows = [outcome_rows(one, found, trial.rows, name) for one, found in codes.items()]
    return bars, facts, pd.concat(rows, ignore_index=True)
