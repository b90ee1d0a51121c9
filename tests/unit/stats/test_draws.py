"""A mean over draws and keys: the interval holds both sources of chance."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.stats.draws import mean_over_draws


def test_the_mean_is_the_mean():
    values = np.arange(12).reshape(3, 4)
    found = mean_over_draws(values, np.array(list("aabc")), seed=0)
    assert found["value"] == values.mean()
    assert (found["n"], found["n_keys"], found["draws"]) == (4, 3, 3)
    assert found["interval"][0] < found["value"] < found["interval"][1]


@pytest.mark.parametrize("of", ["draws", "keys"])
def test_the_interval_covers_what_varies(of):
    """Draws (or keys) differ with a spread of 1, nothing else does: about 95 of 100 hold 0."""
    rng, n, held = np.random.default_rng(1), 20, 0
    for trial in range(100):
        effects = rng.normal(size=n)
        values = np.tile(effects, (30, 1))  # [draws, keys]
        if of == "draws":
            values = np.tile(effects[:, None], (1, 30))
        low, high = mean_over_draws(values, np.arange(values.shape[1]), trial, 300)["interval"]
        held += low <= 0 <= high
    assert 86 <= held <= 99


def test_what_cannot_be_known_is_none():
    nothing = {"value": None, "interval": None, "n": 0, "n_keys": 0, "draws": 2}
    assert mean_over_draws(np.empty((2, 0)), np.array([]), seed=0) == nothing
    assert mean_over_draws(np.ones((2, 3)), np.array(list("aaa")), seed=0)["interval"] is None
    with pytest.raises(ValueError, match="is not"):
        mean_over_draws(np.ones((2, 3)), np.array(["a"]), seed=0)
