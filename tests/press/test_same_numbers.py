"""A quantity that is printed on two pages has one value, and says which of its definitions it is."""

from __future__ import annotations

import json
import re

import pytest
import same_numbers
from bs4 import BeautifulSoup
from fake_run import make_run
from same_numbers import differing, named, printed, prose_pages, unsaid, unsaid_on

from press.numbers import Numbers, decimal, percent
from press.origin import At, mean, traced

A = At("inference/seed0/06_intervention/result.json")
TASKS = ["arithmetic-tagged", "arithmetic-matched", "inference"]
#: home's headline is of one task, which its addresses do not name
HEADLINE = "study/all/08_synthesis/result.json"


# -- the book --------------------------------------------------------------------------------------
def headline(book) -> dict:
    """The `headline_number` of a built book, from the results that its crate names; {} if none."""
    graph = json.loads((book / "ro-crate-metadata.json").read_text(encoding="utf8"))["@graph"]
    (file,) = (one["@id"] for one in graph if one.get("identifier") == HEADLINE)
    return json.loads((book / file).read_text(encoding="utf8")).get("headline_number", {})


def test_no_quantity_of_the_built_book_has_two_values(built_book):
    numbers = list(printed(prose_pages(built_book), headline(built_book)))
    pages_of = {}
    for one in numbers:
        pages_of.setdefault(one.quantity, set()).add(one.page)
    assert len(numbers) > 1000 and sum(len(pages) > 1 for pages in pages_of.values()) > 50
    assert differing(numbers) == []


def test_where_a_quantity_has_two_definitions_every_page_says_which(built_book):
    assert unsaid(built_book, prose_pages(built_book)) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory, notebook):
    return make_run(tmp_path_factory.mktemp("same") / "runs", TASKS, [0, 1], notebook)


@pytest.fixture
def every_file_alone(monkeypatch):
    """The files of a made-up run do not agree with each other: a source is a quantity of its own."""
    monkeypatch.setattr(same_numbers, "SAME", ())


@pytest.mark.usefixtures("every_file_alone")
def test_no_quantity_of_a_made_up_run_has_two_values(folder, root, rendered):
    numbers = list(printed(rendered(folder, write=str, root=root)))
    assert len(numbers) > 500 and differing(numbers) == []


@pytest.mark.usefixtures("every_file_alone")
def test_a_helper_that_writes_another_value_is_noticed(folder, root, rendered, monkeypatch):
    """The AUC of the best layer, on some pages from `cell`, on others from `score` and `mean`."""
    cell = Numbers.cell

    def off(self, task, stage, key, digits=None):
        text = cell(self, task, stage, key, digits)
        return re.sub(r">0\.\d+<", ">0.11<", text) if key == "best_auc" else text

    monkeypatch.setattr(Numbers, "cell", off)
    found = differing(printed(rendered(folder, write=str, root=root)))
    assert found and all("best_auc" in one for one in found)


# -- the crawl itself ------------------------------------------------------------------------------
def on(*texts: str) -> dict[str, str]:
    """Pages, named by their numbers."""
    return {f"page {number}": text for number, text in enumerate(texts)}


@pytest.mark.parametrize(
    "texts, agree",
    [
        ((percent, lambda x: decimal(x, 2)), True),
        ((percent, lambda x: percent(x, 1)), True),
        ((percent, lambda x: decimal(100 * x, 0)), True),
        ((percent, lambda x: percent(x).replace("88", "91")), False),
        ((lambda x: decimal(x, 3), lambda x: percent(x).replace("88", "91")), False),
    ],
)
def test_other_decimals_and_per_cent_are_the_same_value(texts, agree):
    x = traced({"success": 0.884}, A)["success"]
    found = differing(printed(on(*(write(x) for write in texts))))
    assert bool(found) is not agree


def test_a_negative_rate_is_written_as_a_negative_decimal_is():
    x = traced({"effect": -0.314}, A)["effect"]
    assert percent(-0.314) == "−31\u00a0%" and percent(-0.001) == "0\u00a0%"
    assert differing(printed(on(percent(x), decimal(x)))) == []


def test_two_files_of_one_quantity_have_one_name():
    steering = "study/all/08_synthesis/steering.json#/inference/m2g/steered/success"
    over = "study/all/08_synthesis/result.json#/over_seeds/inference/m2g/value"
    assert named(steering, "percent(x[0])") == named(over, "decimal(x[0])", {})[:1] + (0.01,)
    probe = "inference/seed{0,1}/05_prediction/result.json#/best_auc"
    auc = "study/all/08_synthesis/result.json#/over_seeds/inference/auc/value"
    assert named(probe, "decimal(mean(x), 2)") == named(auc, "decimal(x[0])")
    assert named(f"lora/{probe}", "decimal(mean(x), 2)") != named(probe, "decimal(mean(x), 2)")
    home = "study/all/08_synthesis/result.json#/headline_number/rate"
    about = {"task": "inference", "direction": "m2g"}
    assert named(home, "percent(x[0])", about) == named(steering, "percent(x[0])")
    texts = [
        f'<span data-source="{s}" data-how="percent(x[0])">{t} %</span>'.replace(" %", "\u00a0%")
        for s, t in ((steering, 26), (home, 34))
    ]
    (found,) = differing(printed(on(*texts), about))
    assert "26" in found and "34" in found and "inference m2g" in found


def test_one_seed_is_another_quantity_than_all_of_them():
    lab = "inference/seed{}/06_intervention/result.json#/m2g/success"
    names = {
        named(lab.format(s), how)[0]
        for s, how in (
            ("0", "percent(x[0])"),
            ("1", "percent(x[0])"),
            ("{0,1}", "percent(mean(x))"),
        )
    }
    assert len(names) == 3
    one = lab.format(0)
    assert named(one, "percent(x[0])") == named(one, "percent(mean(x))")


SECTION = (
    "<section><h2>Rates</h2><p>{}</p><table><thead><tr><th>task</th><th>{}</th></tr></thead><tbody>"
)
ROW = "<tr><td>inference</td><td>{}</td></tr></tbody></table><p>{}</p></section>"


@pytest.mark.parametrize(
    "before, head, after, said",
    [
        ("Success as run.", "shift", "", True),
        ("", "shift, as run", "", True),
        ("Success.", "shift", "", False),
        ("Success.", "shift", "as run", False),
        ("Success within the limit.", "shift", "", False),
    ],
)
def test_a_number_whose_definition_is_not_said_is_found(before, head, after, said):
    rates = traced({"m2g": {"success": 0.884}}, A)
    number = percent(mean([rates["m2g"]["success"]]))
    page = "\n".join((SECTION.format(before, head), ROW.format(number, after)))
    found = unsaid_on(BeautifulSoup(page, "html.parser"))
    assert (found == []) is said, found
