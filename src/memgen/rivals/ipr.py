"""IPR pruning: hidden units whose input weights are not periodic in the operands are cut.

Units that compute with residues have input weights that are a wave of few frequencies over the
residues; units that memorize have all frequencies. For r = 2 the inverse participation ratio is sum_k
(|F_k| / ||F||)^4 of the weights' Fourier transform F: 1 for a single frequency, small where it is
spread. The lowest are cut first, both their inputs and their outputs. Source: Doshi et al. (2024), To
grok or not to grok, where the input is one-hot. Here an operand is a token, so F is that of (embedding
- mean) * norm's gain * input weights over the tokens 00 to 99. The control cuts the highest first.
"""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.sites import bare, site_modules
from memgen.rivals.cna import multiplied
from memgen.rivals.depths import layers_tried
from memgen.rivals.feed_forward import LinearMap, linear_maps
from memgen.rivals.interventions import Edits
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import Reach
from memgen.tasks.arithmetic import Arithmetic

RESIDUES = [f"{number:02d}" for number in range(100)]
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def participation(weights: np.ndarray, r: int = 2) -> np.ndarray:
    """Inverse participation ratio `[units]` of weights over residues `[residues, units]`; 0 for zeros."""
    size = np.abs(np.fft.rfft(weights, axis=0))
    length = np.sqrt((size**2).sum(axis=0))
    return ((size / np.where(length > 0, length, 1)) ** (2 * r)).sum(axis=0)


def operand_weights(material: Material) -> np.ndarray:
    """How strongly each unit reads each operand, `[L, residues, units]`."""
    model, tokenizer = material.steering.model, material.steering.tokenizer
    core = bare(model)
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(RESIDUES), device=core.device)
    embedded = core.get_input_embeddings()(ids).detach()
    centred = embedded - embedded.mean(dim=0)
    norms = site_modules(model, "ln_2")
    first: dict[int, LinearMap] = {}
    for one in linear_maps(model):
        first.setdefault(one.layer, one)
    found = [
        (centred * norms[layer].weight.detach()) @ one.weight.T for layer, one in first.items()
    ]
    return torch.stack(found).double().cpu().numpy()


def lowest(values: np.ndarray, share: float, layers: list[int]) -> np.ndarray:
    """Bool `[L, units]`: the share of the units of these layers with the lowest values, at least one."""
    of = np.full(values.shape, np.inf)
    of[layers] = values[layers]
    n = max(1, round(share * of[layers].size))
    chosen = np.zeros(values.size, dtype=bool)
    chosen[np.argsort(of, axis=None, kind="stable")[:n]] = True
    return chosen.reshape(values.shape)


def candidates(material: Material, direction: str) -> list[Candidate]:
    """The least periodic units first."""
    return _pruned(material, 1.0)


def control(material: Material, direction: str) -> list[Candidate]:
    """The most periodic units first."""
    return _pruned(material, -1.0)


def _pruned(material: Material, sign: float) -> list[Candidate]:
    values = sign * np.stack([participation(one) for one in operand_weights(material)])
    sets = {f"layer {layer + 1}": [layer] for layer in layers_tried(len(values))}
    sets["all layers"] = list(range(len(values)))
    found = [
        Candidate(
            f"{share:.0%} of {name}",
            {"share": share, "layers": name},
            share * len(layers),
            Edits(multiplied(lowest(values, share, layers), 0.0), Reach(None, generated=True)),
        )
        for share in SHARES
        for name, layers in sets.items()
    ]
    return thinned(found, material.effort.budget)


def no_residues(material: Material) -> str:
    """IPR needs operands that are one token each."""
    if not isinstance(material.steering.task, Arithmetic):
        return "it looks for periods over the residues of operands, which this task does not have"
    return ""


METHOD = Method(
    "ipr",
    "IPR pruning",
    "doshi2024grok",
    "code",
    "editing",
    candidates,
    ("m2g",),
    no_residues,
)
CONTROL = Method(
    "ipr_reversed",
    "IPR pruning, most periodic first",
    "doshi2024grok",
    "ours",
    "null",
    control,
    ("m2g",),
    no_residues,
)
