"""Variants held against their reference: rates, paired differences, what matters, what is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from memgen.stats.intervals import bootstrap_by_key, weighted_mean, wilson
from memgen.steering.cells import Cell
from memgen.steering.comparison import (
    ADDED,
    CLAMPED,
    GROUPS,
    IDENTITY,
    NULL,
    REFERENCE,
    Comparison,
    Variant,
    _exact,
    facts_of,
)
from memgen.steering.steering import steering_prompts
from memgen.steering.trial import Trial
from memgen.terms import CODE, START, TARGET
from steered import ONE

DIRECTION = "m2g"
WON, STAYED, OTHER = TARGET[DIRECTION], CODE[START[DIRECTION]], CODE["other"]


@pytest.fixture
def trial(alike):
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", DIRECTION, 12).reset_index(drop=True)
    return Trial(steering, DIRECTION, Cell(ONE, 1.0), rows)


def all_of(trial, code) -> np.ndarray:
    return np.full((1, len(trial.rows)), code)


def references(trial) -> list[Variant]:
    """Of every group, and the layers alone and left out; the reference turns every prompt."""
    won, none = all_of(trial, WON), all_of(trial, STAYED)
    found = [Variant(group, REFERENCE[group], won) for group in GROUPS]
    for k in (1, 2):
        found.append(Variant("layers", f"layer_{k}_only", won if k == 2 else none))
        found.append(Variant("layers", f"all_but_layer_{k}", none if k == 2 else won))
    return found


def test_facts_are_means_over_the_draws():
    reference = np.array([[3.0, 0.0], [0.0, 4.0]])
    shifts = [reference / 5, np.array([[0.0, 3.0], [0.0, 0.0]])]
    found = facts_of(shifts, reference)
    assert found["norm"] == pytest.approx((1 + 3) / 2)
    assert found["cosine"] == pytest.approx((1 + 0) / 2)
    assert found["neurons"] == 2
    assert facts_of([-reference], reference)["cosine"] == pytest.approx(-1)
    assert facts_of(shifts, reference, comparable=False)["cosine"] is None
    assert facts_of(shifts, 0 * reference)["cosine"] is None
    assert facts_of([], reference) == {}


def test_rates_and_the_paired_difference_by_hand(trial):
    """A variant of two draws: the first turns what the reference turns, the second breaks half."""
    half = all_of(trial, WON)[0].copy()
    half[::2] = OTHER
    variant = Variant("count", "half", np.stack([all_of(trial, WON)[0], half]), {"norm": 2.0})
    found = Comparison(trial, [*references(trial), variant], seed=3).groups["count"]
    assert list(found) == ["as_chosen", "half"]  # the reference comes first
    n, broken = len(trial.rows), int((half == OTHER).sum())
    one = found["half"]
    assert one["n"] == 2 * n and one["success"] == 1 - broken / (2 * n)
    assert one["other"] == broken / (2 * n) and one["norm"] == 2.0
    assert one["interval"] == list(wilson(2 * n - broken, 2 * n))
    assert one["difference"] == pytest.approx(-broken / (2 * n))
    low, high = one["difference_interval"]
    assert low <= one["difference"] <= high <= 0
    itself = found["as_chosen"]
    assert itself["difference"] == 0 and itself["difference_interval"] == [0, 0]
    again = Comparison(trial, [*references(trial), variant], seed=3).groups["count"]["half"]
    assert again == one


def many(trial, n: int = 240) -> Trial:
    """The same prompts over and over, of 24 keys of different sizes."""
    rng = np.random.default_rng(5)
    rows = pd.concat([trial.rows] * (n // len(trial.rows) + 1), ignore_index=True)[:n]
    return replace(trial, rows=rows.assign(key=rng.choice(24, n, p=np.arange(1, 25) / 300)))


def test_prompts_are_paired_and_the_interval_is_the_bootstrap_over_keys_of_the_seed(trial):
    trial, rng = many(trial), np.random.default_rng(6)
    n = len(trial.rows)
    reference = np.where(rng.random((1, n)) < 0.5, WON, STAYED)
    drawn = np.where(rng.random((3, n)) < 0.45, WON, STAYED)
    variants = [v for v in references(trial) if v.group != "count"]
    variants += [Variant("count", "as_chosen", reference), Variant("count", "drawn", drawn)]
    variants.append(Variant("count", "same", np.repeat(reference, 2, axis=0)))
    comparison = Comparison(trial, variants, seed=3)
    found = comparison.groups["count"]
    assert found["same"]["difference_interval"] == [0, 0]  # on every prompt the same
    expected = bootstrap_by_key(
        weighted_mean,
        trial.rows.key.to_numpy(),
        (drawn == WON).mean(0) - (reference[0] == WON),
        seed=3,
        weighted=True,
    )
    assert found["drawn"]["difference"] == pytest.approx(expected.estimate)
    assert found["drawn"]["difference_interval"] == pytest.approx([expected.low, expected.high])
    assert expected.low < 0 < expected.high
    assert comparison.result(best=2)["matters"]["count"] == []  # it may well be nothing


def test_one_key_has_a_difference_and_no_interval_of_it(trial):
    alone = replace(trial, rows=trial.rows.assign(key="the only one"))
    found = Comparison(alone, references(alone), seed=0).groups["layers"]["layer_1_only"]
    assert set(found) == set(NULL) and found["difference_interval"] is None
    assert found["difference"] == -1


def test_what_cancels_out_is_0_and_no_last_digits_stay():
    assert np.copysign(1, _exact(-1e-17)) == 1  # not -0.0
    assert _exact(0.1 + 4e-13) == 0.1 and _exact(0.1 + 2e-12) == 0.100000000002


def test_the_reference_is_run_once_and_its_first_draw_is_it(trial):
    drawn = np.concatenate([all_of(trial, WON), all_of(trial, STAYED)])
    variants = [v for v in references(trial) if v.group != "ranking"]
    variants += [Variant("ranking", "as_chosen", drawn), Variant("ranking", "a", drawn[:1])]
    assert Comparison(trial, variants, 0).groups["ranking"]["a"]["difference"] == 0


def test_what_was_not_run_has_no_numbers(trial):
    empty = np.empty((1, 0), dtype=np.int8)
    known = {"norm": 1.5, "neurons": 3, "cosine": 0.25}
    variants = [*references(trial), Variant("site", "ln_2", empty, known)]
    comparison = Comparison(trial, variants, seed=0)
    assert comparison.groups["site"]["ln_2"] == NULL | known
    row = comparison.table().set_index(["group", "variant"]).loc[("site", "ln_2")]
    assert (row.norm, row.neurons, row.cosine, row.n) == (1.5, 3, 0.25, 0)
    assert np.isnan(row.other)
    assert np.isnan([row.success, row.low, row.high, row.difference, row.strength]).all()


def test_what_must_change_nothing_is_checked_and_not_reported(trial):
    quiet, loud = all_of(trial, STAYED), all_of(trial, STAYED).copy()
    loud[0, -1] = WON
    for codes, holds in ((quiet, True), (loud, False)):
        comparison = Comparison(trial, [*references(trial), Variant(IDENTITY, "zero", codes)], 0)
        assert comparison.identity_holds == holds
        assert IDENTITY not in comparison.groups
        assert IDENTITY not in set(comparison.outcomes().group)


def test_the_result_says_what_matters_and_which_layers_do(trial):
    none = all_of(trial, STAYED)
    variants = [
        *references(trial),
        Variant("count", "fewer", none),
        Variant("count", "same", all_of(trial, WON)),
    ]
    found = Comparison(trial, variants, seed=0).result(best=2)
    n = len(trial.rows)
    assert (found["n"], found["n_keys"]) == (n, trial.rows.key.nunique())
    assert (found["alpha"], found["top_n"], found["neurons"]) == (1.0, ONE, 1)
    assert found["norm"] == pytest.approx(1.0)
    assert found["by_layer"] == {
        "only": [0, 1],
        "all_but": [1, 0],
        "neurons": np.count_nonzero(trial.shift, axis=1).tolist(),
    }
    assert found["matters"] == dict.fromkeys(GROUPS, []) | {
        "count": ["fewer"],
        "layers": ["layer_1_only", "all_but_layer_2"],
    }
    assert found["n_compared"] == 6  # all but the references themselves
    assert found["layers"]["best_single"]["layer"] == 2
    assert found["layers"]["best_single"]["success"] == 1
    assert found["site"]["resid_post"] == found["site"]["as_chosen"]
    assert found["positions"]["all"] == found["positions"]["as_chosen"]
    none_alone = Comparison(trial, references(trial), 0).result(best=None)["layers"]["best_single"]
    assert none_alone == {"layer": None} | NULL


def test_clamps_have_a_reference_of_their_own():
    assert {REFERENCE[group] for group in ADDED} == {"as_chosen"}
    assert {REFERENCE[group] for group in CLAMPED} == {"additive"}


def test_one_row_an_answer_and_one_a_variant(trial):
    drawn = np.concatenate([all_of(trial, WON), all_of(trial, STAYED)])
    variants = [*references(trial), Variant("ranking", "random", drawn, {"strength": 0.5})]
    comparison = Comparison(trial, variants, seed=0)
    rows, n = comparison.outcomes(), len(trial.rows)
    assert rows.index.tolist() == list(range(len(rows)))
    assert len(rows) == n * (len(references(trial)) + 2)
    own = rows[rows.variant == "random"]
    assert own.draw.tolist() == [0] * n + [1] * n and own.prompt.tolist() == [*range(n)] * 2
    assert own.key.tolist() == trial.rows.key.tolist() * 2
    assert own.groupby("draw").success.mean().tolist() == [1, 0]
    assert set(rows.direction) == {DIRECTION}
    table = comparison.table()
    assert len(table) == len(references(trial)) + 1 and set(table.direction) == {DIRECTION}
    assert table.n.dtype == int and table.other.dtype == float
    assert {"norm", "neurons", "cosine"} <= set(table)
    row = table.set_index("variant").loc["random"]
    assert row.strength == 0.5 and row.success == 0.5 and row.n == 2 * n
    low, high = wilson(n, 2 * n)
    assert (row.low, row.high) == (low, high)
    assert (
        row.difference == pytest.approx(-0.5)
        and row.difference_low < row.difference_high < 0
        or (row.difference_low == row.difference_high == pytest.approx(-0.5))
    )
