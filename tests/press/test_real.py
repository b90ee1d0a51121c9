"""The chapter *A model you know*: what it counts of planted runs, what it says, and what it draws."""

from __future__ import annotations

import json
import re
import shutil

import pytest

import real_model
from memgen.config.base import ROOT
from memgen.figures import real as figures
from memgen.terms import DIRECTIONS
from press import prose
from press.asked_model import Model
from press.errors import BookError
from press.field import FIELD, field_of
from press.origin import bare
from press.real import Real, real
from press.run import Run
from real_model import ONE_LAYER, PEAK, STEERED, TOLD, about


@pytest.fixture
def root(tmp_path):
    """A repository with the book, the field's figures and no model."""
    root = tmp_path / "root"
    (root / "data" / "reference" / "real").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "reference" / "real" / FIELD, root / "data" / "reference" / "real")
    (tmp_path / "figures").mkdir()
    return root


def commit(root, found: dict) -> None:
    path = root / "data" / "reference" / "real" / f"{found['model']['name']}.json"
    path.write_text(json.dumps(found))


def test_a_model_is_what_was_planted():
    model = Model(about())
    assert model.rate("memorization") == pytest.approx(0.41)
    assert model.over("keys_with_both") == "50\u00a0% to 52\u00a0%"
    assert model.counts("n_known") == "160 to 162" and model.counts("n_asked") == "745"
    assert model.peak == pytest.approx(
        {"layer": PEAK, "share": 0.16, "oriented": 0.05, "oriented_max": 0.05, "null_max": 0.002}
    )
    assert str(model.beyond_words) == "1 of 4"
    assert str(model.ahead) == "1 of 3" and model.n_seeds == 3
    assert [row["gain_interval"] for row in model.forecasts][0] == "0.01 to 0.10"
    assert model.cpu == 150 and model.wall == 300 and model.gib == 2
    assert model.example["memorization"]["prompt"].startswith("They moved Kolkata")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_way_to_turn_an_answer_stands_beside_the_others(direction):
    model = Model(about())
    assert model.steered(direction).success == pytest.approx(STEERED[direction] + 0.01)
    assert model.steered(direction).n == 450
    assert model.one_layer(direction).success == pytest.approx(ONE_LAYER[direction])
    assert model.told(direction).success == pytest.approx(max(TOLD[direction], 0.1))
    assert model.strongest(direction, "shift").success == pytest.approx(0.1)
    families = [way.family for way in model.ways(direction)]
    assert families == sorted(families, key=figures.FAMILIES.index)
    planted = real_model.steering(direction, 0)["bars"]
    assert len(families) == len(planted) - 1  # what was not run has no bar


def test_a_goal_is_reached_only_within_its_cost():
    """Towards memory one layer turns 90 % and loses half a point; towards the text nothing does both."""
    model = Model(about())
    assert model.goal("g2m")["reached"] and model.goal("g2m")["best"]["success"] == 0.9
    assert not model.goal("m2g")["reached"]
    assert "85\u00a0% at a cost of at most 1 point" in model.goals and "reached." in model.goals
    dear = about()
    for one in dear["seeds"]:
        for found in one["steering"].values():
            found["shifts"]["one_layer"]["keyed_accuracy_after"] = 0.9
    assert Model(dear).goal("g2m")["best"] is None
    assert Model(dear).goals.count("No shift stays within that cost: not reached.") == 2


def test_a_cell_that_is_both_is_drawn_once():
    rows = figures.cost_rows(about()["seeds"])
    assert set(rows["shift"]) == {"steered", "one_layer"} and len(rows) == 2 * 2 * 3
    steered = rows[rows["shift"] == "steered"]
    assert steered.keyed.tolist() == pytest.approx([-30] * 6)
    assert steered.page.tolist() == pytest.approx([2.5] * 6)
    kept = about()
    for one in kept["seeds"]:
        for found in one["steering"].values():
            found["kept_exists"] = True
    assert "steered_max" in set(figures.cost_rows(kept["seeds"])["shift"])


