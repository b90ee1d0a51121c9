"""Operators beside what the published code computes, written down again from it, on planted arrays.

What is compared is transcribed as that code has it, loops and all, with the place it is from.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memgen.models.hooks import shift
from memgen.rivals.caa import mean_difference
from memgen.rivals.pca import pca_center, pca_diff
from memgen.rivals.probe_direction import PENALTY, probe_direction

PAIRS, WIDTH = 300, 12
EQUAL = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Memory and rule states `[n, d]`: all pairs differ along coordinate 3, and are loud along 7."""
    rng = np.random.default_rng(5)
    memory = rng.normal(size=(PAIRS, WIDTH))
    rule = memory + rng.normal(0, 0.2, (PAIRS, WIDTH))
    rule[:, 3] += 2.0
    rule[:, 7] += rng.normal(0, 1.0, PAIRS)
    return memory.astype(np.float32), rule.astype(np.float32)


def caa_vector(positive: list, negative: list) -> torch.Tensor:
    """nrimsky/CAA, generate_vectors.py, `generate_save_vectors`."""
    all_pos_layer, all_neg_layer = torch.stack(positive), torch.stack(negative)
    return (all_pos_layer - all_neg_layer).mean(dim=0)


def test_caa_is_the_mean_difference(pairs):
    memory, rule = pairs
    published = caa_vector([*torch.from_numpy(rule)], [*torch.from_numpy(memory)])
    found = mean_difference(rule[:, None], memory[:, None])
    assert found.shape == (1, WIDTH) and np.allclose(found[0], published.numpy(), **EQUAL)


def caa_block(output: torch.Tensor, vector: torch.Tensor, after: int, twice: bool) -> torch.Tensor:
    """nrimsky/CAA, utils/helpers.py `add_vector_after_position` and llama_wrapper.py, `forward`."""
    position_ids = torch.arange(output.shape[1])[None]
    mask = (position_ids > after).unsqueeze(-1)
    augmented_output = output + mask.float() * vector
    return augmented_output + vector if twice else augmented_output


@pytest.mark.parametrize("after, positions", [(-1, "all"), (2, "decision")])
def test_caas_stored_wrapper_adds_the_vector_twice_and_ours_once(alike, after, positions):
    """Its last line adds to all positions what was added behind the instruction the line before."""
    model = alike[0].model
    ids = torch.tensor([[1, 2, 3, 4]])
    delta = torch.zeros(2, 8)
    delta[1] = torch.linspace(-1, 1, 8)
    found = []
    for context in (torch.no_grad(), shift(model, "resid_post", delta, positions)):
        with context, torch.no_grad():
            keep = model.transformer.h[1].register_forward_hook(
                lambda module, args, output: found.append(
                    output[0] if isinstance(output, tuple) else output
                )
            )
            model(ids)
            keep.remove()
    plain, steered = found
    assert torch.allclose(steered, caa_block(plain, delta[1], after, twice=False), atol=1e-6)
    stored = caa_block(plain, delta[1], after, twice=True)
    assert torch.allclose((stored - plain)[:, -1], 2 * delta[1], atol=1e-6)
    if positions == "decision":  # and once where nothing was to be added
        assert torch.allclose((stored - plain)[:, :-1], delta[1].expand(3, 8), atol=1e-6)


def repeng_direction(h: np.ndarray, method: str) -> np.ndarray:
    """vgel/repeng, repeng/extract.py, `read_representations`; h: positive, negative, positive, ..."""
    h = h.copy()
    if method == "pca_diff":
        train = h[::2] - h[1::2]
    else:
        center = (h[::2] + h[1::2]) / 2
        train = h
        train[::2] -= center
        train[1::2] -= center
    pca_model = PCA(n_components=1, whiten=False).fit(train)
    direction = pca_model.components_.astype(np.float32).squeeze(axis=0)
    projected = (h @ direction) / np.linalg.norm(direction)
    smaller = np.mean([projected[i] < projected[i + 1] for i in range(0, len(h), 2)])
    larger = np.mean([projected[i] > projected[i + 1] for i in range(0, len(h), 2)])
    return -direction if smaller > larger else direction


def interleaved(rule: np.ndarray, memory: np.ndarray) -> np.ndarray:
    return np.stack([rule, memory], axis=1).reshape(-1, rule.shape[1])


@pytest.mark.parametrize("operator", [pca_diff, pca_center])
def test_principal_components_are_those_of_repeng(pairs, operator):
    memory, rule = pairs
    published = repeng_direction(interleaved(rule, memory), operator.__name__)
    assert np.allclose(operator(rule, memory), published, atol=1e-5)


def test_repengs_default_loses_what_all_pairs_have_in_common(pairs):
    """The differences are centred: the planted coordinate goes, the loudest one stays."""
    memory, rule = pairs
    for find in (pca_diff, lambda r, m: repeng_direction(interleaved(r, m), "pca_diff")):
        lost = find(rule, memory)
        assert abs(lost[3]) < 0.2 and abs(lost[7]) > 0.95
    assert pca_center(rule, memory)[3] > 0.9
    assert abs(pca_diff(rule + 100 * np.eye(WIDTH, dtype=np.float32)[3], memory)[3]) < 0.2


def test_the_probes_direction_is_that_of_its_log_odds(pairs):
    memory, rule = pairs
    states = np.concatenate([memory, rule]).astype(np.float64)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=1000))
    pipeline.fit(states, np.repeat([0, 1], PAIRS))
    here = states[:1]
    gradient = np.array(
        [
            (pipeline.decision_function(here + step) - pipeline.decision_function(here))[0]
            for step in np.eye(WIDTH)
        ]
    )  # the log odds are a straight line, so a step of 1 gives their slope
    unit, spread = probe_direction(rule, memory)
    assert np.allclose(unit, gradient / np.linalg.norm(gradient), **EQUAL)
    assert spread == pytest.approx(np.std(states @ unit))
    assert unit[3] > 0.9
