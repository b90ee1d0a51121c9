"""What is foretold of rows that were not run, against planted leads and against counting."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import t as student

from memgen.steering.outlook import LEAST, MEDIAN, Outlook, kinship, student_below, tail


def counted(chances: np.ndarray, needed: int) -> float:
    """Over all outcomes, one by one."""
    found = 0.0
    for outcome in product((0, 1), repeat=len(chances)):
        if sum(outcome) >= needed:
            found += np.prod(np.where(outcome, chances, 1 - chances))
    return found


def test_the_tail_is_that_of_all_outcomes_counted():
    rng = np.random.default_rng(0)
    chances = np.concatenate([rng.random((9, 7)), [[0, 1, 1, 0, 0.5, 0.2, 1]]])
    for needed in range(10):
        found = tail(chances, np.full(10, needed))
        expected = [counted(row, needed) for row in chances]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_what_is_certain_is_said_to_be():
    chances = np.array([[1.0, 1, 0, 0], [1, 0.5, 0, 0], [1e-4, 1e-4, 0, 0]])
    assert tail(chances, np.array([2, 3, 3])).tolist() == [1, 0, 0]
    assert tail(chances, np.array([0, 1, 5])).tolist() == [1, 1, 0]


def test_a_bound_stands_for_what_is_hardly_possible():
    """The chance of 40 of 60 at 0.1 each is far below the smallest that is computed exactly."""
    found = tail(np.full((1, 60), 0.1), np.array([40]))[0]
    assert 0 < found < 1e-9
    exact = tail(np.full((1, 60), 0.1), np.array([12]))[0]
    draws = np.random.default_rng(0).binomial(60, 0.1, 200000)
    assert exact == pytest.approx((draws >= 12).mean(), rel=0.1)


def test_students_distribution_is_that_of_scipy():
    x = np.linspace(-30, 30, 601)
    np.testing.assert_allclose(student_below(x), student.cdf(x, 4), atol=1e-12)
    assert MEDIAN == pytest.approx(student.ppf(0.75, 4), rel=1e-12)


def test_shifts_that_point_alike_and_are_as_long_are_kin():
    one, other = np.eye(2, 6)
    shifts = np.stack([one, 1.5 * one, 8 * one, other, one + other, 0 * one])[:, None]
    found = kinship(shifts)
    np.testing.assert_allclose(found.diagonal(), 1)
    np.testing.assert_allclose(found, found.T)
    assert np.linalg.eigvalsh(found).min() > 0
    assert found[0, 1] > found[0, 4] > found[0, 3] and found[0, 1] > found[0, 2]
    assert found[5, 0] == found[5, 3] < found[0, 3]  # no shift has only in common what all have


def grid_of_shifts(n_sizes: int = 6, n_turns: int = 3) -> np.ndarray:
    turns = np.linspace(0, 1.2, n_turns)
    sizes = 1.5 ** np.arange(n_sizes)
    return np.array([[[s * np.cos(t), s * np.sin(t)]] for t in turns for s in sizes])


def planted(seed: int, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Leads of a Gaussian over cells, prompts alike but for chance: `(kinship, leads [C, P])`."""
    rng = np.random.default_rng(seed)
    kin = kinship(grid_of_shifts())
    root = np.linalg.cholesky(kin)
    mean = 1.5 * root @ rng.normal(size=len(kin)) - 0.5
    return kin, np.sinh(mean[:, None] + root @ rng.normal(size=(len(kin), n)))


def seen(kin: np.ndarray, leads: np.ndarray, share: float, seed: int) -> Outlook:
    rng = np.random.default_rng(seed)
    outlook = Outlook(kin, leads.shape[1])
    cells, prompts = (rng.random(leads.shape) < share).nonzero()
    outlook.learn(cells, prompts, leads[cells, prompts])
    return outlook


def test_a_row_that_was_run_is_certain_and_no_other_is():
    kin, leads = planted(0)
    outlook = seen(kin, leads, 0.1, 0)
    chances = outlook.chances
    assert set(chances[outlook.run]) == {0, 1}
    np.testing.assert_array_equal(outlook.won[outlook.run], leads[outlook.run] > 0)
    unrun = chances[~outlook.run]
    assert LEAST <= unrun.min() and unrun.max() <= 1 - LEAST


def test_other_cells_of_a_prompt_foretell_it():
    """Better than the true share of successes of every cell does, which knows nothing of prompts."""
    ours, shares = [], []
    for seed in range(6):
        kin, leads = planted(seed)
        outlook = seen(kin, leads, 0.2, seed)
        won = leads > 0
        ours.append(((outlook.chances - won) ** 2)[~outlook.run].mean())
        shares.append(((won.mean(1, keepdims=True) - won) ** 2)[~outlook.run].mean())
    assert np.mean(ours) < 0.8 * np.mean(shares)


def test_successes_are_as_often_as_unlikely_as_is_said():
    """The chance of fewer than were planted: spread over 0 to 1, without too many near the ends."""
    below = []
    for seed in range(20):
        kin, leads = planted(100 + seed)
        outlook = seen(kin, leads, 0.08, seed)
        below.append(1 - outlook.at_least((leads > 0).sum(1)))
    below = np.concatenate(below)
    assert (below > 0.95).mean() < 0.08 and (below > 0.99).mean() < 0.02
    assert 0.3 < (below > 0.5).mean() < 0.7


def test_errors_that_are_larger_than_foretold_are_made_up_for():
    """Leads of prompts and cells that have nothing in common, where the prior says that they have."""
    rng = np.random.default_rng(0)
    kin = kinship(grid_of_shifts())
    leads = np.sinh(rng.normal(size=(len(kin), 80)))
    outlook = seen(kin, leads, 0.1, 1)
    assert outlook._inflation == 1.0
    before = outlook.chances.copy()
    wide = np.sinh(3 * np.arcsinh(leads))
    cells, prompts = ((rng.random(leads.shape) < 0.1) & ~outlook.run).nonzero()
    outlook.learn(cells, prompts, wide[cells, prompts])
    assert outlook._inflation > 1.2 and before.shape == outlook.chances.shape


def test_leads_that_are_all_the_same_foretell_the_same():
    for lead, chance in ((2.0, 1), (-2.0, 0)):
        outlook = Outlook(kinship(grid_of_shifts()), 10)
        outlook.learn(np.arange(18), np.arange(18) % 10, np.full(18, lead))
        assert np.abs(outlook.chances - chance).max() < 0.1
