"""A light book: pages and tables without the markup that shows nothing, no files that no page asks for."""

from __future__ import annotations

import re
from pathlib import Path

#: what Sphinx and its theme copy and no page asks for
UNUSED = (
    ".buildinfo",  # for a later build into the same folder, of which there is none
    "**/*.map",
    "_static/vendor/**/*.ttf",
    "_static/webpack-macros.html",
    "_static/locales/**/*.po",
    "_static/locales/**/*.mo",
)
#: classes that pygments gives to names, punctuation and spaces: they have the colour of plain code
#: in both themes of the book
PLAIN_CODE = re.compile(r'<span class="[npw]">([^<]*)</span>')
#: a cell of a table that pandas wrote: its text, never markup
CELL = re.compile(r"(<td[^>]*>)(.*?)(</td>)", re.DOTALL)
INDENT = re.compile(r"\n\s+(?=<)")
#: the theme loads the index of the whole book on every page, for a search as you type that this
#: book does not use
SEARCH = re.compile(
    r"<script"
    r' src="[^"]*(?:_static/searchtools\.js|_static/language_data\.js|searchindex\.js)"></script>\s*'
)
OLD_FONT = re.compile(
    r',\s*url\([^)]*\.ttf\)\s*format\("truetype"\)'
)  # beside it stands the same font as WOFF2, which every browser takes
SOURCE_MAP = re.compile(r"\s*(//# sourceMappingURL=\S+|/\*# sourceMappingURL=.*?\*/)\s*$")


def plain_table(html: str) -> str:
    """A pandas table as the HTML of today; without its cells' ids and classes if no style needs them.

    Marks such as `<mem>` are text in a cell: a Styler writes them as if they were tags, and then no
    reader sees them. `<style scoped>` and `border` are things that HTML no longer has.
    """
    html = CELL.sub(lambda cell: cell[1] + cell[2].replace("<", "&lt;") + cell[3], html)
    html = re.sub(r"<style scoped>.*?</style>\s*", "", html, flags=re.DOTALL)
    html = html.replace('<style type="text/css">', "<style>").replace('<table border="1"', "<table")
    bare = re.sub(r"<style[^>]*>\s*</style>\s*", "", html)
    if "<style" in bare:
        return html
    bare = re.sub(r'<(t[hdr]|table)((?:\s+(?:id="T_[^"]*"|class="[^"]*"))+)\s*>', r"<\1>", bare)
    return re.sub(r">\s*\n\s*<", ">\n<", bare)


def trim(html: Path) -> None:
    """Take out of a built book what no reader ever sees."""
    for pattern in UNUSED:
        for path in list(html.glob(pattern)):
            path.unlink()
    for folder in sorted((p for p in html.glob("_static/locales/**/") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    for path in [*html.glob("_static/scripts/*.js"), *html.glob("_static/styles/*.css")]:
        path.write_text(
            OLD_FONT.sub("", SOURCE_MAP.sub("\n", path.read_text(encoding="utf8"))), encoding="utf8"
        )
    for path in html.rglob("*.html"):
        if "_static" not in path.parts:
            page = lean(path.read_text(encoding="utf8"))
            path.write_text(
                page if path.name == "search.html" else SEARCH.sub("", page), encoding="utf8"
            )


def lean(page: str) -> str:
    """A page without empty lines, indentation, colourless spans; `<pre>` and such keep spaces."""
    parts = re.split(r"(<(pre|script|style|textarea)\b.*?</\2>)", page, flags=re.DOTALL)
    kept = []
    for text, block in zip(parts[::3], [*parts[1::3], ""]):
        kept += [
            INDENT.sub("\n", text),
            PLAIN_CODE.sub(r"\1", block) if block.startswith("<pre") else block,
        ]
    return "".join(kept)
