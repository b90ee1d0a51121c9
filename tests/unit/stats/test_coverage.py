"""The simulation of coverage: its truth is the integral that it stands for, and it runs every setting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import norm

from memgen.stats import coverage as module
from memgen.stats.coverage import MIDDLES, SPREADS, Design, Spread, coverage, covered

STUDY = Design(3, 14, 20)  # as the study has them


@pytest.mark.parametrize("middle", [0.2, 0.5, 0.8])
def test_the_truth_is_the_mean_rate_of_all_seeds_and_keys(middle):
    """By adaptive integration over the normal sum of both deviations."""
    spread = Spread(0.6, 0.8)  # together 1.0

    def integrand(z):
        return expit(logit(middle) + z) * norm.pdf(z)

    expected, _ = quad(integrand, -9, 9, epsabs=1e-11)
    assert module._true_mean(spread, middle) == pytest.approx(expected, abs=2e-6)
    assert module._true_mean(Spread(0.0, 0.0), middle) == pytest.approx(middle)


def test_a_simulation_follows_its_seed():
    first, again, other = (
        [covered(STUDY, Spread(0.4, 0.8), 0.8, 60, seed) for seed in seeds]
        for seeds in (range(6), range(6), range(6, 12))
    )
    assert first == again != other
    assert 0.85 < np.mean(first) < 1


def test_every_spread_and_rate_is_simulated():
    found = coverage(STUDY, n_studies=40, seed=3)
    assert [list(row) for row in found] == 6 * [
        ["rate", "seeds_sd", "keys_sd", "covered", "n_studies"]
    ]
    expected = [(middle, one.seeds, one.keys) for one in SPREADS for middle in MIDDLES]
    assert [(row["rate"], row["seeds_sd"], row["keys_sd"]) for row in found] == expected
    for row in found:
        spread = Spread(row["seeds_sd"], row["keys_sd"])
        assert row["covered"] == covered(STUDY, spread, row["rate"], 40, seed=3)
        assert row["n_studies"] == 40
    assert len({row["covered"] for row in found}) > 2


def test_without_a_word_a_thousand_studies_are_simulated_from_seed_0(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "covered", lambda *given: asked.append(given) or 0.5)
    assert {(row["covered"], row["n_studies"]) for row in coverage(STUDY)} == {(0.5, 1000)}
    assert {given[-2:] for given in asked} == {(1000, 0)} and len(asked) == 6