def test_figures_say_in_words_what_they_show():
    drawn = {
        one.name: one
        for one in (
            draw(about()["seeds"])
            for draw in (figures.behaviours, figures.along_depth, figures.steering, figures.costs)
        )
    }
    assert set(drawn) == {"behaviours", "depth", "steering", "costs"}
    assert "what it knows 40%, 41%, 42%" in drawn["behaviours"].alt
    assert f"at most 16% in layer {PEAK}" in drawn["depth"].alt
    assert "turned by the words at most 5%" in drawn["depth"].alt
    assert "stays at most 0%" in drawn["depth"].alt and "without states 0.78" in drawn["depth"].alt
    assert f"towards the text {PEAK}, {PEAK}, {PEAK}" in drawn["depth"].alt
    assert "one layer, difference 90%" in drawn["steering"].alt
    assert "plain facts -30 points, perplexity times 2.50" in drawn["costs"].alt


def test_one_model_is_no_claim_and_one_of_the_same_family_is_none_more():
    alone = Real([Model(about())])
    assert "Two models or no claim" in alone.standing and "inconclusive" in alone.verdict
    assert "loses 30 points of plain facts" in alone.at_home  # .95 without it, .65 with it
    assert "One model" in alone.at_home and f"{STEERED['m2g'] + 0.01:.0%}"[:-1] in alone.at_home
    same = Real([Model(about()), Model(about(name="b"))])
    assert not same.enough and "models of one family" in same.standing
    two = Real([Model(about()), Model(about(name="b", architecture="Gemma3ForCausalLM"))])
    assert two.enough and not two.verdict and "One model" not in two.at_home


def test_the_page_shows_a_model_or_says_that_there_is_none(run, root, tmp_path):
    def page(name: str, at: str) -> str:
        source = tmp_path / at
        shutil.copytree(ROOT / "book", source)
        (source / "figures").mkdir()
        environment = prose.templates(source)
        environment.globals.update(prose.helpers(Run(run).sourced(), root, source))
        environment.globals["quiz"] = lambda _: "QUIZ"
        return bare(environment.get_template(name).render())

    text = page("real_model.md", "without")
    assert "Not run yet" in text and "`make real`" in text and "zhao2025spare" in text
    assert "nobody trained" not in page("index.md", "home")
    commit(root, about())
    text = page("real_model.md", "with")
    assert "Not run yet" not in text and "**Two models or no claim**" in text
    assert "not the weights that were published" in text and 'make real SEEDS="26 27 28"' in text
    assert text.index("real-a-model-steering.png") < text.index("| top neurons | 71")
    assert f"In layer {PEAK}, where it is most, 16\u00a0%" in text
    for name in ("behaviours", "depth", "steering", "costs"):
        assert (tmp_path / "with" / "figures" / f"real-a-model-{name}.png").is_file()
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table
    assert "turns 71\u00a0% of what it would have said from memory" in page("index.md", "home2")


def test_without_a_figure_nothing_is_claimed_to_be_quantized(root, tmp_path):
    plain = about()
    del plain["model"]["quantization"]
    commit(root, plain)
    (model,) = real(root, tmp_path).models
    assert model.quantized == "" and "4 bits" not in Real([model]).at_home


def test_the_fields_figures_have_a_source_that_is_cited_and_a_place_where_they_were_read():
    rows = field_of(ROOT / "data" / "reference" / "real" / FIELD)
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.M))
    assert len(rows) >= 8 and {row["key"] for row in rows} <= known
    for row in rows:
        assert all(row[name] for name in ("method", "model", "data", "metric", "seen")), row
        low, high = float(row["low"]), float(row["high"])
        assert 0 <= low <= high <= 100 and row["value"].endswith("%")


def test_a_table_of_the_field_with_other_columns_is_refused(root, tmp_path):
    (root / "data" / "reference" / "real" / FIELD).write_text("method,value\nx,1\n")
    with pytest.raises(BookError, match="its columns are"):
        real(root, tmp_path)
