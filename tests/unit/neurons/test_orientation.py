"""Which prompt looks like one answered by the rule: a cross-fitted logistic regression on its tokens."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.orientation import rule_likeness
from memgen.neurons.probes import Examples, fit_probe
from memgen.neurons.prompt_features import one_hot


def words(n_keys: int, per_key: int, seed: int):
    """Tokens [n, 3], labels that follow the first two a little, and keys."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 4, (n_keys * per_key, 3))
    drive = (tokens[:, 0] == 1) + 0.5 * (tokens[:, 1] > 1) - 0.6
    labels = (drive + rng.normal(0, 0.8, len(tokens)) > 0).astype(int)
    return tokens, labels, np.repeat(np.arange(n_keys), per_key)


def test_up_to_five_keys_each_is_scored_by_the_probe_of_the_others():
    tokens, labels, keys = words(4, 12, 0)
    found = rule_likeness((tokens, labels, keys), (tokens, keys), seed=0)
    for key in range(4):
        mine = keys == key
        train, asked = one_hot(tokens[~mine], tokens[mine])
        probe = fit_probe(Examples(train, labels[~mine], keys[~mine]), 0, standardise=False)
        np.testing.assert_allclose(found[mine], probe.log_odds(asked), atol=1e-9)


def test_there_are_five_folds_of_keys():
    """Tokens that say nothing leave the log odds of the labels of the other four folds."""
    rng = np.random.default_rng(3)
    keys, tokens = np.repeat(np.arange(40), 11), np.full((440, 2), 7)
    labels = (rng.random(440) < np.repeat(rng.random(40), 11)).astype(int)
    found = rule_likeness((tokens, labels, keys), (tokens[::11], np.arange(40)), seed=0)
    values = np.unique(found.round(6))
    assert len(values) == 5
    for value in values:
        fold = np.flatnonzero(found.round(6) == value)
        share = labels[~np.isin(keys, fold)].mean()
        assert len(fold) == 8 and value == pytest.approx(np.log(share / (1 - share)), abs=1e-3)


def test_a_seed_gives_the_same_scores_again():
    tokens, labels, keys = words(12, 4, 2)
    found, again = (rule_likeness((tokens, labels, keys), (tokens, keys), seed=3) for _ in range(2))
    assert found.any() and found.tolist() == again.tolist()


@pytest.mark.parametrize("label", [0, 1])
def test_other_keys_of_one_behaviour_say_nothing(label):
    tokens, labels, keys = words(6, 3, 0)
    labels[:] = label
    assert not rule_likeness((tokens, labels, keys), (tokens, keys), seed=0).any()
