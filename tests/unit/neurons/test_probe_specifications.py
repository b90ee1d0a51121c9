"""A probe's AUC in many ways: a planted coordinate is found in all of them, and words are subtracted."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.probe_specifications import (
    BARS,
    COMPARED,
    FACTORS,
    KINDS,
    LAYER_RULES,
    Prompts,
    probe_curve,
)
from memgen.stats.auc import roc_auc


def prompts(told_by_words: bool = False) -> Prompts:
    """120 prompts of 12 keys; at site `good` the last layer tells the behaviour, at `empty` none does."""
    rng = np.random.default_rng(0)
    labels, keys = rng.integers(0, 2, 120), np.repeat(np.arange(12), 10)
    good, empty = rng.normal(size=(2, 120, 3, 6))
    good[:, 2, 0] += 8 * labels
    tokens = rng.integers(0, 5, (120, 2))
    if told_by_words:
        tokens[:, 1] = labels
    return Prompts({"good": good, "empty": empty}, tokens, labels, keys)


def masks(of: Prompts) -> list[tuple[str, np.ndarray]]:
    return [("as the book", of.keys < 6), ("deal 2", of.keys % 2 == 0)]


def test_what_is_planted_is_found_in_every_specification_that_can_see_it():
    table = probe_curve(prompts(), masks(prompts()), (100, 0))
    n = 2 * len(KINDS) * len(LAYER_RULES) * 2 * len(COMPARED) * len(BARS)
    assert len(table) == n and not table.duplicated(list(FACTORS)).any()
    sees = (table.site == "good") & (table.layer != "middle")
    assert (table.success[sees] > 0.97).all() and (table.low[sees] > 0).all()
    assert table.success[~sees].median() == pytest.approx(0.5, abs=0.1)
    assert (table.low[~sees] > 0).mean() < 0.2
    first = table.iloc[0]
    assert [first[name] for name in FACTORS] == [
        *("good", "logistic", "chosen", "as the book", "all prompts", "prompt's tokens"),
    ]


def test_what_words_tell_counts_for_nothing_against_the_words():
    table = probe_curve(prompts(True), masks(prompts()), (100, 0))
    words = table[(table.against == "prompt's tokens") & (table.site == "good")]
    assert (words.effect <= 1e-9).all() and (words.control == 1.0).all()


def test_keys_that_report_fit_nothing():
    """With the labels of those keys turned, every AUC is turned over."""
    one = prompts()
    fitted = masks(one)[:1]
    turned = one._replace(labels=np.where(fitted[0][1], one.labels, 1 - one.labels))
    was, now = (probe_curve(of, fitted, (10, 0)) for of in (one, turned))
    np.testing.assert_allclose(now.success, 1 - was.success, atol=1e-9)


def test_it_is_the_auc_of_the_reporting_prompts():
    of = prompts()
    (name, fitted) = masks(of)[0]
    table = probe_curve(of, [(name, fitted)], (10, 0))
    row = table[(table.probe == "difference of means") & (table.layer == "last")].iloc[0]
    x, labels = of.states["good"][:, 2], of.labels
    way = x[fitted & (labels == 1)].mean(0) - x[fitted & (labels == 0)].mean(0)
    assert row.success == pytest.approx(roc_auc(labels[~fitted], x[~fitted] @ way))
