"""Lab 16 on a planted model: every road that can see the coordinate finds it, one that cannot does not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from computing import planted_lab, run_cell
from memgen.errors import InapplicableError
from memgen.figures import multiverse as figures
from memgen.labs import multiverse as science
from memgen.labs.beside_the_mean import CHOICES
from memgen.presets import stage_parameters
from memgen.store.artifacts import Result
from memgen.terms import DIRECTIONS
from planted import ManyKeys
from steered import ONE

SIZES = {"n_prompts": 16, "n_free_validation": 10, "n_side_effect_prompts": 8}
ASKED = SIZES | {
    "curve_alphas": [0.5, 1.0],
    "curve_top_ns": [ONE, 0.3],
    "fixed_alpha": 1.0,
    "n_deals": 2,
    "n_probe_prompts": 60,
    "n_halvings": 5,
    "n_slope_prompts": 12,
    "n_draws": 2,
    "n_resamples": 40,
}


@pytest.fixture(scope="module")
def left(tmp_path_factory, planted, planted_direction) -> dict[str, Result]:
    """What labs 04 and 06 leave: the maps of the planted coordinate, and the cells chosen by it."""
    maps = {"04_differentiation": Result({"site": "resid_post"}, {}, {"arrays": planted_direction})}
    chosen = {"top_n": ONE, "alpha": 1.0, "kept_exists": True}
    of = {d: chosen | {"max": chosen} for d in DIRECTIONS}
    numbers = {"site": "resid_post", "positions": "all"}
    return maps | {"06_intervention": Result(numbers | of)}


@pytest.fixture(scope="module")
def built(planted) -> tuple:
    return planted(ManyKeys, 24)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, built, left):
    found = planted_lab("16_multiverse", tmp_path_factory.mktemp("runs"), built, ASKED, left)
    run_cell(found)
    return found


def test_a_planted_effect_holds_wherever_it_can_be_seen(lab):
    table = lab.table("specifications")
    m2g = table[(table.claim == "m2g") & (table.site == "resid_post")]
    assert len(m2g) >= 200 and (m2g.success == 1).all()
    # a rephrasing turns every answer of this task, so nothing is above it; a random shift
    # turns as much only where its permutation hits one of the few coordinates that the output reads
    assert (m2g.effect[m2g.against == "rephrasing"] == 0).all()
    random = m2g.effect[m2g.against == "random"]
    assert (random >= 0).all() and (random == 1).mean() >= 0.5
    blind = table[(table.claim == "m2g") & (table.site != "resid_post")]
    assert len(blind) and (blind.success == 0).all()  # the planted blocks write nothing


def test_a_limit_that_cannot_be_kept_is_seen_as_what_matters(lab):
    """Towards memory every shift loses the free prompts: within the limit nothing turns."""
    table = lab.table("specifications")
    g2m = table[(table.claim == "g2m") & (table.site == "resid_post")]
    kept = g2m.alpha == "kept"
    assert (g2m.success[kept] == 0).all() and (g2m.success[~kept] == 1).all()
    levels = lab.result["curves"]["g2m"]["levels"]["alpha"]
    assert levels["kept"]["median"] < levels["max"]["median"]


def test_the_result_says_what_the_tables_hold(lab):
    r, table = lab.result, lab.table("specifications")
    json.dumps(r, allow_nan=False)
    for claim in science.FACTORS:
        one, rows = r["curves"][claim], table[table.claim == claim]
        assert one["n_specifications"] == len(rows) >= 144  # with two deals; three are usual
        assert one["share"] == pytest.approx((rows.low > 0).mean())
        assert one["book"] == pytest.approx(rows.effect.iloc[0])
        assert sum(one["explained"].values()) == pytest.approx(1, abs=0.02)
    first = table[table.claim == "m2g"].iloc[0]
    assert [first[name] for name in science.FACTORS["m2g"]] == [
        *("resid_post", "rho", "order", "all", "all"),
        *("chosen", "kept", "as the book", "exact", "rephrasing"),
    ]
    assert r["curves"]["m2g"]["largest"] in ("site", "against")
    halves = r["stability"]["halves"]
    assert halves["jaccard"] == 1.0 and halves["above"] > 0.5  # one neuron differs, and is found
    assert r["stability"]["pairs"]["jaccard"] == 1.0
    assert (
        r["forecast"]["cosine"] == pytest.approx(1) and len(r["forecast"]["cosine_by_layer"]) == 2
    )
    assert r["slopes"]["m2g"]["anti"] == r["slopes"]["g2m"]["anti"] == 0.0
    turned = r["isolation"]["m2g"]["reported"]
    assert (turned["cause"], turned["free"], turned["keyed"]) == (1.0, 1.0, 0.0)
    assert set(CHOICES) < set(r["isolation"]["g2m"])


def test_the_same_twice(lab, built, left, tmp_path):
    again = planted_lab("16_multiverse", tmp_path, built, ASKED, left)
    run_cell(again)
    same = {name: value for name, value in again.result.items() if name != "timings"}
    assert same == {name: value for name, value in lab.result.items() if name != "timings"}


def test_words_and_figures_say_what_was_measured(lab):
    r, table = lab.result, lab.table("specifications")
    drawings = [figures.curve(table, r, claim, of) for claim, of in science.FACTORS.items()]
    drawings += [figures.matters(r), figures.stability(lab.table("stability"), r)]
    drawings += [figures.slopes(lab.table("slopes"), r), figures.isolation(r)]
    figures.plt.close("all")
    assert [one.name for one in drawings] == [
        *("curve-m2g", "curve-g2m", "curve-probe", "matters"),
        *("stability", "slopes", "isolation"),
    ]
    said = " ".join([science.answer(r), *(one.alt for one in drawings)])
    assert "None" not in said and "nan" not in said
    assert f"{r['curves']['m2g']['n_defined']} specifications" in drawings[0].alt
    assert all(holds for _, holds in science.checks(r, lab.answered()))
    overview = science.overview(r)
    assert set(overview.claim) == set(science.FACTORS)
    assert overview.specifications.sum() == sum(
        len(of) * r["curves"][claim]["n_defined"] for claim, of in science.FACTORS.items()
    )


def test_what_is_undefined_is_drawn_and_said(lab):
    r = json.loads(json.dumps(lab.result))
    table = lab.table("specifications").assign(effect=np.nan, low=np.nan, high=np.nan)
    for claim, factors in science.FACTORS.items():
        r["curves"][claim] |= science.summary(table[table.claim == claim], factors)
    for direction in DIRECTIONS:
        for name in ("anti", "control", "median"):
            r["slopes"][direction][name] = None
        for one in CHOICES:
            r["isolation"][direction][one] |= {"keyed": None, "score": None}
    said = [science.answer(r), figures.matters(r).alt, figures.isolation(r).alt]
    said += [figures.curve(table, r, claim, of).alt for claim, of in science.FACTORS.items()]
    figures.plt.close("all")
    assert "undefined" in " ".join(said) and "None" not in " ".join(said[1:])


def test_without_prompts_to_turn_there_is_no_curve(built, left, tmp_path):
    model, tokenizer, task, frame, answered = built
    lost = answered[(answered.split != "test") | (answered.behavior != "memorization")]
    found = planted_lab(
        "16_multiverse", tmp_path, (model, tokenizer, task, frame, lost), ASKED, left
    )
    with pytest.raises(InapplicableError, match="no memorization answers on test keys"):
        run_cell(found)


def test_the_fixed_multiple_is_one_of_the_grid():
    who = {"task": "inference", "preset": "smoke", "curve_alphas": [1.0, 2.0], "fixed_alpha": 4.0}
    with pytest.raises(Exception, match="fixed_alpha=4.0 is not among curve_alphas"):
        stage_parameters("16_multiverse", who)
