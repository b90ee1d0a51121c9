"""axe-core in Chromium finds nothing serious or critical. `MEMGEN_BOOK=_build/html pytest
tests/press/test_accessibility.py` checks a real book.

Of the smoke study's book it looks at every page of prose and one of each kind of lab, on a phone in
light and on a desk in dark colours. Of a book that `MEMGEN_BOOK` names, at those on a phone and a
desk, light and dark, and at every other page in one of these views, in turns.
"""

import os

import checks
from browser import needs_chromium, reading

from press.browser import chromium

PHONE, DESK_DARK = checks.VIEWS[0], checks.VIEWS[3]
VIEWS = [
    view for view in checks.VIEWS if view[0] != 768
]  # from the phone on: what has to scroll there can be reached with the keyboard ever after

pytestmark = needs_chromium


def test_nothing_serious_or_critical_on_any_page(built_book):
    if "MEMGEN_BOOK" in os.environ:
        names = [
            path.relative_to(built_book).with_suffix("").as_posix()
            for path in checks.pages(built_book)
        ]
        views = {
            name: [VIEWS[number % len(VIEWS)]] for number, name in enumerate(names)
        } | dict.fromkeys(checks.kinds(built_book), VIEWS)
    else:
        views = dict.fromkeys(checks.kinds(built_book), [PHONE, DESK_DARK])
    assert (
        checks.with_browsers(
            list(views),
            lambda reader, name: checks.inaccessible(
                reader, built_book / f"{name}.html", views[name]
            ),
        )
        == []
    )


BAD = """<!doctype html><html lang="en" data-theme="light"><title>bad</title>
<meta name="viewport" content="width=device-width">
<main><h1>A page</h1><img src="data:," width="9" height="9"><button></button>
<p style="color: #bbb; background: #fff">pale</p></main></html>"""


def test_findings_are_found(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(BAD)
    with chromium() as browser, reading(browser, "about:blank") as reader:
        found = checks.inaccessible(reader, page, [PHONE])
    assert all(line.startswith("bad at 390 px, light: ") for line in found)
    for rule in (
        "image-alt, critical: img",
        "button-name, critical: button",
        "color-contrast, serious: p",
    ):
        assert any(rule in line for line in found), (rule, found)
