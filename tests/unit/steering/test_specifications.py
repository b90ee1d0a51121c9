"""Cells are answered once and read in many ways: planted answers give the rates that were planted."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from memgen.neurons.nmd import NeuronMaps
from memgen.stats.specifications import Counted, drawn_keys, ends, summary
from memgen.steering.engine import Sweep
from memgen.steering.specifications import (
    CONTROLS,
    FACTORS,
    METRICS,
    PORTION,
    RULES,
    Answered,
    Answers,
    Deal,
    Family,
    Ranked,
    Rules,
    answers,
    deals,
    families,
    layer_sets,
    read_curve,
    right_free,
)
from memgen.steering.steering import steering_prompts
from memgen.tasks.dataset import free_rows
from memgen.terms import SIGN
from running import ROOT
from steered import RELEVANT

N_KEYS, EACH = 10, 4
KEYS = np.repeat(np.arange(N_KEYS), EACH)
OWN = np.arange(N_KEYS) < 5  # these choose
LEVELS = {"site": "s", "ranking": "rho", "pairs": "order", "layers": "all", "positions": "all"}
CELLS = pd.DataFrame(
    {"layers": [(0,)] * 4, "N": [0.1, 0.1, 0.3, 0.3], "alpha": [1.0, 4.0, 1.0, 4.0]}
)


def made(success: np.ndarray, defined: np.ndarray | None = None) -> Answers:
    """The same answers by every metric. success: `[cells, prompts]` bool."""
    known = np.ones(success.shape[1], dtype=bool) if defined is None else defined
    return Answers(dict.fromkeys(METRICS, success), dict.fromkeys(METRICS, known))


def read(own: np.ndarray, twin: np.ndarray, floor: float, free=(1, 1, 1, 1), n_deals: int = 1):
    """The curve of one family; `floor`: share of the rephrasings that turn by themselves."""
    family = Family(LEVELS, CELLS, np.zeros((4, 1, 1)), np.zeros((4, 1, 1)))
    turned = (np.arange(len(KEYS)) % EACH < floor * EACH)[None]
    one = Answered(family, made(own), made(twin), np.array([free, free], dtype=float))
    every = deals(OWN, n_deals, np.random.default_rng(0))
    rules = Rules(4.0, 1.0, 0.01, [0.1, 0.3])
    return read_curve([one], made(turned), (KEYS, KEYS), (every, rules), (200, 0))


NONE, ALL = np.zeros((4, len(KEYS)), dtype=bool), np.ones((4, len(KEYS)), dtype=bool)


def test_an_effect_that_survives_every_specification():
    table = read(ALL, NONE, floor=0.25, n_deals=3)
    assert len(table) == 3 * len(METRICS) * 3 * len(RULES) * len(CONTROLS)
    assert not table.duplicated(list(FACTORS)).any()
    assert (table.effect[table.against == "random"] == 1).all()
    assert table.effect[table.against == "rephrasing"].to_numpy() == pytest.approx(0.75)
    found = summary(table, FACTORS)
    assert found["share"] == found["positive"] == 1.0 and found["largest"] == "against"


def test_a_fluke_of_one_cell_on_the_choosing_keys_vanishes_on_others():
    """One cell turns all prompts of the keys that choose, and none elsewhere."""
    fluke = NONE.copy()
    fluke[1] = OWN[KEYS]
    table = read(fluke, NONE, floor=0.0, n_deals=4)
    own = table[table["keys"] == "as the book"]
    assert (own.success == 0).all()  # it was chosen, and what reports is other keys
    assert (table.low > 0).mean() < 0.5 and (table.success <= 0.8).all()


def test_a_cell_is_taken_by_each_rule_as_it_says():
    """Success of the four cells: 0, 1/2, 1/4, 1; the last one loses free prompts."""
    shares = np.array([0, 0.5, 0.25, 1])
    own = np.arange(len(KEYS)) % EACH < (shares * EACH)[:, None]
    table = read(own, NONE, 0.0, free=(1, 1, 1, 0.5))
    once = table[(table.metric == "exact") & (table.against == "random")]
    taken = {(row.N, row.alpha): row.success for row in once.itertuples()}
    assert taken == {
        ("chosen", "kept"): 0.5,
        ("chosen", "max"): 1.0,
        ("chosen", "fixed"): 1.0,
        ("0.1", "kept"): 0.5,
        ("0.1", "max"): 0.5,
        ("0.1", "fixed"): 0.5,
        ("0.3", "kept"): 0.25,
        ("0.3", "max"): 1.0,
        ("0.3", "fixed"): 1.0,
    }
    assert list(table.iloc[0][["N", "alpha", "metric", "against"]]) == [
        *("chosen", "kept", "exact", "rephrasing"),
    ]


def test_where_no_cell_stays_within_the_limit_nothing_is_shifted():
    table = read(ALL, ALL, floor=0.25, free=(0.5,) * 4)
    kept = table[table.alpha == "kept"]
    assert (kept.success == 0).all() and (kept.effect <= 0).all()
    assert (kept.effect[kept.against == "random"] == 0).all()


def test_the_control_is_chosen_by_the_same_rule():
    """A twin that turns as much leaves nothing, whichever of its cells does."""
    twin = NONE.copy()
    twin[2] = True
    table = read(ALL, twin, floor=0.0)
    random = table[(table.against == "random") & (table.alpha == "max") & (table.N != "0.1")]
    assert (random.effect == 0).all() and len(random)


def test_prompts_that_cannot_be_told_do_not_count():
    family = Family(LEVELS, CELLS, np.zeros((4, 1, 1)), np.zeros((4, 1, 1)))
    half = np.arange(len(KEYS)) % 2 == 0
    told = Answers(
        dict.fromkeys(METRICS, ALL & half),
        {m: half if m != "exact" else half | True for m in METRICS},
    )
    one = Answered(family, told, made(NONE), np.ones((2, 4)))
    every, rules = deals(OWN, 1, np.random.default_rng(0)), Rules(4.0, 1.0, 0.01, [0.1, 0.3])
    table = read_curve([one], made(NONE[:1]), (KEYS, KEYS), (every, rules), (50, 0))
    rates = table.groupby("metric").success.unique()
    assert rates["exact"] == [0.5] and rates["margin"] == rates["first token"] == [1.0]


def test_deals_keep_the_number_of_keys_that_choose():
    found = deals(OWN, 4, np.random.default_rng(0))
    assert (found[0].choose == OWN).all() and len({one.name for one in found}) == 4
    for one in found:
        assert one.choose.sum() == OWN.sum() and (one.choose ^ one.report).all()


# -- what is computed ------------------------------------------------------------------------------
def test_families_are_of_the_maps_and_layers_that_they_name():
    rng = np.random.default_rng(0)
    nmd, rho = rng.normal(size=(2, 4, 10))
    scores = {name: rng.normal(size=(4, 10)) for name in ("rho", "nmd", "auc", "t")}
    ranked = {("a", "order"): Ranked(NeuronMaps("resid_post", nmd, rho), scores)}
    levels = {"site": ("a", "b"), "pairs": ("order", "content"), "positions": ("all", "decision")}
    found = families(ranked, levels, ([1.0, 2.0], [0.1]), rng)
    assert len(found) == 4  # of 16: one of two sites, one of two kinds of pairs
    assert found[0].levels["layers"] == "all" and found[0].levels["ranking"] == "rho"
    for one in found:
        norms = np.linalg.norm(one.shifts, axis=(1, 2))
        assert (np.diff(norms) >= -1e-12).all()  # gentlest first
        np.testing.assert_allclose(np.linalg.norm(one.twins, axis=(1, 2)), norms)
        for cell, shift in zip(one.cells.itertuples(), one.shifts):
            where = np.flatnonzero((shift != 0).any(1))
            assert set(where) <= set(cell.layers)
            n = int(np.ceil(0.1 * 10 * len(cell.layers)))
            assert np.count_nonzero(shift) == n
            moved = shift[shift != 0] / cell.alpha
            np.testing.assert_allclose(moved, (np.sign(rho) * abs(nmd))[shift != 0])


def test_layer_sets():
    assert layer_sets("all", 4) == [(0, 1, 2, 3)] and layer_sets("upper", 4) == [(2, 3)]
    assert layer_sets("one", 2) == [(0,), (1,)] and layer_sets("upper", 1) == [(0,)]


@pytest.mark.parametrize("positions", ["all", "decision"])
def test_answers_are_those_of_the_steered_model_by_every_metric(alike, positions):
    steering, frame, answered = alike
    for direction in ("m2g", "g2m"):
        rows = steering_prompts(answered, "test", direction, 20)
        shifts = np.zeros((3, *steering.nmd.shape))
        shifts[1][RELEVANT], shifts[2][RELEVANT] = 1.0, 4.0
        signed = SIGN[direction] * shifts
        found = answers(steering, signed, rows, direction, positions)
        assert found.success["exact"].mean(1).tolist() == [0, 1, float(direction == "g2m")]
        assert (found.success["first token"] == found.success["exact"]).all()
        # far beyond the rule the model writes X, and still prefers R to M
        assert found.success["margin"].mean(1).tolist() == [0, 1, 1]
        codes = steering.outcomes(signed, rows, positions)
        assert (found.success["exact"] == (codes == (direction == "m2g"))).all()
    free = free_rows(frame, "validation", 10)
    assert right_free(steering, shifts, free, positions).tolist() == [1, 1, 0]


def test_who_cannot_keep_the_limit_any_more_is_asked_no_further(alike, monkeypatch):
    """And who keeps it has the share that all prompts give."""
    steering, frame, _ = alike
    shifts = np.zeros((4, *steering.nmd.shape))
    for shift, size in zip(shifts, (0.0, 1.0, 4.0, 8.0)):
        shift[RELEVANT] = size
    free = pd.concat([free_rows(frame, "validation", 10)] * 30, ignore_index=True)[: 3 * PORTION]
    whole, asked = right_free(steering, shifts, free, "all"), []
    codes = Sweep.codes
    monkeypatch.setattr(
        Sweep, "codes", lambda self, cell, some: asked.append(len(cell)) or codes(self, cell, some)
    )
    found = right_free(steering, shifts, free, "all", at_least=0.99)
    kept = whole >= 0.99
    assert kept.tolist() == [True, True, False, False]
    assert (found[kept] == whole[kept]).all() and (found[~kept] < 0.99).all()
    assert asked == [4 * PORTION, 2 * PORTION, 2 * PORTION]
    none = right_free(steering, shifts[2:], free, "all", at_least=0.99)
    assert none.tolist() == [0, 0]


# -- against public packages -----------------------------------------------------------------------
FOUND = json.loads((ROOT / "tests" / "reference" / "curve_packages.json").read_text())


def test_effects_are_the_coefficients_of_specification_curve():
    """Success regressed on "was steered", by deal, metric and control: tests/reference/curve_packages.py."""
    n, keys = FOUND["n_keys"], np.repeat(np.arange(FOUND["n_keys"]), FOUND["each"])

    def told(kind: str) -> Answers:
        of = FOUND["answers"][kind]
        known = {m: np.array(of.get(m, of["exact"]), dtype=bool)[None] for m in METRICS}
        return Answers(known, dict.fromkeys(METRICS, np.ones(len(keys), dtype=bool)))

    cells = CELLS[:1].assign(alpha=4.0)
    family = Family(LEVELS, cells, np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))
    one = Answered(family, told("steered"), told("random"), np.ones((2, 1)))
    masks = [np.isin(np.arange(n), reporting) for reporting in FOUND["deals"].values()]
    every = [Deal(name, ~mask, mask) for name, mask in zip(FOUND["deals"], masks)]
    rules = Rules(4.0, 1.0, 0.01, [0.1])
    table = read_curve([one], told("rephrasing"), (keys, keys), (every, rules), (200, 0))
    assert len(FOUND["effects"]) == 8
    for wanted in FOUND["effects"]:
        rows = table[
            (table["keys"] == wanted["deal"])
            & (table.metric == wanted["metric"])
            & (table.against == wanted["against"])
        ]
        assert len(rows) and rows.effect.to_numpy() == pytest.approx(wanted["effect"], abs=1e-9)


def test_intervals_are_those_of_rliable():
    """Percentiles of a mean over keys, each package with its own draws of them."""
    n, each = FOUND["n_keys"], FOUND["each"]
    for wanted in FOUND["intervals"]:
        reporting = FOUND["deals"][wanted["deal"]]
        wins = np.array(FOUND["answers"]["steered"][wanted["metric"]]).reshape(n, each).sum(1)
        counted = Counted(wins[None, reporting].astype(float), np.full(len(reporting), float(each)))
        found = ends(counted.rates(drawn_keys(len(reporting), 20000, 1)), len(reporting)).iloc[0]
        assert found.effect == pytest.approx(wanted["mean"])
        assert (found.low, found.high) == pytest.approx((wanted["low"], wanted["high"]), abs=0.011)
