"""What a reader trips over: a term before its definition, a sentence too long, a word of our list.

Templates are read, not rendered pages, so that every branch of a page is looked at and a finding has a
place in a file that can be mended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from press.words import prose

LONGEST = 36
#: `[pattern, what to write instead]`, as textlint's rule `terminology` reads it, too
WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf8"))
#: terms that are plain English as well: only as a term do they need their definition, and what is
#: a term is then for the reader to see
EVERYDAY = ("other", "unit", "control", "setting", "margin", "null", "cell", "site", "gain", "lab")

_JINJA = re.compile(r"\{#.*?#\}|\{%.*?%\}", re.DOTALL)
_VALUE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_ROLE = re.compile(r"\{term\}`([^`<]*?)\s*(?:<([^`>]*)>)?`", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![*\w])\*{1,2}([^*\n]+)\*{1,2}(?!\w)")
_BREAK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|\n(?=#)")
_END = re.compile(r"""(?<=[.?!:;])["*)]*\s+""")
_HEADING = re.compile(r"^#.*$", re.MULTILINE)
_ROW = re.compile(r"^[ \t]*\|", re.MULTILINE)  # so that a table is read as well
_LINK = re.compile(r"\[[^\]]*\]\([^)\s]*\)")


def bare(template: str) -> str:
    """A template as a reader would see it: without decisions, a 0 for each number."""
    return _VALUE.sub("0", _JINJA.sub("", template))


def sentences(template: str) -> Iterator[str]:
    """The sentences of a page; what stands behind a colon or a semicolon is one of its own."""
    for paragraph in _BREAK.split(prose(bare(template))):
        yield from _END.split(" ".join(paragraph.split()))


def too_long(template: str) -> list[str]:
    """The sentences of more than `LONGEST` words, each with its number of words in front."""
    counted = [(len(re.findall(r"\S*\w\S*", one)), one) for one in sentences(template)]
    return [f"{n} words: {one}" for n, one in counted if n > LONGEST]


def rows(template: str) -> list[str]:
    """The rows of a page's tables, whose heads are words, too."""
    return [line for line in bare(template).splitlines() if _ROW.match(line)]


def unwanted(template: str) -> list[str]:
    """What our list of words would have otherwise: `foretold: predicted`."""
    return [
        f"{found[0]}: {instead}"
        for one in (*sentences(template), *rows(template))
        for pattern, instead in WORDS
        for found in re.finditer(rf"\b(?:{pattern})\b", one, re.IGNORECASE)
    ]


def terms(glossary: str) -> list[str]:
    """The terms of the glossary, in its order."""
    _, _, body = glossary.partition(":::{glossary}\n")
    lines = body.partition("\n:::")[0].splitlines()
    return [line for line in lines if line and not line.startswith(" ")]


def form(term: str) -> re.Pattern:
    """A term as text writes it: with its plural; capital letters count where they belong to it."""
    many = re.search("[^aeiou]y$", term)
    plural = rf"{re.escape(term[:-1])}(?:y|ies)" if many else rf"{re.escape(term)}s?"
    written = re.sub(r"(\\ |-)", r"[\\s-]+", plural)
    return re.compile(rf"(?<![\w`-]){written}(?![\w-])", 0 if term != term.lower() else re.I)


def undefined(path: dict[str, str], glossary: str) -> list[str]:
    """Terms that a reader of these pages, in this order, meets before a way to their definition.

    `path`: templates by name. A first use is fine as a `{term}` role, which leads to the definition,
    or emphasised (`*term*`), which is how a page defines one in place.
    """
    found = []
    for term in terms(glossary):
        if term in EVERYDAY or " and " in term:
            continue
        for page, template in path.items():
            text = _readable(template, term)
            use = form(term).search(text)
            defined = text.find("\ue001")
            if use and not 0 <= defined < use.start():
                before = " ".join(text[max(0, use.start() - 60) : use.end() + 20].split())
                found.append(f"{page}: {term}: ...{before}...")
            if use or defined >= 0:
                break
    return found


def _readable(template: str, term: str) -> str:
    """The prose of a page, a mark where it leads to this term's definition or defines it itself."""

    def marked(found: re.Match) -> str:
        named = " ".join((found[2] or found[1]).split())
        return " \ue001 " if named == term else " "

    def emphasised(found: re.Match) -> str:
        return " \ue001 " if form(term).fullmatch(found[1].strip(" .,:;")) else found[0]

    text = _ROLE.sub(marked, bare(template))
    text = _EMPHASIS.sub(emphasised, text)
    return prose(_ROW.sub("", _LINK.sub(" ", _HEADING.sub("", text))))
