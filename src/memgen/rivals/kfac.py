"""Curvature edit: directions of the weights that a reference loss hardly bends are removed.

For a map with inputs a and gradients g at its outputs, A = E[a a^T] and G = E[g g^T] approximate the
curvature of the loss by a product. In their eigenbases the weight is C = U_G^T W U_A; of its entries
(i, j) those with the largest mu_i lambda_j stay until their share of the sum of all products is rho,
the others become zero. Biases stay. The gradients are those of labels that the model draws itself, at
all positions but the last. Source: Merullo et al. (2025), From Memorization to Reasoning in the
Spectrum of Loss Curvature. The control takes the identity for both: then it is the truncation of
singular values at the same share of their squares. The two shares measure different things, so
frontiers are compared, not shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from memgen.models.sites import bare, capped
from memgen.rivals.depths import layer_sets
from memgen.rivals.feed_forward import LinearMap, linear_maps
from memgen.rivals.interventions import Weights
from memgen.rivals.lessons import Lesson, fitting_beside, room_for_copies
from memgen.rivals.material import Material, targets
from memgen.rivals.method import Candidate, Method, thinned

SHARES = (0.999, 0.995, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6)
#: of the squared singular values; less is kept than above, since the two shares are not comparable
SINGULAR_SHARES = (0.999, 0.99, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3)
Factors = dict[
    str, tuple[torch.Tensor, torch.Tensor]
]  # by parameter A `[in, in]` and G `[out, out]`


def kept_entries(outer: torch.Tensor, inner: torch.Tensor, share: float) -> torch.Tensor:
    """Bool `[out, in]`: the fewest largest products of eigenvalues `[out]`, `[in]` that hold `share`."""
    products = torch.outer(outer.clamp(min=0), inner.clamp(min=0)).flatten()
    values, order = products.sort(descending=True, stable=True)
    held = values.cumsum(0)
    before = held - values  # what the ones before hold: an entry is taken while that is too little
    kept = torch.zeros(len(products), dtype=torch.bool)
    kept[order[before < share * held[-1]]] = True
    return kept.reshape(len(outer), len(inner))


@dataclass(frozen=True)
class Curvature:
    """Eigenvalues and eigenvectors of A `[in, in]` and G `[out, out]`, float64."""

    inner: torch.Tensor
    along_in: torch.Tensor
    outer: torch.Tensor
    along_out: torch.Tensor

    @classmethod
    def of(cls, a: torch.Tensor, g: torch.Tensor) -> Curvature:
        return cls(*torch.linalg.eigh(a.double().cpu()), *torch.linalg.eigh(g.double().cpu()))

    def edited(self, weight: torch.Tensor, share: float) -> torch.Tensor:
        """The weight `[out, in]` with the kept entries alone."""
        rotated = self.along_out.T @ weight.double().cpu() @ self.along_in
        kept = rotated * kept_entries(self.outer, self.inner, share)
        return (self.along_out @ kept @ self.along_in.T).to(weight)


def truncated(weight: torch.Tensor, share: float) -> torch.Tensor:
    """The weight with its largest singular values alone: the fewest whose squares hold `share` of all."""
    left, values, right = torch.linalg.svd(weight.double().cpu(), full_matrices=False)
    squares = values**2
    kept = squares.cumsum(0) - squares < share * squares.sum()
    return ((left * (values * kept)) @ right).to(weight)


def factors_of(
    material: Material, rows: pd.DataFrame, maps: Sequence[LinearMap], rng: np.random.Generator
) -> Factors:
    """A and G of these maps over prompts and answers (as trained), all positions but the last."""
    model = material.steering.model
    lesson = Lesson.of(material.steering, list(rows.prompt), targets(rows))
    found: Factors = {}
    counted = 0
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    with fitting_beside(model):
        for some in torch.arange(len(lesson)).split(material.effort.batch):
            part = lesson[some.to(lesson.ids.device)]
            real = _real(part)
            inputs, gradients = _passed(model, part.ids, real, maps, generator)
            counted += int(real.sum())
            for one in maps:
                a, g = inputs[one.parameter], gradients[one.parameter]
                old = found.get(one.parameter, (0.0, 0.0))
                found[one.parameter] = (old[0] + a.T @ a, old[1] + g.T @ g)
    return {name: (a / counted, g / counted) for name, (a, g) in found.items()}


def _real(lesson: Lesson) -> torch.Tensor:
    """Bool `[n, T]`: tokens that another token of the row follows."""
    columns = torch.arange(lesson.ids.shape[1], device=lesson.ids.device)
    last = (lesson.wanted * (columns + 1)).amax(1)  # one behind the last place that is asked
    return columns < last[:, None]


def _passed(model, ids, real, maps: Sequence[LinearMap], generator):
    """Inputs and output gradients of the maps at the real tokens, each `[tokens, width]` by parameter."""
    inputs: dict[str, torch.Tensor] = {}
    probes: dict[str, torch.Tensor] = {}

    def watch(name: str):
        def hook(module, args, output):
            inputs[name] = args[0][real].detach()
            probes[name] = torch.zeros_like(output, requires_grad=True)
            return output + probes[name]

        return hook

    core = bare(model)
    with ExitStack() as stack:
        for one in maps:
            handle = one.module.register_forward_hook(watch(one.parameter))
            stack.callback(handle.remove)
        states = core.base_model(input_ids=ids, use_cache=False).last_hidden_state
        logits = capped(core, core.get_output_embeddings()(states[real])).float()
        drawn = torch.multinomial(logits.detach().softmax(-1).cpu(), 1, generator=generator)[
            :, 0
        ]  # on the CPU: the same draws wherever the model is
        loss = torch.nn.functional.cross_entropy(logits, drawn.to(logits.device), reduction="sum")
        gradients = torch.autograd.grad(loss, list(probes.values()))
    return inputs, {name: one[real] for name, one in zip(probes, gradients, strict=True)}


def _edits(material: Material, shares: Sequence[float], edited) -> list[Candidate]:
    """Every share in every set of layers; `edited(map, share)` is the new weight `[out, in]`."""
    maps, found = linear_maps(material.steering.model), []
    for share in shares:
        stored = {one.parameter: one.storing(edited(one, share)) for one in maps}
        for name, layers in layer_sets(material.n_layer).items():
            changes = {one.parameter: stored[one.parameter] for one in maps if one.layer in layers}
            found.append(
                Candidate(
                    f"{name}, {share:.1%} kept",
                    {"layers": name, "share": share},
                    (1 - share) * len(layers),
                    Weights(changes),
                )
            )
    return thinned(found, material.effort.budget)


def candidates(material: Material, direction: str) -> list[Candidate]:
    """The reference is half keyed, half free prompts, as the training data are."""
    return _curved(material, pd.concat([material.free, material.keyed], ignore_index=True))


def free_candidates(material: Material, direction: str) -> list[Candidate]:
    """The reference holds nothing that was memorized."""
    return _curved(material, material.free)


def _curved(material: Material, rows: pd.DataFrame) -> list[Candidate]:
    maps = linear_maps(material.steering.model)
    factors = factors_of(material, rows, maps, material.rng(0))
    curved = {name: Curvature.of(*both) for name, both in factors.items()}
    return _edits(
        material, SHARES, lambda one, share: curved[one.parameter].edited(one.weight, share)
    )


def identity_candidates(material: Material, direction: str) -> list[Candidate]:
    """The control: no curvature, the weights' own singular values."""
    return _edits(material, SINGULAR_SHARES, lambda one, share: truncated(one.weight, share))


_ROOM = room_for_copies(len(SHARES))
KFAC = Method(
    "kfac", "K-FAC edit", "merullo2025kfac", "code", "editing", candidates, ("m2g",), _ROOM
)
KFAC_FREE = Method(
    "kfac_free",
    "K-FAC edit, free reference",
    "merullo2025kfac",
    "code",
    "editing",
    free_candidates,
    ("m2g",),
    _ROOM,
)
SVD = Method(
    "svd",
    "SVD truncation (identity metric)",
    "merullo2025kfac",
    "ours",
    "editing",
    identity_candidates,
    ("m2g",),
    _ROOM,
)
