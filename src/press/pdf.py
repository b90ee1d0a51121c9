"""Print the built book to one PDF, through Chromium, in the order of the contents.

`press.one_page` makes one HTML page of it beside the book's own, whose styles and figures it uses.
"""

from __future__ import annotations

import io
from pathlib import Path

from playwright.sync_api import Page
from pypdf import PdfReader

from press.browser import chromium, open_page
from press.errors import BrowserError, PrintError
from press.one_page import assemble, chosen, contents

#: the text on paper in CSS pixels; its width: A4 without the margins that print.css leaves, (210 - 2
#: x 18) mm at 96 pixels an inch
TEXT = {"width": 658, "height": 1000}
PATIENCE = 1800.0  # seconds: the whole book is one long page
#: of the sheet that Chromium has in mind where the style sheets ask how wide it is, before it looks up
#: what they say of the paper: cards lie below each other, not side by side
MARGIN = dict.fromkeys(("top", "right", "bottom", "left"), "0.4in")
#: tables that are too wide for the paper get smaller letters, and if that is not enough, break
#: their words
NARROW = """() => document.querySelectorAll("table").forEach(table => {
    const edge = document.documentElement.clientWidth + 1;
    for (const name of ["wide", "wider"])
        if (table.getBoundingClientRect().right > edge) table.classList.add(name);
})"""
#: draw pictures, or only leave room for them
PICTURES = """drawn => document.querySelectorAll("img").forEach(image => {
    image.style.visibility = drawn ? "" : "hidden";
})"""
#: write the numbers of the sheets into the contents, where there is room for them
FILL = """sheets => document.querySelectorAll(".printed-entry a").forEach(entry => {
    entry.querySelector(".printed-sheet").textContent = sheets[entry.hash.slice(1)] || "";
})"""


def print_book(html: Path, out: Path, labs: str = "all") -> int:
    """Print the book in `html` to the file `out`; returns how many of its pages went in.

    `labs`, of PRINTED_LABS: every lab, each task's first seed, or none. Raises :class:`PrintError`.
    """
    leaves = chosen(contents(html), labs)
    missing = [leaf.name for leaf in leaves if not (html / leaf.file).is_file()]
    if missing:
        raise PrintError(
            f"{html} lacks {', '.join(missing[:3])}, which its contents name: build the book again"
            " with `make book`"
        )
    sheet = html / ".print.html"  # beside the pages, for the sake of relative addresses
    unfinished = out.with_suffix(".unfinished")
    try:
        sheet.write_text(assemble(html, leaves), encoding="utf8")
        with chromium() as browser:
            page = browser.new_page(viewport=TEXT)
            open_page(page, sheet, PATIENCE)
            page.emulate_media(media="print")
            page.evaluate(NARROW)
            page.evaluate(FILL, sheets(page))
            out.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(printed(page))
        unfinished.replace(out)
    except (OSError, BrowserError) as error:
        raise PrintError(str(error)) from error
    finally:
        sheet.unlink(missing_ok=True)
        unfinished.unlink(missing_ok=True)
    return len(leaves)


def sheets(page: Page) -> dict[str, int]:
    """The sheet (from 1) on which each named place will lie, by a first print without pictures."""
    page.evaluate(PICTURES, False)
    draft = PdfReader(io.BytesIO(printed(page, with_outline=False)))
    page.evaluate(PICTURES, True)
    return {
        name.lstrip("/"): draft.get_destination_page_number(place) + 1
        for name, place in draft.named_destinations.items()
    }


def printed(page: Page, with_outline: bool = True) -> bytes:
    """The PDF of an open page. Size of the paper and margins come from the style sheet."""
    return page.pdf(
        prefer_css_page_size=True,
        margin=MARGIN,
        print_background=True,
        tagged=with_outline,
        outline=with_outline,
    )
