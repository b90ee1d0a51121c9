"""One number, one definition: which quantity a printed number is, and where two prints of it differ.

A number of the book stands in a span that says where it comes from and what was made of it
(`press.origin`). From that a number gets the name of its quantity; two sources of one quantity
(:data:`SAME`) have one name, two definitions of what sounds alike (:data:`DEFINITIONS`) have two, and a
page that prints one of those says which.
"""

from __future__ import annotations

import html
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bs4 import BeautifulSoup, Tag
from checks import page, pages

SPAN = re.compile(r'<span data-source="(.*?)" data-how="(.*?)">(.*?)</span>', re.DOTALL)
#: writers of `press.numbers` whose text is a value, with what a unit of the text is worth
WRITERS = {"percent": 0.01, "per_cent": 0.01, "decimal": 1.0}
_WRITTEN = re.compile(r"(\w+)\((.*?)(?:, \d+)?\)", re.DOTALL)
_HUNDRED = re.compile(r"\(100 \* (.*)\)", re.DOTALL)
#: what the mean (least, greatest) of a single value is
_ONE = re.compile(r"(?:mean|min|max)\(x\)")
_NUMBER = re.compile(r"−?\d[\d\u00a0]*(?:\.(\d+))?")

_STUDY, _RUN = r"study/all/08_synthesis", r"(?P<task>[\w-]+)/seed\S+"
_WHERE = rf"{_STUDY}/steering\.json#/(?P<task>[\w-]+)/(?P<d>m2g|g2m)/"
_OVER = rf"{_STUDY}/result\.json#/over_seeds/(?P<task>[\w-]+)/"
_STEERED = rf"{_RUN}/06_intervention/result\.json#/(?P<d>m2g|g2m)"
#: `[name of the quantity, the way to its source, what is made of it]`. Where two rows have one name,
#: two files hold one quantity.
SAME = (
    ("success of {kind} within the limit", rf"{_WHERE}(?P<kind>\w+)/success", "x[0]"),
    ("success of steered within the limit", rf"{_OVER}(?P<d>m2g|g2m)/value", "x[0]"),
    ("{end} of steered within the limit", rf"{_WHERE}steered/(?P<end>low|high)", "x[0]"),
    ("{end} of steered within the limit", rf"{_OVER}(?P<d>m2g|g2m)/(?P<end>low|high)", "x[0]"),
    ("prompts of steered", rf"{_WHERE}steered/n", "x[0]"),
    ("prompts of steered", rf"{_OVER}(?P<d>m2g|g2m)/n", "x[0]"),
    ("AUC of the best layer", rf"{_OVER}auc/value", "x[0]"),
    ("AUC of the best layer", rf"{_RUN}/05_prediction/result\.json#/best_auc", "mean(x)"),
    ("rate of {kind}", rf"{_OVER}(?P<kind>memory|rule)/value", "x[0]"),
    ("rate of {kind}", rf"{_RUN}/02_training/result\.json#/(?P<kind>memory|rule)_rate", "mean(x)"),
    ("success as run", rf"{_STEERED}/success", "mean(x)"),
    ("success of {kind} as run", rf"{_STEERED}/controls/(?P<kind>\w+)", "mean(x)"),
    ("success at max", rf"{_STEERED}/max/success", "mean(x)"),
    ("{what} as run", rf"{_STEERED}/(?P<what>free_accuracy_after|other)", "mean(x)"),
    ("{what} at max", rf"{_STEERED}/max/(?P<what>free_accuracy_after|other)", "mean(x)"),
    ("{what} of kept", rf"{_STEERED}/kept/(?P<what>free_accuracy_after|other)", "mean(x)"),
)
#: the numbers of home's headline are numbers of steering.json
HEADLINE = {
    "rate": ("steered", "success"),
    "low": ("steered", "low"),
    "high": ("steered", "high"),
    "n": ("steered", "n"),
}
#: what ends the name of a quantity that has a sister -> what its page has to say of it
DEFINITIONS = {
    "within the limit": r"within (?:the|a|its) limit|stays within",
    "as run": r"as run|that was run|cell that is run",
    "at max": r"\bmax\b|whatever it costs",
    "of kept": r"\bkept\b|within the limit",
}


#: the parts of a page that say what a number is
SAYING = ("p", "li", "h1", "h2", "h3", "summary", "figcaption")


