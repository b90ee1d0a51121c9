"""What is marked on the figures of chapters 5 to 7: chosen cells, broken ones, doses, models ahead of own."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from memgen.claims.success import AHEAD
from memgen.figures import intervention, synthesis, transfer
from memgen.figures.style import plt
from memgen.terms import DIRECTIONS, OPEN, SUPPORTED
from seen import misused, small_type

ALPHAS = [0.5, 1.0, 2.0, 4.0, 8.0]
#: `kept` lies within the limit, `max` is broken; g2m has no cell within the limit
CHOSEN = {
    "collateral_limit": 0.01,
    "m2g": {"kept": {"top_n": 0.1, "alpha": 0.5}, "max": {"top_n": 0.1, "alpha": 2.0}},
    "g2m": {"kept": None, "max": {"top_n": 0.2, "alpha": 1.0}},
    "free_rows": 1,
}


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def races() -> pd.DataFrame:
    """Two shares by five alphas: from alpha 2 on a cell is seen to lose more than may be lost."""
    return pd.DataFrame(
        {
            "direction": direction,
            "top_n": top_n,
            "alpha": alpha,
            "expected": 50.0,
            "evaluated": 100 if alpha == 2.0 else 20,
            "out": alpha >= 2.0,
        }
        for direction, top_n, alpha in product(DIRECTIONS, (0.1, 0.2), ALPHAS)
    )


def test_the_grid_boxes_what_was_chosen_and_hatches_what_is_broken():
    drawing = intervention.grid_heatmaps(races(), CHOSEN)
    for ax, boxes in zip(drawing.figure.axes, (2, 1)):
        hatched = [patch for patch in ax.patches if patch.get_hatch()]
        boxed = [patch for patch in ax.patches if not patch.get_hatch()]
        assert len(boxed) == boxes and len(hatched) == 6  # of ten cells
        assert {round(patch.get_x() + 0.5) for patch in hatched} == {2, 3, 4}
        assert not ax.texts  # nothing else is marked
    assert "m2g 6 of 10" in drawing.alt and "g2m kept: none" in drawing.alt
    assert not small_type(drawing.figure) and not misused(drawing.figure)


def doses(broken_from: float) -> pd.DataFrame:
    """Every answer is *other* from `broken_from` on, under either shift."""
    return pd.DataFrame(
        {
            "direction": direction,
            "kind": kind,
            "alpha": alpha,
            "memorization": 0.0 if alpha >= broken_from else 0.25,
            "generalization": 0.0 if alpha >= broken_from else 0.5,
            "other": 1.0 if alpha >= broken_from else 0.25,
            "n": 100,
        }
        for direction, kind, alpha in product(DIRECTIONS, ("steered", "random"), [0.0, *ALPHAS])
    )


@pytest.mark.parametrize(("broken_from", "end"), [(2.0, 2.0), (8.0, 8.0), (99.0, 8.0)])
def test_doses_end_where_all_is_broken_and_the_chosen_one_is_marked(broken_from, end):
    drawing = intervention.dose_response(doses(broken_from), CHOSEN)
    ax = drawing.figure.axes[0]
    assert max(line.get_xdata()[-1] for line in ax.lines if len(line.get_xdata()) > 2) == end
    upright = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert sorted(upright) == [0.5, 2.0]
    assert [line.get_linestyle() for line in ax.lines if line.get_linestyle() == ":"] == [":"]
    assert ("Beyond alpha" in drawing.caption) == (end < 8.0)
    assert "n = 100 prompts a point" in drawing.caption
    steps = ax.transData.transform([(0.5, 0), (1, 0), (2, 0)])[:, 0]
    assert steps[1] - steps[0] == pytest.approx(steps[2] - steps[1])  # a doubling is a step
    assert not small_type(drawing.figure) and not misused(drawing.figure)


def cells(stranger: float, low: float) -> pd.DataFrame:
    """Two models: `b` turns 10 to 30 % of `a`; its own neurons turn half of each."""
    rows = [("a", "a", 0.5, [0.4, 0.6], True), ("b", "b", 0.5, [0.4, 0.6], True)]
    rows += [("b", "a", stranger, [low, 0.95], False), ("a", "b", 0.2, [0.1, 0.3], False)]
    columns = ["source", "target", "success", "interval", "shared_base"]
    return pd.DataFrame(rows, columns=columns).assign(direction="m2g")


def test_neurons_that_do_better_than_a_models_own_are_named_with_their_intervals():
    assert transfer.ahead_of_own(cells(0.4, 0.3)) == ""
    overlap = transfer.ahead_of_own(cells(0.7, 0.55))
    assert "In 1 of 2 cells off the diagonal" in overlap and "no difference is shown" in overlap
    assert "a, m2g, with the neurons of b, of another base: 70% (55% to 95%), own 50%" in overlap
    apart = transfer.ahead_of_own(cells(0.7, 0.65))
    assert "in 1 of them the 95 % intervals over prompts lie apart" in apart
    assert "no difference is shown" not in apart


def test_chapter_5_shows_all_tasks_beside_their_strongest_forecast():
    tasks = ["inference", "cipher-tagged"]
    table = pd.DataFrame(
        {"task": task, "seed": seed, "auc": 0.9, "chosen_baseline_auc": without}
        for task, without in zip(tasks, (0.7, np.nan))
        for seed in (0, 1)
    )
    numbers = {task: {"auc": {"value": 0.9, "low": 0.8, "high": 0.95}} for task in tasks}
    cases = {
        "inference": {"effect": 0.2, "interval": [0.1, 0.3], "verdict": SUPPORTED},
        "cipher-tagged": {"effect": 0.1, "interval": [None, None], "verdict": OPEN},
    }
    drawing = synthesis.forecasts(table, numbers, [{"id": AHEAD, "cases": cases}])
    assert drawing.name == "every-task" and drawing.caption.endswith("verdict.")
    assert (
        "inference: probe 0.90, strongest forecast 0.70, gain +0.20 [0.10, 0.30], supported"
        in drawing.alt
    )
    assert "strongest forecast none" in drawing.alt
    assert [text.get_text() for text in drawing.figure.axes[1].texts] == [SUPPORTED, OPEN]
    assert "gain" not in synthesis.forecasts(table, numbers, []).alt  # no such claim on this track
    assert not small_type(drawing.figure) and not misused(drawing.figure)
