"""Steering that looks first: a probe at the same layer decides how far each position is moved.

Dynamic mode steering: h becomes h + alpha P(unwanted | h) v, v one layer's mean difference, P a
logistic probe's. Source: Zhang (2025), Generalization or Memorization; read in its abstract, so the
formula is ours.

Gated subspace steering: only where a probe p . (h - mean) exceeds a threshold, h loses alpha times that
much of a steer direction s. Both come from one decomposition: with S the covariance of the wanted
side's states, u is the first singular direction of the unwanted side's states, centred there and
whitened by S; p = S^-1/2 u and s = S^1/2 u, so alpha = 1 puts the coordinate where the wanted side has
its mean. Source: Zhang et al. (2026), GSS; read in its abstract (a closed-form pair by whitening and
SVD, a rank-1 correction above a threshold), so the formula is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from memgen.models.components import Edit
from memgen.rivals.depths import layers_tried
from memgen.rivals.interventions import Edits
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import Reach
from memgen.terms import SIGN

ALPHAS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
C = 0.1  # inverse strength of the probe's L2 penalty, on standardised states
THRESHOLDS = (0.0, 1.0, 2.0)  # in standard deviations of the wanted side
PULLS = (0.5, 1.0, 2.0, 4.0)
RIDGE = 1e-2  # of the mean variance, added to the covariance before it is inverted


def gated(h: torch.Tensor, line: tuple[torch.Tensor, float], step: torch.Tensor) -> torch.Tensor:
    """h + P step, `[..., d]`: P is the logistic function of h . w + b, `line` is (w `[d]`, b)."""
    weight, bias = line
    return h + torch.sigmoid(h @ weight + bias)[..., None] * step


def probe_line(memory: np.ndarray, rule: np.ndarray) -> tuple[np.ndarray, float]:
    """A logistic probe of states `[n, d]`: log odds of the rule are h . w + b, standardisation folded in."""
    states = np.concatenate([memory, rule]).astype(np.float64)
    mean, scale = states.mean(axis=0), states.std(axis=0)
    scale[scale == 0] = 1
    labels = np.repeat([0, 1], [len(memory), len(rule)])
    probe = LogisticRegression(C=C, max_iter=2000).fit((states - mean) / scale, labels)
    weight = probe.coef_[0] / scale
    return weight, float(probe.intercept_[0] - mean @ weight)


def candidates(material: Material, direction: str) -> list[Candidate]:
    """One layer and strength, gate read at every steered position."""
    sign, found = SIGN[direction], []
    for layer in layers_tried(material.n_layer):
        memory, rule = material.memory[:, layer], material.rule[:, layer]
        weight, bias = probe_line(memory, rule)
        line = torch.from_numpy(-sign * weight), -sign * bias  # the unwanted side's log odds
        mean = rule.mean(axis=0, dtype=np.float64) - memory.mean(axis=0, dtype=np.float64)
        for alpha in ALPHAS:
            edit = _gating(line, torch.from_numpy(sign * alpha * mean))
            found.append(
                Candidate(
                    f"layer {layer + 1}, alpha {alpha:g}",
                    {"layer": layer + 1, "alpha": alpha, "positions": "decision"},
                    alpha,
                    Edits({("resid_post", layer): edit}, Reach(1, generated=True)),
                )
            )
    return thinned(found, material.effort.budget)


def _gating(line: tuple[torch.Tensor, float], step: torch.Tensor) -> Edit:
    return lambda h: gated(h, (line[0].to(h), line[1]), step.to(h))


@dataclass(frozen=True)
class Subspace:
    """The pair of GSS at one layer: `probe`, `steer`, `mean` `[d]`; probe . steer = 1."""

    probe: np.ndarray
    steer: np.ndarray
    mean: np.ndarray

    @classmethod
    def between(cls, wanted: np.ndarray, unwanted: np.ndarray) -> Subspace:
        """From states `[n, d]` of both sides; see the module's text."""
        wanted, unwanted = wanted.astype(np.float64), unwanted.astype(np.float64)
        mean = wanted.mean(axis=0)
        covariance = np.cov(wanted, rowvar=False, ddof=0)
        ridge = RIDGE * np.trace(covariance) / len(covariance) or 1.0
        values, vectors = np.linalg.eigh(covariance + ridge * np.eye(len(covariance)))
        values = values.clip(min=1e-12)
        inverse_root = (vectors / np.sqrt(values)) @ vectors.T
        root = (vectors * np.sqrt(values)) @ vectors.T
        away = (unwanted - mean) @ inverse_root
        first = np.linalg.svd(away, full_matrices=False)[2][0]
        if (away @ first).mean() < 0:  # towards the unwanted side
            first = -first
        return cls(inverse_root @ first, root @ first, mean)

    def corrected(self, h: torch.Tensor, threshold: float, alpha: float) -> torch.Tensor:
        """h `[..., d]`, moved back along the steer direction where the probe is above the threshold."""
        probe, steer, mean = (
            torch.from_numpy(one).to(h) for one in (self.probe, self.steer, self.mean)
        )
        above = (h - mean) @ probe
        pull = torch.where(above > threshold, alpha * above, torch.zeros_like(above))
        return h - pull[..., None] * steer


def subspace_candidates(material: Material, direction: str) -> list[Candidate]:
    """One layer, threshold and strength."""
    sides = material.rule, material.memory
    wanted, unwanted = sides if direction == "m2g" else sides[::-1]
    found = []
    for layer in layers_tried(material.n_layer):
        pair = Subspace.between(wanted[:, layer], unwanted[:, layer])
        for threshold in THRESHOLDS:
            for alpha in PULLS:
                found.append(
                    Candidate(
                        f"layer {layer + 1}, above {threshold:g}, alpha {alpha:g}",
                        {"layer": layer + 1, "threshold": threshold, "alpha": alpha},
                        alpha - threshold / 10,  # of equals, the one that acts less often
                        Edits(
                            {("resid_post", layer): _correcting(pair, threshold, alpha)},
                            Reach(1, generated=True),
                        ),
                    )
                )
    return thinned(found, material.effort.budget)


def _correcting(pair: Subspace, threshold: float, alpha: float) -> Edit:
    return lambda h: pair.corrected(h, threshold, alpha)


DMS = Method("dms", "DMS probe-gated", "zhang2025dms", "abstract", "steering", candidates)
GSS = Method(
    "gss", "GSS gated subspace", "zhang2026gss", "abstract", "steering", subspace_candidates
)