class Printed(NamedTuple):
    """A number on a page. `quantity`: its name; `text` as printed, `unit`: what a 1 in it is worth."""

    page: str
    quantity: str
    text: str
    unit: float | None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Between which values the number lies, if its text was rounded; None of no plain number."""
        found = _NUMBER.fullmatch(self.text.removesuffix("%").strip("\u00a0 "))
        if self.unit is None or not found:
            return None
        value = float(found[0].replace("\u00a0", "").replace("−", "-"))
        half = 0.5000001 * 10.0 ** -len(found[1] or "")
        return self.unit * (value - half), self.unit * (value + half)

    def agrees(self, other: Printed) -> bool:
        """Can both be roundings of one value?"""
        mine, its = self.ends, other.ends
        if mine is None or its is None:
            return self.text == other.text
        return mine[0] <= its[1] and its[0] <= mine[1]


def every(source: str) -> list[str]:
    """The addresses of a `data-source`: `seed{23,24}/...` stands for two."""
    found = []
    for one in source.split():
        parts = re.split("{(.*?)}", one)
        found += map("".join, itertools.product(*(part.split(",") for part in parts)))
    return found


def named(source: str, how: str, headline: Mapping = {}) -> tuple[str, float | None]:
    """The name of a number's quantity, and what a unit of its text is worth (None: it is no value).

    `headline`: the `headline_number` of the study, whose task its addresses do not say.
    """
    unit, made = None, how
    if re.fullmatch(r"x\[0\]", how):
        unit = 1.0
    elif (found := _WRITTEN.fullmatch(how)) and found[1] in WRITERS:
        unit, made = WRITERS[found[1]], found[2]
        if hundred := _HUNDRED.fullmatch(made):
            unit, made = unit / 100, hundred[1]
    source = _of_headline(source, headline)
    single = len(every(source)) == 1
    if single and _ONE.fullmatch(made):
        made = "x[0]"
    for name, way, wanted in SAME:
        track, _, rest = source.rpartition("lora/")
        found = re.fullmatch(way, rest)
        if found and made in (wanted, "x[0]" if single and "seed" in rest else wanted):
            parts = found.groupdict()
            where = " ".join(
                filter(None, (track + "lora" * bool(_), parts["task"], parts.get("d")))
            )
            seeds = " ".join(re.findall(r"seed\d+", rest)) if made == "x[0]" else ""
            return f"{name.format(**parts)}: {where} {seeds}".strip(), unit
    return f"{made} of {source}", unit


def _of_headline(source: str, headline: Mapping) -> str:
    """The address of a number of home's headline as that of the same number in steering.json."""
    way, _, key = source.partition("#/headline_number/")
    kind, what = HEADLINE.get(key, (key.removeprefix("controls/"), "success"))
    if not headline or not (key in HEADLINE or key.startswith("controls/")):
        return source
    place = f"{headline['task']}/{headline['direction']}/{kind}/{what}"
    return f"{way.removesuffix('result.json')}steering.json#/{place}"


def printed(texts: Mapping[str, str], headline: Mapping = {}) -> Iterator[Printed]:
    """All numbers with an origin on these pages (HTML or Markdown, by name)."""
    for name, text in texts.items():
        for found in SPAN.finditer(text):
            source, how, shown = map(html.unescape, found.groups())
            yield Printed(name, *_around(named(source, how, headline), shown))


def _around(name: tuple[str, float | None], shown: str) -> tuple[str, str, float | None]:
    return name[0], shown, name[1]


def differing(numbers: Iterable[Printed]) -> list[str]:
    """Quantities that are printed with different values, each with two of the places."""
    found, first = [], defaultdict(list)
    for one in numbers:
        others = first[one.quantity]
        if all(one.agrees(other) for other in others):
            others.append(one)
            continue
        other = next(other for other in others if not one.agrees(other))
        found.append(f"{one.quantity}: {other.text} on {other.page}, {one.text} on {one.page}")
    return found


# -- two definitions of what sounds alike ----------------------------------------------------------
def prose_pages(book: Path) -> dict[str, str]:
    """The pages of a built book that are no executed labs, by name."""
    return {
        path.relative_to(book).as_posix(): path.read_text(encoding="utf8")
        for path in pages(book)
        if "labs" not in path.relative_to(book).parts
    }


def unsaid(book: Path, names: Iterable[str]) -> list[str]:
    """Numbers with a sister of another definition whose page does not say which of them it prints."""
    found = []
    for name in names:
        found += [f"{name}: {one}" for one in unsaid_on(page(book / name))]
    return found


def unsaid_on(soup: BeautifulSoup) -> list[str]:
    """The same of one page: the words have to stand in the section before the number, or in the head
    of its column.
    """
    found = []
    for tag in soup.select("span[data-source]"):
        name, _ = named(tag["data-source"], tag["data-how"])
        ending = next((e for e in DEFINITIONS if name.partition(":")[0].endswith(e)), None)
        if ending and not re.search(DEFINITIONS[ending], said_of(tag)):
            found.append(f"{tag.get_text()} is {name}, and its section does not say {ending!r}")
    return list(dict.fromkeys(found))


def said_of(tag: Tag) -> str:
    """What a reader has read of a number: the head of its column, and its section up to its block."""
    cell, section = tag.find_parent(["td", "th"]), tag.find_parent("section")
    said = []
    if cell is not None and (table := cell.find_parent("table")).thead is not None:
        heads = table.thead.find_all("th")
        place = len(cell.find_previous_siblings(["td", "th"]))
        said += [heads[place].get_text(" ")] if place < len(heads) else []
    block = tag.find_parent("table") or tag.find_parent(["p", "li"]) or tag
    section = tag.find_parent("section")
    if section is not None and section.find("h3", recursive=False):
        section = section.find_parent("section") or section
    parts = section.find_all(SAYING) if section is not None else []
    said += [part.get_text(" ") for part in parts if not _after(part, block)]
    return " ".join(" ".join(said).split())


def _after(part: Tag, block: Tag) -> bool:
    """Does a part of a page begin after a block?"""
    return (part.sourceline, part.sourcepos) > (block.sourceline, block.sourcepos)
