"""What the theme's markup lacks for a screen reader, mended in the finished pages.

These elements come from templates of pydata-sphinx-theme, docutils and Jupyter Book that offer no
setting for them. `tests/press/test_accessibility.py` runs axe-core on the result and names whatever
a new version brings.
"""

from __future__ import annotations

import re
from pathlib import Path

#: (what is wrong, pattern, replacement)
MENDED = (
    (
        "the name of the search field leaves out its shortcut",
        r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"',
        r"\1",
    ),
    (
        "the icons of the colour mode repeat its name as another one",
        r'<i class="theme-switch ([^>]*?)\s+title="[^"]*"',
        r'<i aria-hidden="true" class="theme-switch \1',
    ),
    (
        "the arrow that unfolds a branch of the contents has no name",
        (
            r'(<a class="[^"]*reference internal[^"]*"'
            r' href="[^"]*">)([^<]*)(</a><details[^>]*><summary)>'
        ),
        r'\1\2\3 aria-label="Pages below: \2">',
    ),
    (
        "hidden code is called something else than what is written there",
        r'<summary aria-label="Toggle hidden content">',
        "<summary>",
    ),
    (
        "a list of references has no items, by a deprecated role",
        r'role="doc-biblioentry"',
        'role="listitem"',
    ),
)


def mend(app, exception):
    """Rewrite every page of a book that was built without an error."""
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            page = mended(text := path.read_text(encoding="utf8"))
            if page != text:
                path.write_text(page, encoding="utf8")


def mended(page: str) -> str:
    """The HTML of a page with everything in MENDED replaced."""
    for _, pattern, replacement in MENDED:
        page = re.sub(pattern, replacement, page)
    return page


def setup(app):
    app.connect("build-finished", mend)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
