"""How many words of prose a page has, and how long they take to read.

What counts is the text that a reader goes through from top to bottom: sentences, headings, captions,
the quiz. Code, tables, displayed formulas, citations and the texts that stand for pictures do not.
"""

from __future__ import annotations

import math
import re

#: of a text with formulas and figures; of easy non-fiction a grown-up reads about 240 (Brysbaert
#: 2019, doi:10.1016/j.jml.2019.104047)
PER_MINUTE = 150
#: what a template writes where its page's reading time shall stand, until the page is whole
AWAITED = "\ue000reading time\ue000"

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<what>[^\n`]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.M | re.S
)
_GONE = re.compile(
    r"<!--[\s\S]*?-->"
    r"|\$\$[\s\S]*?\$\$(?:[ \t]*\([\w-]+\))?"  # a displayed formula with its label
    r"|^[ \t]*\|.*$"  # a row of a table
    r"|^:[\w-]+:.*$"  # an option of a directive, such as the words for a picture
    r"|^[ \t]*\([\w-]+\)=[ \t]*$"  # a place that links lead to
    r"|^[ \t]*:{3,}(?:\{[^}\n]*\})?",  # where a box begins or ends; its title stays
    re.M,
)
_SILENT = re.compile(r"\{(?:cite|eq|ref|numref)[\w:]*\}`[^`]*`|!\[[^\]]*\]\([^)]*\)")
_ROLE = re.compile(r"\{[\w:-]+\}`([^`<]*?)\s*(?:<[^`>]*>)?`")
_LINK = re.compile(r"\[([^\]]*)\]\([^)\s]*\)")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_WORD = re.compile(r"\S*\w\S*")


def prose(page: str) -> str:
    """The text of a page in MyST that is prose, its marks of links, roles and tags taken away."""
    text = _FENCE.sub(_of_fence, page)
    for pattern in (_GONE, _SILENT):
        text = pattern.sub("", text)
    text = _TAG.sub("", text)  # what tells an origin begins in the middle of a word
    for pattern in (_ROLE, _LINK):
        text = pattern.sub(lambda found: found[1], text)
    return text.replace("\u00a0", " ")


def _of_fence(found: re.Match) -> str:
    """Of a fenced block: nothing of code, the body of a directive that holds text."""
    what = found["what"].strip()
    if what.startswith("{raw}"):
        return found["body"].replace("<", " <")  # tags there stand between words
    return found["body"] if what.startswith(("{margin}", "{figure}", "{admonition}")) else ""


def count(page: str) -> int:
    """How many words of prose a page has."""
    return len(_WORD.findall(prose(page)))


def minutes(page: str) -> int:
    """About how many minutes they take, at least one."""
    return max(1, math.ceil(count(page) / PER_MINUTE))


def timed(page: str) -> str:
    """The page, with its reading time where its template asked for it."""
    if AWAITED not in page:
        return page
    taken = minutes(page.replace(AWAITED, "about 1 min"))
    return page.replace(AWAITED, f"about {taken} min")
