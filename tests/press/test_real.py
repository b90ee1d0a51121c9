"""The chapter *A model you know*: what it counts of planted runs, what it says, and what it draws."""

from __future__ import annotations

import json
import re
import shutil

import matplotlib.pyplot as plt
import pytest

import real_model
from memgen.config.base import ROOT
from memgen.figures import real as figures
from memgen.figures.real_depth import along_depth
from memgen.figures.style import Drawing
from memgen.terms import DIRECTIONS, OPEN, REVERSED, SUPPORTED
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


def test_what_validation_keys_chose_among_is_said_of_each_model():
    one, other = Model(about()), Model(about() | {"tried": {"alphas": [2.0], "top_ns": [1.0]}})
    other.about["tried"]["layer_alphas"] = []
    first, second = Real([one, other]).tried.replace("\u00a0", " ").split("; ")
    assert first.endswith(
        "alpha 0.5, 1 on 10 % to 100 % of the neurons, one layer by 3 times its difference"
    )
    assert second.endswith("alpha 2 on 100 % to 100 % of the neurons")


def test_pairs_in_one_wording_are_told_where_they_were_asked():
    told = bare(Model(about()).one_wording).replace("\u00a0", " ")
    assert "60 pairs of 18 couples" in told and "in layer 2, 9 %" in told
    assert "8 % to 10 %" in told and "by 0.60 to 0.62" in told
    before, few = about(), about()
    del before["seeds"][1]["same_wording"]
    few["seeds"][0]["same_wording"]["significant_share"] = [None] * 4
    assert Model(before).one_wording == Model(few).one_wording == ""


def test_other_texts_are_told_where_they_were_shown():
    told = bare(Model(about()).contexts).replace("\u00a0", " ")
    assert "(116 in a data set) are answered right in 88 % to 90 %" in told
    assert "in 68 % to 70 % where" in told and "20 % of these" in told and "is 100 %," in told
    before = about()
    del before["seeds"][2]["contexts"]
    assert Model(before).contexts == ""


def test_relations_never_seen_stand_beside_those_that_were():
    model = Model(about())
    assert (
        model.unseen.n_seeds == 2 and "Data set 2 could not be asked so: no key" in model.not_unseen
    )
    assert model.unseen.steered("m2g").success == pytest.approx(STEERED["m2g"] / 2)
    assert bare(model.turned("m2g", "steered")).startswith("71")
    before, none = about(), about()
    del before["relations"]
    none["relations"] = none["relations"][-1:]
    assert Model(before).unseen is None and Model(before).not_unseen == ""
    assert Model(none).unseen is None and Model(none).not_unseen


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
    assert "made-up entities lose" not in model.goals
    broken = about()
    for one in broken["seeds"]:
        one["steering"]["g2m"]["shifts"]["one_layer"]["free_accuracy_after"] -= 0.5
    said = Model(broken).goals
    assert re.search(
        r"90\u00a0%, but questions about made-up entities lose \d\d points: reached", said
    )
    dear = about()
    for one in dear["seeds"]:
        for found in one["steering"].values():
            found["shifts"]["one_layer"]["keyed_accuracy_after"] = 0.9
    assert Model(dear).goal("g2m")["best"] is None
    assert Model(dear).goals.count("No shift stays within that cost: not reached.") == 2


def without_kept(about: dict) -> dict:
    """The same, with no strength within the limit in the first data set."""
    for found in about["seeds"][0]["steering"].values():
        found |= {"cell": "max", "kept_exists": False}
    return about


def test_what_is_bound_to_the_limit_turns_nothing_where_nothing_is_within_it():
    """The data set without a kept cell counts as 0, and its cell without a limit is shown as that."""
    every, two = Model(about()), Model(without_kept(about()))
    fewer = figures.bars_of(two.seeds, "m2g").set_index("name")
    assert fewer.success["steered"] == pytest.approx((2 * STEERED["m2g"] + 0.03) / 3)
    assert fewer.success["steered_max"] == pytest.approx(every.steered("m2g").success)
    limited = about()
    for found in limited["seeds"][0]["steering"].values():
        one = real_model.bar("one_layer_kept", "rival", 0.3)
        found["bars"].append(one | {"success": None, "low": None, "high": None, "n": 0})
    bars = figures.bars_of(limited["seeds"], "m2g").set_index("name")
    assert (bars.success["one_layer_kept"], bars.n["one_layer_kept"]) == (0.0, 150)


