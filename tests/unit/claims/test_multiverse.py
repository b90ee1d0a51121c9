"""Claims on choices: planted results of lab 16 give every verdict, and none where nothing was measured."""

from __future__ import annotations

import pandas as pd
import pytest

from memgen.claims.catalogue.multiverse import MULTIVERSE
from memgen.claims.evidence import Evidence
from memgen.claims.ledger import judge
from memgen.claims.quantities.multiverse import EVERY_TASK, LAB
from memgen.terms import CONTRADICTED, DIRECTIONS, OPEN, REVERSED, SUPPORTED
from planted_board import multiverse

SUCCESS = [0.1, 0.3, 0.5, 0.7, 0.9]  # of five tasks
IN_ORDER, TURNED = [0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.1]
MIXED = [0.3, 0.1, 0.5, 0.2, 0.4]


def one_task(*seeds: dict) -> Evidence:
    runs = {seed: {LAB: found} if found else {} for seed, found in enumerate(seeds)}
    return Evidence({"inference": runs}, *[pd.DataFrame()] * 4, later={})


def tasks(*agreement: list[float], kept: bool = True) -> Evidence:
    """A list of five tasks' agreement per seed; success rises from task to task."""

    def stages(task: int, seed: int) -> dict:
        direction = {"success": SUCCESS[task], "kept_exists": kept, "n": 50}
        return {
            LAB: multiverse(cosine=agreement[seed][task]),
            "06_intervention": dict.fromkeys(DIRECTIONS, direction),
        }

    found = {f"task {t}": {s: stages(t, s) for s in range(len(agreement))} for t in range(5)}
    return Evidence(found, *[pd.DataFrame()] * 4, later={})


def verdict(claim: str, given: Evidence) -> dict:
    (known,) = [one for one in MULTIVERSE if one.id == claim]
    return judge(known, given)


@pytest.mark.parametrize(
    "shares, wanted",
    [
        ([0.8, 0.9, 0.85], SUPPORTED),
        ([0.2, 0.1, 0.15], REVERSED),
        ([0.5, 0.51, 0.5], CONTRADICTED),
        ([0.2, 0.9, 0.5], OPEN),
        ([0.8], OPEN),
    ],
)
def test_most_specifications(shares, wanted):
    found = verdict("specifications", one_task(*(multiverse(share=one) for one in shares), {}))
    assert found["verdict"] == wanted
    assert found["n"] == 200 * len(shares)  # both directions; a seed without the lab is left out


@pytest.mark.parametrize(
    "above, wanted",
    [
        ([0.5, 0.4, 0.45], SUPPORTED),
        ([0.1, 0.12, 0.11], CONTRADICTED),  # beyond chance, and yet other neurons
        ([-0.3, -0.31, -0.3], REVERSED),
        ([None, None], OPEN),
    ],
)
def test_the_same_neurons(above, wanted):
    found = verdict("stable_neurons", one_task(*(multiverse(above=one) for one in above)))
    assert found["verdict"] == wanted and bool(found["cases"]) == (None not in above)


@pytest.mark.parametrize(
    "agreement, wanted, effect",
    [
        ([IN_ORDER] * 3, SUPPORTED, 1.0),
        ([TURNED] * 3, REVERSED, -1.0),
        ([MIXED, IN_ORDER, TURNED], OPEN, None),
        ([[0.2] * 5] * 3, OPEN, None),  # nothing differs
    ],
)
def test_an_order_of_the_tasks_is_foretold(agreement, wanted, effect):
    found = verdict("forecast", tasks(*agreement))
    assert found["verdict"] == wanted
    if effect is not None:
        assert found["cases"][EVERY_TASK]["effect"] == pytest.approx(effect)


def test_a_direction_that_no_limit_allows_counts_with_no_success():
    """All tasks then have the same success, 0, and there is no order to foretell."""
    assert verdict("forecast", tasks(IN_ORDER, IN_ORDER, kept=False))["cases"] == {}


def test_three_tasks_are_too_few_for_an_order():
    given = tasks(IN_ORDER, IN_ORDER)
    few = Evidence(dict(list(given.results.items())[:3]), *[pd.DataFrame()] * 4, later={})
    assert verdict("forecast", few)["cases"] == {}
