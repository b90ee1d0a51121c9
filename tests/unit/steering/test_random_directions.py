"""Random directions have the size of the shift; the best of them is chosen on validation prompts."""

import numpy as np
import pytest

from memgen.neurons.nmd import NeuronMaps
from memgen.steering import random_directions
from memgen.steering.cells import Cell, cumulative_norm
from memgen.steering.random_directions import best_of_random, random_direction
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from steered import ONE


@pytest.mark.parametrize("seed", range(5))
def test_a_random_direction_keeps_every_norm_and_angle_but_not_the_direction(seed):
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(4, 200)) * np.array([[0], [1], [2], [5]])
    turned = random_direction(reference, rng)
    np.testing.assert_allclose(turned @ turned.T, reference @ reference.T, atol=1e-9)
    assert cumulative_norm(turned) == pytest.approx(cumulative_norm(reference))
    assert not turned[0].any() and np.count_nonzero(turned[1:]) == 600
    cosine = np.vdot(turned, reference) / np.vdot(reference, reference)
    assert abs(cosine) < 0.3


def test_one_direction_stays_one_and_all_directions_are_equally_likely():
    reference, rng = np.outer([1.0, 2.0], np.eye(8)[0]), np.random.default_rng(0)
    drawn = np.stack([random_direction(reference, rng) for _ in range(2000)])
    np.testing.assert_allclose(2 * drawn[:, 0], drawn[:, 1])
    # a mean of 2000 unit vectors, and the second moment of a uniform direction: 1/8 in each axis
    assert np.abs(drawn[:, 0].mean(0)).max() < 0.04
    np.testing.assert_allclose(drawn[:, 0].T @ drawn[:, 0] / 2000, np.eye(8) / 8, atol=0.02)


def planted_draws(monkeypatch, sizes):
    """Let the random directions be the planted one, this many times as long."""
    left = iter(sizes)
    monkeypatch.setattr(
        random_directions, "random_direction", lambda reference, rng: next(left) * reference
    )


def test_the_best_of_many_is_found_on_validation_prompts(alike, monkeypatch):
    steering, _, answered = alike
    rows, tuning = (steering_prompts(answered, s, "m2g", 20) for s in ("test", "validation"))
    trial = Trial(steering, "m2g", Cell(ONE, 1.0), rows)
    planted_draws(monkeypatch, [0.1, -1.0, 4.0, 1.0, 0.2])
    bar, facts, answers = best_of_random(trial, tuning, 5, np.random.default_rng(0))
    assert facts["validation_success"] == bar.success == answers.success.mean() == 1.0
    assert bar.n == len(answers) == len(rows) and set(answers.kind) == {"best_of_random"}
    assert bar.norm == pytest.approx(np.linalg.norm(trial.shift))
    assert facts["n_directions"] == 5 and 0 < facts["rows_run"] <= 5 * len(tuning)


def test_the_best_is_not_chosen_anew_on_test_prompts(planted, planted_direction, monkeypatch):
    """Validation keys need a shift of 1, test keys one of 4: the winner of the race fails."""
    model, tokenizer, task, _, answered = planted()
    maps = NeuronMaps.of(planted_direction, "resid_post")
    rows, tuning = (steering_prompts(answered, s, "m2g", 20) for s in ("test", "validation"))
    trial = Trial(Steering(model, tokenizer, task, maps), "m2g", Cell(ONE, 1.0), rows)
    planted_draws(monkeypatch, [4.0, 1.0])
    bar, facts, _ = best_of_random(trial, tuning, 2, np.random.default_rng(0))
    assert (facts["validation_success"], bar.success) == (1.0, 0.0)


def test_a_shift_in_single_precision_is_turned_in_double_precision():
    reference = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    turned = random_direction(reference, np.random.default_rng(1))
    exact = reference.astype(np.float64)
    np.testing.assert_allclose(turned @ turned.T, exact @ exact.T, rtol=0, atol=1e-12)


def test_the_winner_is_one_of_the_drawn_directions_under_its_own_name(alike):
    """With a generator of the same seed the directions can be drawn again."""
    steering, _, answered = alike
    rows, tuning = (steering_prompts(answered, s, "m2g", 20) for s in ("test", "validation"))
    trial = Trial(steering, "m2g", Cell(ONE, 2.0), rows)
    bar, facts, answers = best_of_random(trial, tuning, 6, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    drawn = [random_direction(trial.shift, rng) for _ in range(6)]
    on_validation = [trial.succeeds(code).mean() for code in trial.on(tuning).run(drawn)]
    assert 0 < max(on_validation) == facts["validation_success"] and 0 in on_validation
    (codes,) = trial.run([drawn[int(np.argmax(on_validation))]])
    assert bar.name == "best_of_random" and bar.success == trial.succeeds(codes).mean()
    np.testing.assert_array_equal(answers.success, trial.succeeds(codes))
