"""The built book (that of the smoke study, or the one that MEMGEN_BOOK names) carries no needless weight."""

from __future__ import annotations

from urllib.parse import urlsplit

import checks
import pandas as pd

from memgen.config.base import ROOT
from memgen.stages import LABS
from press import trim


def test_home_page_is_light(built_book):
    """Besides what Sphinx and the theme load on every page: the page itself, its figure, and what
    comes from book/_static.
    """
    home = checks.page(built_book / "index.html")
    asked = {
        tag.get("src") or tag.get("href")
        for tag in home.select("script[src], link[rel=stylesheet], link[rel=icon], img[src]")
    }
    files = {built_book / urlsplit(url).path for url in asked if not urlsplit(url).scheme}
    own = [
        f
        for f in files
        if "_static" not in f.parts
        or (ROOT / "book" / "_static" / f.relative_to(built_book / "_static")).is_file()
    ]
    assert any(f.suffix == ".webp" for f in own) and any(f.name == "book.css" for f in own)
    assert not any({"live", "mathjax"} & set(f.parts) or f.name == "searchindex.js" for f in files)
    assert sum(f.stat().st_size for f in [built_book / "index.html", *own]) < 500_000


def test_whole_book_is_light(built_book):
    assert sum(f.stat().st_size for f in built_book.rglob("*") if f.is_file()) < 60_000_000
    assert not list(built_book.rglob("*.map")) and not list(built_book.rglob("*.po"))
    assert not [
        f for f in built_book.glob("_downloads/*/*.ipynb") if b"image/png" in f.read_bytes()
    ]


def test_every_lab_page_has_its_parameters_and_files(built_book):
    for path in built_book.glob("labs/*/*.html"):
        bar = checks.page(path).select_one(".lab-bar")
        named = [row.th.get_text() for row in bar.select("details table.parameters tbody tr")]
        assert named == [
            name for name in LABS[path.parent.name].parameters.model_fields if name != "runs"
        ], path
        assert (
            "seed" in bar.get_text()
            and "Python 3" in bar.get_text()
            and len(bar.select("a.download")) == 3
        ), path


def test_slides_come_in_both_forms(built_book):
    cards = checks.page(built_book / "teach.html").select(".slides .sd-card")
    assert cards
    for card in cards:
        assert [link["href"].rsplit(".")[-1] for link in card.select("a.download")] == [
            "svg",
            "png",
        ] and card.img["alt"].strip()


def test_a_built_book_is_trimmed(tmp_path):
    static = tmp_path / "_static" / "scripts"
    static.mkdir(parents=True)
    (static / "a.js").write_text("run();\n//# sourceMappingURL=a.js.map")
    (static / "a.js.map").write_text("{}")
    (tmp_path / "_static" / "locales" / "de" / "LC_MESSAGES").mkdir(parents=True)
    (tmp_path / "_static" / "locales" / "de" / "LC_MESSAGES" / "theme.po").write_text("")
    page_text = (
        '<div>\n\n   <p>a  b</p>\n<pre><span class="n">x</span>\n   <span'
        ' class="o">=</span></pre>\n<script>f("\n   <b>")</script></div>'
    )
    for name in ("index", "search"):
        (tmp_path / f"{name}.html").write_text(
            page_text + '<script src="../searchindex.js"></script>'
        )
    trim.trim(tmp_path)
    assert "searchindex.js" in (tmp_path / "search.html").read_text()
    assert not list(tmp_path.rglob("*.map")) and not (tmp_path / "_static" / "locales").exists()
    assert (static / "a.js").read_text() == "run();\n"
    assert (tmp_path / "index.html").read_text() == (
        '<div>\n<p>a  b</p>\n<pre>x\n   <span class="o">=</span></pre>\n<script>f("\n   <b>")'
        "</script></div>"
    )


def test_a_mark_in_a_table_is_text_and_no_tag():
    """As pandas writes them: a Styler without escapes, and a plain frame with a style of its own."""
    frame = pd.DataFrame({"prompt": ["<mem>htx"], "n": [1]})
    with pd.option_context("styler.format.escape", None):  # notebooks of this study set it
        shown = trim.plain_table(frame.style.hide(axis="index").to_html())
    assert "<td>&lt;mem>htx</td>" in shown and "<style" not in shown
    escaped = trim.plain_table(frame.style.format(escape="html").to_html())
    assert "<td>&lt;mem&gt;htx</td>" in escaped
    with pd.option_context("styler.format.escape", None):
        coloured = trim.plain_table(frame.style.highlight_max(["n"]).to_html())
    assert coloured.startswith("<style>") and "&lt;mem>htx" in coloured
    plain = trim.plain_table(frame._repr_html_())
    assert "<td>&lt;mem&gt;htx</td>" in plain and "scoped" not in plain and "border" not in plain