def test_a_cell_that_breaks_the_limit_is_drawn_as_one_without_it():
    rows = figures.cost_rows(about()["seeds"])
    assert set(rows["shift"]) == {"steered", "steered_max", "one_layer"} and len(rows) == 3 * 2 * 3
    steered = rows[rows["shift"] == "steered"]
    assert steered.keyed.tolist() == pytest.approx([-30] * 6)
    assert steered.page.tolist() == pytest.approx([2.5] * 6)
    rows = figures.cost_rows(without_kept(about())["seeds"])
    first = rows[rows.seed == rows.seed.iloc[0]]
    assert set(first["shift"]) == {"steered_max", "one_layer"}


def drawn(models: figures.Models) -> dict[str, Drawing]:
    draw = (figures.behaviours, along_depth, figures.steering, figures.costs)
    found = {one.name: one for one in (draw_one(models) for draw_one in draw)}
    for one in found.values():
        plt.close(one.figure)
    return found


def test_figures_say_in_words_what_they_show():
    found = drawn({"A Model": about()["seeds"]})
    assert set(found) == {"behaviours", "depth", "steering", "costs"}
    assert "what it knows 40%, 41%, 42%" in found["behaviours"].alt
    assert f"at most 16% in layer {PEAK}" in found["depth"].alt
    assert "turned by the words at most 5%" in found["depth"].alt
    assert "stays at most 0%" in found["depth"].alt and "without states 0.78" in found["depth"].alt
    assert f"towards the text {PEAK}, {PEAK}, {PEAK}" in found["depth"].alt
    assert "one layer, difference 90%" in found["steering"].alt
    assert "plain facts -30 points, perplexity times 2.50" in found["costs"].alt


def test_two_models_stand_side_by_side_in_every_figure():
    """A column or a row of panels each; a way that one of them lacks leaves its place empty."""
    other = about()["seeds"]
    for one in other:
        for steered in one["steering"].values():
            steered["bars"] = [bar for bar in steered["bars"] if bar["name"] != "low_rho"]
    models = {"First": about()["seeds"], "Second": other}
    found = drawn(models)
    for one in found.values():
        assert "First: " in one.alt and "Second: " in one.alt, one.name
        assert one.alt.index("First: ") < one.alt.index("Second: ")
    said = found["steering"].alt.split("Second: ")
    assert "uncorrelated neurons" in said[0] and "uncorrelated neurons" not in said[1]
    first, second = found["steering"].figure.axes[:2]
    assert len(first.patches) == len(second.patches) + 2  # target and other
    assert first.get_xlim() == second.get_xlim()
    assert len(found["depth"].figure.axes) == 6 and len(found["costs"].figure.axes) == 6


def gemma(**card) -> dict:
    """A model of another family; in it the probe is behind, and instructions turn nothing."""
    found = about(
        **{"name": "b-model", "title": "B Model", "architecture": "Gemma3ForCausalLM"} | card
    )
    for number, one in enumerate(found["seeds"]):
        one["prediction"]["gain"] = -0.10 + 0.01 * number
        for steered in one["steering"].values():
            for bar in steered["bars"]:
                bar["success"] = 0.0 if bar["name"].startswith("instruction") else bar["success"]
    return found


def test_one_model_is_no_claim_and_one_of_the_same_family_is_none_more():
    alone = Real([Model(about())])
    assert "Two models or no claim" in alone.standing and "inconclusive" in alone.verdict
    assert "loses 30 points of plain facts" in alone.at_home  # .95 without it, .65 with it
    assert "One model" in alone.at_home and f"{STEERED['m2g'] + 0.01:.0%}"[:-1] in alone.at_home
    assert {one.verdict for one in alone.findings} == {OPEN}
    assert {one.stands for one in alone.findings} <= {
        "in A Model 135M only",
        "not supported",
        "not tested",
    }
    same = Real([Model(about()), Model(about(name="b", title="B"))])
    assert not same.enough and "models of one family" in same.standing
    assert {one.verdict for one in same.findings} == {OPEN} and "A second model" in same.another


