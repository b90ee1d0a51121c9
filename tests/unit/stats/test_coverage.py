"""The simulation of coverage: its truths are the integrals they stand for, and its intervals are those
of the study.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import norm

from memgen.stats import coverage as module
from memgen.stats.auc import roc_auc
from memgen.stats.coverage import QUANTITIES, SPREADS, Design, Spread, coverage, covered
from memgen.stats.over_seeds import half_widths, over_keys, rate

STUDY, SHARED = Design(3, 14, 20), Design(3, 14, 20, shared_keys=True)  # as the study has them
EVERY = [(name, planted) for name, (_, cases) in QUANTITIES.items() for planted in cases]


@pytest.mark.parametrize("middle", [0.2, 0.5, 0.8])
def test_the_truth_is_the_mean_rate_of_all_seeds_and_keys(middle):
    """By adaptive integration over the normal sum of both deviations."""
    spread = Spread(0.6, 0.8)  # together 1.0

    def integrand(z):
        return expit(logit(middle) + z) * norm.pdf(z)

    expected, _ = quad(integrand, -9, 9, epsabs=1e-11)
    assert module._mean_rate(spread, middle) == pytest.approx(expected, abs=2e-6)
    assert module._mean_rate(Spread(0.0, 0.0), middle) == pytest.approx(middle)


@pytest.mark.parametrize("quantity, planted", EVERY)
def test_with_many_keys_and_prompts_a_quantity_is_its_truth(quantity, planted):
    many, rng = Design(40, 100, 40), np.random.default_rng(0)
    truth, values = QUANTITIES[quantity][0](many, Spread(0.4, 0.8), planted, 5, rng)
    error = values.std(ddof=1) / np.sqrt(values.size)
    # the smallest of several numbers, and the larger one of two, lean with the noise that is left
    assert abs(values.mean() - truth) < 4 * error + 0.006


@pytest.mark.parametrize("quantity, planted", EVERY)
@pytest.mark.parametrize("design", [STUDY, SHARED])
def test_a_95_percent_interval_holds_the_truth_about_so_often(quantity, planted, design):
    found = covered(quantity, design, Spread(0.4, 0.8), planted, 400, 0)
    assert 0.89 < found <= 1


def test_intervals_are_those_of_the_study():
    """The same wins as a table of keys and seeds, interval by interval."""
    for design in (STUDY, SHARED):
        keys = module._Keys(design, Spread(0.4, 0.8), 5, np.random.default_rng(1))
        wins = module._wins(keys, 0.8, keys.of_keys())
        values = module._share(wins, design)
        without = values[..., 1:] if design.shared_keys else None
        half = half_widths(values[..., 0], 1 / 280, without)
        seeds, names = (axis.ravel() for axis in np.indices(design.shape))
        n = np.full(len(seeds), design.n_prompts)
        for i, one in enumerate(wins):
            found = over_keys(
                lambda w, one=one: rate(w, one.ravel(), n),
                seeds,
                names,
                int(n.sum()),
                shared_keys=design.shared_keys,
            )
            assert found.value == pytest.approx(values[i, :, 0].mean())
            assert found.high - found.value == pytest.approx(half[i])


def test_areas_with_and_without_a_key_are_those_of_the_pairs():
    design = Design(2, 4, 6, shared_keys=True)
    keys = module._Keys(design, Spread(0.4, 0.8), 3, np.random.default_rng(2))
    labels, of_keys = module._labels(keys), keys.of_keys()
    scores = module._scores(keys, 0.7, labels, of_keys)
    found = module._auc(labels, scores, design)
    assert found.shape == (3, 2, 5)
    for i, s in np.ndindex(3, 2):
        weights = 1 - np.eye(5, 4, k=-1)[:, :, None] * np.ones(6)  # row 0: all keys
        expected = roc_auc(labels[i, s].ravel(), scores[i, s].ravel(), weights.reshape(5, -1))
        np.testing.assert_allclose(found[i, s], expected)
    whole = module._auc(labels, scores, Design(2, 4, 6))
    np.testing.assert_array_equal(whole[..., 0], found[..., 0])


def test_a_simulation_follows_its_seed():
    first, again, other = (
        [covered("rate", STUDY, Spread(0.4, 0.8), (0.8,), 60, seed) for seed in seeds]
        for seeds in (range(6), range(6), range(6, 12))
    )
    assert first == again != other
    assert 0.85 < np.mean(first) < 1


def test_every_spread_and_truth_is_simulated():
    found = coverage({"rate": STUDY, "AUC": Design(3, 9, 8)}, n_studies=40, seed=3)
    names = ["quantity", "planted", "seeds_sd", "keys_sd", "n_keys", "covered", "n_studies"]
    assert [list(row) for row in found] == 12 * [names]
    expected = [
        (name, list(planted), one.seeds, one.keys)
        for name in ("rate", "AUC")
        for planted in QUANTITIES[name][1]
        for one in SPREADS
    ]
    asked = ("quantity", "planted", "seeds_sd", "keys_sd")
    assert [tuple(row[name] for name in asked) for row in found] == expected
    for row in found[:6]:
        spread = Spread(row["seeds_sd"], row["keys_sd"])
        assert row["covered"] == covered("rate", STUDY, spread, tuple(row["planted"]), 40, seed=3)
        assert (row["n_studies"], row["n_keys"]) == (40, 14)
    assert len({row["covered"] for row in found}) > 2


def test_without_a_word_a_thousand_studies_are_simulated_from_seed_0(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "covered", lambda *given: asked.append(given) or 0.5)
    found = coverage({"rate": STUDY})
    assert {(row["covered"], row["n_studies"]) for row in found} == {(0.5, 1000)}
    assert {given[-2:] for given in asked} == {(1000, 0)} and len(asked) == 6
