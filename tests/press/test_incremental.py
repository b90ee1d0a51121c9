"""A book of which little has changed is built quickly, and is the book that a build from nothing gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from memgen.config.base import ROOT
from memgen.config.sources import strays
from press.build import build_pages
from press.errors import BookError
from press.kept_build import DOCTREES, digests, find
from press.staged import settle

#: a book as small as the book of a study is large, with whatever a page may show of another
PAGES = {
    "index": "# Home\n\nSee {doc}`chapters/first`, [a section](chapters/first.md#deep-down) and {term}`rule`.\n",
    "chapters/first": """# First

Cited: {cite:t}`someone`. On the second page: {numref}`fig-b`, {eq}`sum`, and [its title](second.md).

```{figure} ../figures/a.png
:alt: a
:name: fig-a

The *caption* of the first figure.
```

## Deep down

Words that nobody else says: aardvark.
""",
    "chapters/second": """# Second

```{figure} ../figures/b.png
:alt: b
:name: fig-b

The caption of the second figure.
```

```{math}
:label: sum
1 + 1 = 2
```

{download}`numbers <../numbers.json>` See {numref}`fig-a` and {ref}`the one below <below>`.

(below)=
## Below

Text.
""",
    "chapters/third": "# Third\n\nNothing of others.\n",
    "glossary": "# Glossary\n\n:::{glossary}\nrule\n  What holds.\n\nkey\n  What one is asked for.\n:::\n",
    "bibliography": "# Bibliography\n\n:::{bibliography}\n:::\n",
}
CITED = "@article{someone, author={A. Someone}, title={Something}, year={2020}, journal={J}}\n"


def write_sources(source: Path) -> None:
    """The small book as `press.build` would stage it, with the settings and extensions of the real one."""
    for name, text in PAGES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / f"{name}.md").write_text(text, encoding="utf8")
    chapters = [{"file": name} for name in PAGES if name != "index"]
    toc = {
        "format": "jb-book",
        "root": "index",
        "parts": [{"caption": "All", "chapters": chapters}],
    }
    (source / "_toc.yml").write_text(json.dumps(toc), encoding="utf8")  # JSON is YAML
    (source / "references.bib").write_text(CITED)
    (source / "numbers.json").write_text("[1]")
    (source / "figures").mkdir()
    for number, name in enumerate("ab"):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(source / "figures" / f"{name}.png")
    shutil.copy(ROOT / "_config.yml", source)
    shutil.copytree(ROOT / "book" / "_ext", source / "_ext", ignore=strays)
    (source / "_static").mkdir()
    for name in ("logo.svg", "favicon.svg", "book.css"):
        shutil.copy(ROOT / "book" / "_static" / name, source / "_static")


def build(source: Path, out: Path) -> list[str]:
    """Build the sources as `make book` does; returns the pages that were written."""
    out.mkdir(exist_ok=True)
    return build_pages(source, out, digests(source), lambda html: None)


def contents(html: Path) -> dict[str, bytes]:
    """Every file of a book."""
    return {
        path.relative_to(html).as_posix(): path.read_bytes()
        for path in html.rglob("*")
        if path.is_file()
    }


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf8")


def both(source: Path, out: Path) -> list[str]:
    """Build again, and from nothing: the same files of the same bytes. Returns the pages written again."""
    written = build(source, out)
    clean = out.with_name("clean")
    shutil.rmtree(clean, ignore_errors=True)
    assert len(build(source, clean)) == len(PAGES)
    found, wanted = contents(out / "html"), contents(clean / "html")
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []
    return written


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    write_sources(folder)
    return folder


def test_a_book_built_again_is_the_book_built_from_nothing(source, tmp_path):
    """Words, a section, a citation and a term; then captions, numbers and files that others show."""
    out = tmp_path / "out"
    assert len(build(source, out)) == len(PAGES)
    edit(
        source / "chapters" / "first.md",
        ("Words that nobody else says: aardvark.", "Other words, {term}`key`.\n\n## New\n\nText."),
        ("Cited: {cite:t}`someone`.", "No longer cited."),
    )
    written = both(source, out)
    assert {"chapters/first", "index"} <= set(written)
    assert not {"chapters/third", "glossary", "bibliography"} & set(written)
    assert "aardvark" not in (out / "html" / "searchindex.js").read_text()

    again = "```{figure} ../figures/a.png\n:alt: a\n:name: fig-new\n\nA figure before it.\n```\n\n"
    edit(
        source / "chapters" / "second.md",
        ("# Second\n\n", f"# Second\n\n{again}"),
        ("## Below", "## The lower one"),
        (":label: sum", ":label: total"),
    )
    edit(source / "chapters" / "first.md", ("{eq}`sum`", "{eq}`total`"))
    (source / "numbers.json").write_text("[2]")
    Image.new("RGB", (2, 2), (9, 9, 9)).save(source / "figures" / "a.png")
    written = both(source, out)
    assert "chapters/third" not in written and "chapters/first" in written
    assert "Fig. 2" in (out / "html" / "chapters" / "first.html").read_text()

    edit(source / "chapters" / "third.md", ("# Third", "# The third"))
    assert len(both(source, out)) == len(PAGES)  # its title is in the contents of all
