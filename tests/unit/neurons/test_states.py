"""The measure of a shift: how large the states are."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.states import mean_norm


def test_the_mean_norm_is_over_all_layers_together():
    assert mean_norm(np.full((2, 2, 2), 1.0), np.full((2, 2, 2), 2.0)) == pytest.approx(
        3.0
    )  # norms 2 and 4
