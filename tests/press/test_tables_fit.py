"""What is too wide for its box: a table is set tighter, then cards on a phone or a line that there is more; a
formula begins at its beginning.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from browser import needs_chromium, reading

from press.browser import chromium

STATIC = Path(__file__).parents[2] / "book" / "_static"
PHONE = (390, 844, "light")
SEEN = """({
    cards: document.querySelectorAll("table.stacked").length,
    tight: document.querySelectorAll("table.tight").length,
    lines: document.querySelectorAll(".more-columns:not([hidden])").length,
    named: getComputedStyle(document.querySelector("tbody td:nth-child(2)"), "::before").content,
    beyond: document.querySelector("div").scrollWidth - document.querySelector("div").clientWidth,
})"""


#: a numbered formula as the theme sets it: the number first, in a row that is reversed
FORMULA = (
    "<style>div.math { display: flex; flex-direction: row-reverse }</style>"
    '<div class="math" style="width: 300px"><span class="eqno">(1)</span>'
    '<mjx-container style="width: 900px; flex-shrink: 0">h</mjx-container></div>'
)


def page(folder: Path, columns: int, rows: int = 1) -> Path:
    """One table of so many columns and rows, in the markup and with the files of the book."""
    for name in ("book.css", "book.js"):
        shutil.copy(STATIC / name, folder)
    head = "".join(f"<th>quantity {i}</th>" for i in range(columns))
    cells = "".join(f"<td><p>{i}</p></td>" for i in range(columns))
    body = f"<tr>{cells}</tr>" * rows
    path = folder / "page.html"
    path.write_text(
        '<!doctype html><meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="book.css"><script src="book.js"></script>'
        '<article class="bd-article"><div class="pst-scrollable-table-container">'
        f'<table class="table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div></article>",
        encoding="utf8",
    )
    return path


@needs_chromium
def test_a_wide_table_is_cards_on_a_phone_and_says_elsewhere_that_there_is_more(tmp_path):
    with chromium() as browser:
        with reading(browser, page(tmp_path, 24)) as reader:
            wide = reader.evaluate(SEEN)
            assert (wide["cards"], wide["lines"]) == (0, 1) and wide["beyond"] > 0
            end = "document.querySelector('div').scrollLeft = 99999"
            reader.evaluate(f"new Promise(done => {{ {end}; setTimeout(done, 300) }})")
            assert reader.evaluate(SEEN)["lines"] == 0  # nothing more is hidden
            reader.look(PHONE)
            phone = reader.evaluate(SEEN)
            assert (phone["cards"], phone["lines"], phone["beyond"]) == (1, 0, 0)
            assert phone["named"] == '"quantity 1: "'
            roles = "[...document.querySelectorAll('[role]')].map(x => x.getAttribute('role'))"
            assert {"table", "row", "columnheader", "cell"} <= set(reader.evaluate(roles))
        with reading(browser, page(tmp_path, 2), PHONE) as reader:
            small = reader.evaluate(SEEN)
            assert (small["cards"], small["lines"], small["named"]) == (0, 0, "none")
        with reading(browser, page(tmp_path, 24, rows=40), PHONE) as reader:
            long = reader.evaluate(SEEN)
            assert (long["cards"], long["lines"]) == (0, 1) and long["beyond"] > 0


@needs_chromium
def test_a_table_that_fits_when_it_is_set_tighter_hides_nothing(tmp_path):
    with chromium() as browser:
        for columns in range(4, 24):  # somewhere between fitting and not
            with reading(browser, page(tmp_path, columns)) as reader:
                seen = reader.evaluate(SEEN)
            assert (seen["lines"] == 0) == (seen["beyond"] <= 1)
            if seen["tight"]:
                break
        assert (seen["tight"], seen["lines"], seen["cards"]) == (1, 0, 0)


@needs_chromium
def test_a_formula_wider_than_its_box_begins_at_its_beginning(tmp_path):
    path = page(tmp_path, 2)
    text = path.read_text("utf8")
    begin = "document.querySelector('mjx-container').getBoundingClientRect().left"
    box = "document.querySelector('div.math').getBoundingClientRect().left"
    with chromium() as browser:
        # the theme's style comes first, as in the book
        path.write_text(text.replace("<link", FORMULA + "<link", 1), encoding="utf8")
        with reading(browser, path) as reader:
            assert reader.evaluate(f"{begin} - {box}") == 0
            assert reader.evaluate("document.querySelector('div.math').scrollWidth") > 900
