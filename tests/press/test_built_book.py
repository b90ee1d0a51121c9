"""The book as a reader gets it. `MEMGEN_BOOK=_build/html pytest tests/press/test_built_book.py`
checks a real one.
"""

import os

import checks
import pytest
from browser import needs_chromium, reading

from press.browser import chromium


def test_links_lead_somewhere(built_book):
    assert checks.broken_links(built_book) == []


def test_every_image_has_a_text(built_book):
    assert checks.images_without_text(built_book) == []


def test_nothing_is_fetched_from_elsewhere(built_book):
    assert checks.external_requests(built_book) == []


def test_links_leave_the_site_only_for_references(built_book):
    assert checks.links_elsewhere(built_book) == []


def test_book_works_in_any_folder(built_book):
    assert checks.absolute_addresses(built_book) == []


def test_pages_name_no_folder_of_this_machine(built_book):
    assert checks.absolute_paths(built_book, built_book.parent) == []


def test_home_page_has_the_finding_and_four_doors(built_book):
    home = checks.page(built_book / "index.html")
    assert home.select_one(".home-figure img")["alt"].strip()
    assert len(home.select(".doors .sd-card a[href]")) == 4
    assert home.find("link", rel="icon") is not None


def test_lab_pages_say_where_they_belong_and_how_to_run_them(built_book):
    labs = [p for p in checks.pages(built_book) if "labs" in p.relative_to(built_book).parts]
    assert labs
    for path in labs:
        bar = checks.page(path).select_one(".lab-bar")
        stage = path.parent.name
        assert f"memgen lab {stage} --" in bar.pre.get_text(), path
        assert bar.find("a", href=lambda href: href.endswith(f"chapters/{stage}.html")), path
        assert len(bar.find_all("a", class_="download")) == 3, path


@needs_chromium
@pytest.mark.parametrize("served", [False, True], ids=["file", "http"])
def test_every_kind_of_page_at_every_size_light_and_dark(built_book, served):
    """From http the pages of the smoke study's book are seen in one view each, in turns; those that
    `MEMGEN_BOOK` names in all, too.
    """
    names = checks.kinds(built_book)
    assert {"index", "search", "bibliography", "chapters/06_intervention"} <= set(names)
    turns = 1 if served and "MEMGEN_BOOK" not in os.environ else len(checks.VIEWS)
    assert checks.in_browser(built_book, names, served, turns) == []


@needs_chromium
def test_a_search_from_a_file_asks_for_nothing_that_files_do_not_give(built_book):
    """Found pages are listed; their excerpts would have to be fetched."""
    address = f"{(built_book / 'search.html').as_uri()}?q=memory"
    with chromium() as browser, reading(browser, address) as reader:
        reader.page.wait_for_selector("ul.search li")
        assert reader.visit.complaints() == []
        asked = reader.evaluate(
            "performance.getEntriesByType('resource').map(e => e.initiatorType)"
        )
        assert not {"fetch", "xmlhttprequest"} & set(asked)


# -- the checks themselves notice what they are there for ------------------------------------------
BAD = """<!doctype html><meta name="viewport" content="width=device-width"><title>bad</title>
<link rel="icon" href="data:,"><a href="nowhere.html">x</a><a href="#nothing">y</a>
<a href="https://ads.example.org/">z</a><a href="/home.html">w</a>
<img src="a.png"><script src="https://unpkg.com/x.js"></script>
<p style="width:900px">wide</p><span class="math">\\(x\\)</span>
<script>console.error("told you"); undefinedFunction()</script>"""


@pytest.fixture
def bad_book(tmp_path):
    (tmp_path / "index.html").write_text(BAD)
    (tmp_path / "style.css").write_text("@import 'https://fonts.example.org/a.css';")
    return tmp_path


def test_checks_see_a_bad_page(bad_book):
    assert len(checks.broken_links(bad_book)) == 4
    assert len(checks.images_without_text(bad_book)) == 1
    assert len(checks.external_requests(bad_book)) == 2
    assert checks.links_elsewhere(bad_book) == ["index.html links to ads.example.org"]
    assert checks.absolute_addresses(bad_book) == ["index.html: <a href='/home.html'>"]


@needs_chromium
def test_browser_sees_a_bad_page(bad_book):
    page = bad_book / "index.html"
    with chromium() as browser, reading(browser, page, checks.VIEWS[0]) as reader:
        complaints = "\n".join(reader.visit.complaints())
    turned = "\n".join(checks.in_browser(bad_book, ["index"], served=True))
    foreign = "foreign request: https://unpkg.com"
    for expected in (
        "told you",
        "undefinedFunction",
        foreign,
        "failed request",
        "wider than the window",
        "0 of 1 formulas",
    ):
        assert expected in complaints
        assert expected in turned
    assert (
        "index at 768 px, light: wider than the window" in turned
        and "index at 1400 px, light: wider" not in turned
    )
    assert "index at 390 px is not shown dark" in turned
