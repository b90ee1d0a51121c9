"""What a reader meets: terms where they are defined, short sentences, our words; the time a page takes."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from os.path import normpath
from pathlib import Path

import pytest
import yaml
from fake_run import make_run
from reading_checks import LONGEST, form, sentences, terms, too_long, undefined, unwanted

from memgen.config.base import ROOT
from press.words import AWAITED, PER_MINUTE, count, minutes, prose, timed

BOOK = ROOT / "book"
CHAPTERS = sorted(path.name for path in (BOOK / "chapters").glob("*.md"))
#: from home through the question to the last chapter
PATH = ["index.md", "intro.md", *(f"chapters/{name}" for name in CHAPTERS)]
OF_USE = ["live.md", "adapters.md", "your_model.md"]
PAGES = [*PATH, *OF_USE, "ledger.md", "results.md", "tables.md", "recipe_history.md", "scale.md"]
#: words of the chapters that were halved, before that, rendered as below
BEFORE = json.loads((ROOT / "tests/press/words_before.json").read_text(encoding="utf8"))


def template(page: str) -> str:
    return (BOOK / page).read_text(encoding="utf8")


# -- the book ----------------------------------------------------------------------------------------
def test_no_term_is_used_before_its_definition_on_the_way_through_the_book():
    assert undefined({page: template(page) for page in PATH}, template("glossary.md")) == []


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short_and_words_are_ours(page):
    assert too_long(template(page)) == []
    assert unwanted(template(page)) == []


def test_chapters_are_as_long_as_was_said_and_say_how_long(tmp_path, notebook, rendered):
    """Each chapter tells its reading time, and it is that of the page as it was rendered."""
    tasks = ["arithmetic-tagged", "arithmetic-matched", "inference"]
    chapters = {f"chapters/{name}" for name in [*CHAPTERS, *BEFORE]}
    pages = rendered(make_run(tmp_path / "runs", tasks, [0, 1], notebook), only=chapters)
    for name in CHAPTERS:
        page = pages[f"chapters/{name}"]
        assert f"**Reading** about {minutes(page)} min" in page, name
        assert AWAITED not in page
    now = {name: count(pages[f"chapters/{name}"]) for name in BEFORE}
    assert sum(now.values()) <= 0.6 * sum(BEFORE.values()), now


def test_each_page_of_the_evidence_leads_to_the_next():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    (part,) = (part for part in toc["parts"] if part["caption"] == "The evidence")
    files = [one["file"] for one in part["chapters"]]
    for here, there in pairwise(files):
        (next_,) = re.findall(r"^Next: \[[^\]]+\]\(([^)#]+)", template(f"{here}.md"), re.M)
        assert normpath(Path(here).parent / next_) == f"{there}.md", here


# -- the checks find what is planted ------------------------------------------------------------------
GLOSSARY = """# Glossary

:::{glossary}
key
  The part of a prompt that was drilled.

AUC
  An area.

residual stream
  A vector.
:::
"""


@pytest.mark.parametrize(
    "first, found",
    [
        ("A {term}`key` is drilled. The key stays.", []),
        ("Some {term}`keys <key>` are drilled.", []),
        ("A *key* is what was drilled; every key stays.", []),
        ("No such word, and `key` in code is none. Monkeys are none.", []),
        ("## The key\n\nA heading names, [a link to keys](x.md) leads.", []),
        ("```python\nkey = 1\n```\n\n{{ key }} {% if key %}{% endif %}", []),
        ("The keys stay. A {term}`key` is drilled.", ["key"]),
        ("| a | b |\n|---|---|\n| a key | b |", ["key"]),
        ("The auc is no term, the AUC is.", ["AUC"]),
        ("A residual\nstream runs.", ["residual stream"]),
        ("{% if x %}A key in a branch.{% endif %}", ["key"]),
        ("A {term}`probe <key>` and a {term}`residual stream` and an AUC", ["AUC"]),
    ],
)
def test_a_term_before_its_definition_is_found(first, found):
    said = undefined({"one.md": first, "two.md": "The key, the AUC: {term}`AUC`."}, GLOSSARY)
    late = [one for one in said if one.startswith("one.md")]
    assert [one.split(": ")[1] for one in late] == found


def test_the_page_before_counts():
    path = {"one.md": "A {term}`key` and an {term}`AUC`.", "two.md": "A key. The AUC."}
    assert undefined(path, GLOSSARY) == []
    assert len(undefined(dict(reversed(path.items())), GLOSSARY)) == 2


def test_terms_and_their_forms():
    assert terms(GLOSSARY) == ["key", "AUC", "residual stream"]
    assert form("key").search("Two Keys") and not form("key").search("keyed")
    assert form("wavy").search("wavies") and not form("AUC").search("auc")


def test_a_long_sentence_is_found_and_a_list_is_none():
    long = " ".join(["word"] * (LONGEST + 1))
    assert too_long(f"Short. {long}.") == [f"{LONGEST + 1} words: {long}."]
    assert too_long(f"{long[5:]}: {long[5:]}; and more.\n\n- {long[5:]}\n- {long[5:]}") == []
    assert too_long(f"| {long} |\n\n```python\n{long}\n```\n\n$$\n{long}\n$$ (eq-x)") == []
    assert list(sentences("One, {{ two }}. *Three*?\nFour:\nfive.")) == [
        "One, 0.",
        "*Three*?",
        "Four:",
        "five.",
    ]


@pytest.mark.parametrize(
    "said",
    [
        "It was foretold.",
        "as told below",
        "three prompts a key",
        "Two seconds\na run",
        "Of course it holds.",
        "In order to see",
        "x\n\n| task | changed prompts a prompt |",
    ],
)
def test_an_unwanted_word_is_found(said):
    assert len(unwanted(f"Before. {said}")) == 1
    assert unwanted("3 prompts per key. `of course` is code? No: told. A course.")[1:] == []


# -- words and minutes --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "page, words",
    [
        ("# One two\n\nThree *four*, {term}`five six <seven>`.", 6),
        ("[one two](three.md#four) {cite:p}`five,six` {eq}`seven` $x$", 3),
        ("```python\nnothing = 1\n```\n\n| no | words |\n\none", 1),
        ("```{margin}\none two\n```\n\n```{figure} x.png\n:alt: no words\n\nthree\n```", 3),
        (":::{admonition} One two\n:class: before\nthree\n:::\n", 3),
        ('```{raw} html\n<p class="no">one</p><p>two</p>\n```', 2),
        ('<span data-source="a b c" data-how="d">88\u00a0%</span> of two', 3),
        ("$$\na = b\n$$ (eq-no)\n\none", 1),
    ],
)
def test_words_of_prose_are_counted(page, words):
    assert count(page) == words, prose(page)


def test_a_reading_time_is_that_of_the_whole_page():
    page = f"**Reading** {AWAITED}\n\n" + "word " * (2 * PER_MINUTE)
    assert minutes("one") == 1 and minutes(page) == 3
    assert "**Reading** about 3 min\n" in timed(page) and AWAITED not in timed(page)
    assert re.search("word", timed("word")) and timed("word") == "word"
