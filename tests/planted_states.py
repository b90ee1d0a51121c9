"""Hidden states of pairs in which it is known which neuron carries the behaviour."""

from __future__ import annotations

import numpy as np

from memgen.neurons.probes import Examples

LAYERS, WIDTH = 3, 16
PLANTED = (2, 5)


def planted_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory and rule states of 60 pairs, and their 20 keys. One neuron, layer 2 index 5, is higher
    when the rule answers.
    """
    rng = np.random.default_rng(0)
    memory, rule = rng.normal(size=(2, 60, LAYERS, WIDTH)).astype(np.float32)
    rule[(slice(None), *PLANTED)] += 3
    return memory, rule, np.repeat(np.arange(20), 3)


def states_and_labels(memory: np.ndarray, rule: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([memory, rule]), np.repeat([0, 1], len(memory))


PROBE_LAYERS, PROBE_WIDTH, PER_KEY = 2, 24, 6


def planted_examples(n_keys: int, first_key: int, seed: int) -> Examples:
    """Prompts of one split whose states hold the label in layer 1, along a fixed direction; layer 0 is
    noise.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=n_keys * PER_KEY)
    keys = np.array([f"key{first_key + i}" for i in range(n_keys)]).repeat(PER_KEY)
    states = rng.normal(size=(len(labels), PROBE_LAYERS, PROBE_WIDTH)).astype(np.float32)
    direction = np.random.default_rng(99).normal(size=PROBE_WIDTH)
    states[:, 1] += np.outer(2 * labels - 1, direction)
    return Examples(states, labels, keys)
