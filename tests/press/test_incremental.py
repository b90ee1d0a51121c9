"""A book of which little has changed is built quickly, and is the book that a build from nothing gives."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from memgen.config.base import ROOT
from memgen.config.sources import strays
from press import build as build_module
from press.build import build_pages
from press.errors import BookError
from press.kept_build import DOCTREES, RECORD, digests, find, keep
from press.run import Run
from press.staged import settle

#: a book as small as the book of a study is large, with whatever a page may show of another
PAGES = {
    "index": "# Home\n\n{doc}`chapters/first`, [a section](chapters/first.md#deep-down), {term}`rule`.\n",
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
def source(tmp_path, monkeypatch) -> Path:
    """With Python as it is where nobody asks it to leave no compiled code beside what it loads."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in ("memgen_pages", "memgen_accessible"):
        monkeypatch.delitem(sys.modules, name, raising=False)
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
    # it lists what is cited; the second page leads to the first one
    assert {"chapters/first", "bibliography", "index"} <= set(written)
    assert not {"chapters/third", "glossary"} & set(written)
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

    (source / "numbers.json.md5").write_text("of no page")
    assert both(source, out) == ["index"]
    edit(source / "chapters" / "third.md", ("# Third", "# The third"))
    assert len(both(source, out)) == len(PAGES)  # its title is in the contents of all


def test_a_mistake_leaves_the_book_and_what_it_was_built_from(source, tmp_path):
    out = tmp_path / "out"
    build(source, out)
    before = contents(out / "html")
    edit(source / "chapters" / "third.md", ("Nothing of others.", "{term}`no such term`"))
    with pytest.raises(BookError, match="no such term"):
        build(source, out)
    assert contents(out / "html") == before
    edit(source / "chapters" / "third.md", ("{term}`no such term`", "{term}`rule`"))
    assert set(build(source, out)) == {"chapters/third", "index"}
    # what others show of a page is gone: they are written again, and warn
    edit(
        source / "chapters" / "second.md",
        ("(below)=\n", ""),
        ("{ref}`the one below <below>`", "it"),
    )
    edit(source / "chapters" / "second.md", (":name: fig-b\n", ""))
    with pytest.raises(BookError, match="first.*fig-b"):
        build(source, out)


# -- what a build leaves for the next one --------------------------------------------------------------
@pytest.fixture
def left(tmp_path) -> Path:
    """A book's folder as a build leaves it."""
    out = tmp_path / "out"
    for place in (f"{DOCTREES}/chapters/first.doctree", "html/index.html", "html/_static/a.css"):
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        (out / place).write_text(place)
    keep(out / DOCTREES, out / "html", {"_config.yml": "1", "chapters/first.md": "1"}, "tools")
    return out


NOW = {"_config.yml": "1", "chapters/first.md": "2"}


def test_what_a_build_left_is_where_the_next_one_begins(left):
    kept = find(left, NOW, "tools")
    assert kept is not None and kept.changed == ["chapters/first.md"]
    assert find(left, NOW, "tools") == kept  # asked again, it is there


def test_pickles_that_this_build_did_not_write_here_are_never_loaded(left, tmp_path):
    """Copied or unpacked they have another inode and time of change, whatever the record says."""
    shutil.copytree(left, tmp_path / "copied")  # with the times of the files
    assert find(tmp_path / "copied", NOW, "tools") is None
    assert not (tmp_path / "copied" / DOCTREES).exists()
    path = left / DOCTREES / "chapters" / "first.doctree"
    about = path.stat()
    path.write_text("another".ljust(about.st_size)[: about.st_size])
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert find(left, NOW, "tools") is None and not (left / DOCTREES).exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda left: (left / DOCTREES / "more.doctree").touch(),
        lambda left: (left / DOCTREES / "chapters" / "first.doctree").unlink(),
        lambda left: (left / DOCTREES / RECORD).write_text("{"),
        lambda left: (left / "html" / "index.html").write_text("edited by hand"),
        lambda left: shutil.rmtree(left / "html"),
    ],
    ids=["one more", "one fewer", "no record", "a page edited", "no book"],
)
def test_a_build_begins_anew_where_anything_is_not_as_it_was_left(left, change):
    change(left)
    assert find(left, NOW, "tools") is None


@pytest.mark.parametrize("name", ["_config.yml", "_static/book.css", "_toc.yml", "references.bib"])
def test_a_build_begins_anew_after_a_change_that_every_page_shows(left, name):
    assert find(left, NOW | {name: "2"}, "tools") is None


def test_a_build_begins_anew_with_other_tools(left):
    assert find(left, NOW, "other tools") is None


# -- staging -------------------------------------------------------------------------------------------
def test_staged_files_of_the_same_bytes_keep_their_times(tmp_path):
    fresh, source = tmp_path / "fresh", tmp_path / "source"
    for folder, files in ((source, "abcd"), (fresh, "abe")):
        (folder / "in").mkdir(parents=True)
        for name in files:
            (folder / "in" / name).write_text(name)
    (fresh / "in" / "b").write_text("changed")
    (source / "gone").mkdir()
    before = {path.name: path.stat().st_mtime_ns for path in (source / "in").iterdir()}
    settle(fresh, source, {"in/c"})
    assert sorted(path.name for path in (source / "in").iterdir()) == ["a", "b", "c", "e"]
    assert (source / "in" / "a").stat().st_mtime_ns == before["a"]
    assert (source / "in" / "b").read_text() == "changed"
    assert not fresh.exists() and not (source / "gone").exists()


@pytest.fixture
def light(root) -> Path:
    """Sources of a book that draw no figure of their own."""
    for name in ("real", "performance", "arms"):
        shutil.rmtree(root / "data" / "reference" / name)
    return root


def test_only_what_has_changed_is_staged_anew(run, light, tmp_path, monkeypatch):
    """After a change of prose, that page; of a result, that lab's page and all prose: as from nothing."""
    shown = []
    made = build_module.lab_page
    monkeypatch.setattr(
        build_module, "lab_page", lambda lab, of: shown.append(lab.page) or made(lab, of)
    )

    def staged(place: str) -> dict[str, str]:
        (tmp_path / place).mkdir(exist_ok=True)
        build_module.stage(Run(run), light, tmp_path / place / "source")
        return digests(tmp_path / place / "source")

    first = staged("out")
    assert len(shown) == len(set(shown)) > 10
    shown.clear()
    intro = light / "book" / "intro.md"
    intro.write_text(intro.read_text() + "\nOne sentence more, of {{ preset }}.\n")
    second = staged("out")
    assert not shown
    assert [name for name in second if second[name] != first.get(name)] == ["intro.md"]
    (tmp_path / "out" / "source" / "claims.json").unlink()
    (tmp_path / "out" / "source" / "quizzes").mkdir()
    (tmp_path / "out" / "source" / "quizzes" / "left.yaml").write_text("by somebody")
    assert staged("out") == second and not shown
    path = run / "inference" / "seed0" / "06_intervention" / "result.json"
    path.write_text(path.read_text().replace('"alpha": 2.0', '"alpha": 3.0'))
    third = staged("out")
    assert shown == ["labs/06_intervention/inference-seed0"]
    assert third == staged("clean") and len(third) == len(first)