def test_two_families_share_what_stands_in_both_and_keep_what_stands_in_one():
    two = Real([Model(about()), Model(gemma())])
    found = {one.name: one for one in two.findings}
    both, probe = found["both behaviours show"], found["predicted beyond the words"]
    assert both.stands == "in both" and both.verdict == SUPPORTED
    assert [on["verdict"] for on in probe.on] == [SUPPORTED, REVERSED] and probe.verdict == OPEN
    assert probe.stands == "in A Model 135M only"
    assert probe.on[1]["effect"].startswith("−0.09 (−0.1")
    lacking = found["one layer turns more within the limit, towards the text"]
    assert lacking.stands == "not tested" and lacking.on[0]["verdict"] == ""
    assert two.enough and "both behaviours show" in two.verdict and "inconclusive" in two.verdict
    assert "A further model" in two.another and "One model" not in two.at_home
    assert "71\u00a0% (A Model 135M) and 71\u00a0% (B Model)" in two.at_home
    assert "B Model loses 30 points of plain facts" in two.at_home


def test_tables_have_a_column_per_model_and_of_controls_the_best():
    two = Real([Model(about()), Model(gemma())])
    for table in (two.behaviours, two.depth, two.prediction, two.ways("m2g")):
        assert {len(row) for row in table} == {3}
    ways = {row[0]: row[1:] for row in two.ways("m2g")}
    assert ways["told in words (the better)"] == [
        f"{TOLD['m2g']:.0%}"[:-1] + "\u00a0% (2\u00a0%)",
        "0\u00a0% (2\u00a0%)",
    ]
    assert ways["the best control of the same size"][0].startswith("10\u00a0%")
    assert "force one token" not in ways  # it writes the answer
    assert [(row["direction"], row["model"]) for row in two.costs][::3] == [
        (direction, model) for direction in DIRECTIONS for model in two.titles
    ]


def test_the_page_shows_a_model_or_says_that_there_is_none(run, root, tmp_path):
    def page(name: str, at: str) -> str:
        source = tmp_path / at
        shutil.copytree(ROOT / "book", source)
        (source / "figures").mkdir()
        environment = prose.templates(source)
        environment.globals.update(prose.helpers(Run(run).sourced(), root, source))
        environment.globals |= {"quiz": lambda _: "QUIZ", "exercises": lambda _: "EXERCISES"}
        environment.globals |= {"lab_figure": lambda *_, **__: "", "chapter_of": lambda _: "see"}
        return bare(environment.get_template(name).render())

    text = page("real_model.md", "without")
    assert "Not run yet" in text and "`make real`" in text and "zhao2025spare" in text
    assert "nobody trained" not in page("index.md", "home")
    commit(root, about())
    text = page("real_model.md", "with")
    assert "Not run yet" not in text and "**Two models or no claim**" in text
    assert "not the weights that were published" in text and 'make real SEEDS="26 27 28"' in text
    assert text.index("figures/real-steering.png") < text.index("| top neurons | 71")
    assert f"| layer where most neurons differ | {PEAK} of 4 |" in text
    assert "plain questions about the test facts" in text
    assert "| language, symbol | 48, 19, 29 |" in text
    assert "| towards the text | top neurons | 71\u00a0% | 35\u00a0% | 35\u00a0% |" in text
    assert "Most neurons differ in layer 2, 9\u00a0%" in text
    for name in ("behaviours", "depth", "steering", "costs"):
        assert (tmp_path / "with" / "figures" / f"real-{name}.png").is_file()
    assert_tables(text)
    ledger = page("ledger.md", "ledger")
    assert "[claims on it](#real-models)" in ledger
    assert_tables(of_real_models(ledger))
    commit(root, gemma())
    text = page("real_model.md", "two")
    assert (
        "Two models or no claim" not in text
        and "B Model" in text
        and "| in both | `supported`" in text
    )
    assert_tables(text)
    assert_tables(of_real_models(page("ledger.md", "ledger2")))
    (root / "data" / "reference" / "real" / "b-model.json").unlink()
    assert "turns 71\u00a0% of what it would have said from memory" in page("index.md", "home2")


def of_real_models(ledger: str) -> str:
    """Their section of the page."""
    return ledger.split("## Real models")[1].split("\n## ")[0]


def assert_tables(text: str) -> None:
    """Every row of a table has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = table.splitlines()
        assert len({row.count("|") for row in rows}) == 1 and len(rows) > 2, table
        assert re.fullmatch(r"\|(-+\|)+", rows[1]), table


def test_without_a_figure_nothing_is_claimed_to_be_quantized(root, tmp_path):
    plain = about()
    del plain["model"]["quantization"]
    commit(root, plain)
    trained = root / "data" / "reference" / "real" / "a-model-lora.json"
    trained.write_text("{}")  # of adapters on it: no model that was asked
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
