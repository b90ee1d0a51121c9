"""Knowledge neurons: hidden units whose activation carries the probability of a memorized answer.

A unit's attribution to a fact is its activation times the mean gradient of the answer's probability,
while the activations of its layer are scaled from 0 to what they are, in 20 steps, at the last token of
the prompt. Per fact a unit counts where it has at least 0.2 of the largest attribution; those that
count in at least 70 % of the prompts are kept. Their activation is then set to zero. Source: Dai et al.
(2022), Knowledge Neurons in Pretrained Transformers. There every fact has neurons of its own; here one
ranking over all train keys stands for all, since the neurons of a test key would be found from that
key. Control: attributions less those to free prompts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from memgen.models.components import edited, read
from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import position_ids
from memgen.models.sites import bare, capped
from memgen.rivals.cna import most, multiplied
from memgen.rivals.interventions import Edits
from memgen.rivals.lessons import fitting_beside
from memgen.rivals.material import Material, targets
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import Reach
from memgen.steering.unsteered import ROWS
from memgen.tasks.dataset import spread

STEPS = 20  # of the integral
N_PROMPTS = 48  # of each kind; every one is run `STEPS` times a layer
THRESHOLD = 0.2  # of the largest attribution of a fact
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
FACTORS = (0.5, 0.0)


def integrated(activation: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Activation `[..., units]` times the mean over the steps of the gradients `[steps, ..., units]`."""
    return activation * gradients.mean(dim=0)


def shared_by(attributions: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """In which share of the prompts a unit has at least `threshold` of the largest, `[L, units]`.

    `attributions`: `[n, L, units]`.
    """
    largest = attributions.max(axis=(1, 2), keepdims=True)
    return (attributions >= threshold * largest).mean(axis=0)


def attributions_of(material: Material, rows: pd.DataFrame, n: int) -> np.ndarray:
    """Attributions `[n, L, units]` to the first token of what these prompts were trained to be answered."""
    rows = spread(rows, n)
    model, tokenizer = material.steering.model, material.steering.tokenizer
    core = bare(model)
    ids, mask = tokenize_prompts(tokenizer, list(rows.prompt))
    first = tokenizer(targets(rows), add_special_tokens=False)["input_ids"]
    wanted = torch.tensor([answer[0] for answer in first])
    own = read(model, ids, mask, "units", last=True)  # [n, L, units]
    found = torch.zeros_like(own)
    scales = torch.linspace(0, 1, STEPS)
    with fitting_beside(model):
        for layer in range(own.shape[1]):
            for some in torch.arange(len(ids)).split(max(1, ROWS // STEPS)):
                gradients = _gradients(
                    core, (ids[some], mask[some], wanted[some]), layer, scales, own[some, layer]
                )
                found[some, layer] = integrated(own[some, layer], gradients)
    return found.numpy()


def _gradients(core, prompts, layer: int, scales: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Of the wanted token's probability by the layer's activations, `[steps, n, units]`."""
    ids, mask, wanted = (one.repeat(len(scales), *[1] * (one.ndim - 1)) for one in prompts)
    given = (scales[:, None, None] * own).flatten(0, 1).to(core.device).requires_grad_(True)

    def replaced(units: torch.Tensor) -> torch.Tensor:
        return torch.cat([units[:, :-1], given[:, None].to(units)], dim=1)

    mask = mask.to(core.device)
    with edited(core, {("units", layer): replaced}):
        states = core.base_model(
            input_ids=ids.to(core.device),
            attention_mask=mask,
            position_ids=position_ids(mask),
            use_cache=False,
        ).last_hidden_state[:, -1]
    logits = capped(core, core.get_output_embeddings()(states)).float()
    likely = F.softmax(logits, dim=-1).gather(1, wanted.to(core.device)[:, None])
    (found,) = torch.autograd.grad(likely.sum(), given)
    return found.reshape(len(scales), -1, own.shape[-1]).cpu()


def candidates(material: Material, direction: str) -> list[Candidate]:
    """The top share of one ranking, halved or set to zero."""
    n = min(N_PROMPTS, material.effort.n_fit)
    keyed = attributions_of(material, material.keyed, n)
    free = attributions_of(material, material.free, n)
    mean = keyed.mean(axis=0)
    ties = (
        mean / max(np.abs(mean).max(), 1e-12) * 1e-3
    )  # a share is a multiple of 1/n: these decide
    rankings = {"shared by facts": shared_by(keyed) + ties, "facts less free": mean - free.mean(0)}
    found = [
        Candidate(
            f"{share:.1%} of the units ({name}) times {factor:g}",
            {"share": share, "ranking": name, "factor": factor},
            share * (1 - factor),
            Edits(multiplied(most(ranking, share), factor), Reach(None, generated=True)),
        )
        for share in SHARES
        for name, ranking in rankings.items()
        for factor in FACTORS
    ]
    return thinned(found, material.effort.budget)


METHOD = Method(
    "knowledge_neurons",
    "Knowledge neurons (IG)",
    "dai2022knowledge",
    "code",
    "editing",
    candidates,
    ("m2g",),
)
