"""The book as one HTML page, to be printed: the articles of its pages behind each other.

Names of places get the number of their page in front, and links between pages stay inside. What
paper cannot hold (buttons, scripts, the live model) is left out, what is folded is unfolded.
`book/_static/print.css` says how it looks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from posixpath import join, normpath
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, SoupStrainer, Tag

from press.errors import PrintError

PRINTED_LABS = ("all", "first", "none")
#: attributes that name a place of their own page
NAMES = ("id", "name", "for", "aria-labelledby", "aria-describedby", "aria-controls")
#: not for paper
DROPPED = "script, button, canvas, input, select, textarea, a.headerlink"
#: all of a page that the printed book is made from
KEPT = SoupStrainer(["title", "link", "script", "article"])
MATHJAX = '<script defer src="_static/mathjax/tex-chtml.js"></script>'


@dataclass(frozen=True)
class Leaf:
    """A page: `name` is its path without suffix, `depth` its place in the contents (1: chapter)."""

    name: str
    depth: int
    part: str = ""

    @property
    def is_lab(self) -> bool:
        return self.name.startswith("labs/")

    @property
    def file(self) -> str:
        return f"{self.name}.html"


def contents(html: Path) -> list[Leaf]:
    """Every page of the book in reading order, from the contents that it was built with."""
    if not (html / "index.html").is_file():
        raise PrintError(f"no book in {html}: build it first with `make book`")
    toc = html.parent / "source" / "_toc.yml"
    try:
        toc = yaml.safe_load(toc.read_text(encoding="utf8"))
    except OSError:
        raise PrintError(
            f"{toc}, the contents of the book, is missing: build the book again with `make book`"
        ) from None
    leaves = [Leaf(toc["root"], 1)]

    def add(entries: list[dict], depth: int, part: str) -> None:
        for entry in entries:
            leaves.append(Leaf(entry["file"], depth, part))
            add(entry.get("sections", []), depth + 1, part)

    for part in toc["parts"]:
        add(part["chapters"], 1, part["caption"])
    return leaves


def chosen(leaves: list[Leaf], labs: str) -> list[Leaf]:
    """The pages to print; a later seed of a lab lies below the first seed's, deeper than 2."""
    return [
        leaf
        for leaf in leaves
        if not leaf.is_lab or labs == "all" or (labs == "first" and leaf.depth <= 2)
    ]


def assemble(html: Path, leaves: list[Leaf]) -> str:
    """One HTML page: title, contents, and the article of every page of the book."""
    places = {leaf.file: f"p{number}" for number, leaf in enumerate(leaves)}
    titles, articles, rules, settings, head = {}, [], [], "", []
    for leaf in leaves:
        page = parsed((html / leaf.file).read_text(encoding="utf8"))
        if page.article is None:
            raise PrintError(
                f"{leaf.file} has no article: was it built by another version? Build the book"
                " again with `make book`"
            )
        if leaf.name == "index":
            title = escape(page.title.get_text().strip())
            head = [f"<title>{title}</title>", *map(str, page("link", rel="stylesheet"))]
        settings = settings or next(filter(_sets_mathjax, map(str, page("script"))), "")
        place = places[leaf.file]
        titles[leaf] = adapt(page.article, leaf, places)
        rules.append(
            f".{place} {{ page: {place}; }} @page {place} {{ @top-right {{ content:"
            f" {quoted(titles[leaf])}; }} }}"
        )
        articles.append(
            f'<article class="bd-article printed {place}" id="{place}">'
            f"{page.article.decode_contents()}</article>"
        )
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light">',
            '<head><meta charset="utf-8">',
            *head,
            f"<style>{' '.join(rules)}</style>",
            settings,
            f"{MATHJAX}</head>",
            '<body><div class="bd-content"><main class="printed-book">',
            articles[0],
            table_of_contents(leaves[1:], titles, places),
            *articles[1:],
            "</main></div></body></html>",
        ]
    )


def _sets_mathjax(script: str) -> bool:
    return script.startswith("<script>window.MathJax = ")


def parsed(page: str) -> BeautifulSoup:
    """The parts of a page that `assemble` asks for; an attribute is one string, also `class`."""
    return BeautifulSoup(page, "html.parser", parse_only=KEPT, multi_valued_attributes=None)


def table_of_contents(leaves: list[Leaf], titles: dict[Leaf, str], places: dict[str, str]) -> str:
    """The contents behind the title page: links, indented by depth, below their parts' captions."""
    lines = ['<nav class="bd-article printed printed-contents">']
    lines.append('<p class="printed-heading">Contents</p>')
    part = None
    for leaf in leaves:
        if leaf.part != part:
            part = leaf.part
            lines.append(f'<p class="printed-part">{escape(part)}</p>')
        lines.append(
            f'<p class="printed-entry depth-{leaf.depth}"><a href="#{places[leaf.file]}">'
            f'<span>{escape(titles[leaf])}</span><span class="printed-sheet"></span></a></p>'
        )
    return "\n".join([*lines, "</nav>"])


def quoted(text: str) -> str:
    """A string of a style sheet."""
    return '"' + re.sub(r'(["\\<])', lambda m: f"\\{ord(m[1]):x} ", text) + '"'


def adapt(article: Tag, leaf: Leaf, places: dict[str, str]) -> str:
    """Turn the article of a page into a section of the printed book; returns its first heading.

    `places`: the sections' names, by the pages' files as seen from the book's root.
    """
    for tag in article.select(DROPPED):
        tag.extract()
    title = " ".join(article.h1.get_text().split()) if article.h1 else ""
    for tag in article(re.compile("^h[1-6]$")):  # smaller, the deeper the page lies
        tag.name = f"h{min(int(tag.name[1]) + leaf.depth - 1, 6)}"
    for tag in article("noscript"):
        tag.name = "div"
    for tag in article("details"):
        tag["open"] = ""
    for tag in article("figure"):
        tag["role"] = "group"  # a PDF would have it as one more figure, without a text of its own
    addresses = Addresses(leaf, places, styled_by_pandas(article))
    for tag in article(True):
        tag.attrs = addresses.of(tag)
    return title or leaf.name


def styled_by_pandas(article: Tag) -> tuple[str, ...]:
    """The names by which style sheets in the article, those of pandas, find their tables."""
    styles = "".join(style.get_text() for style in article("style"))
    return tuple(set(re.findall(r"#(T_\w+?)(?=[ _{,:])", styles)))


@dataclass(frozen=True)
class Addresses:
    """Names and addresses of a page as printed; names that begin with one of `kept` stay."""

    leaf: Leaf
    places: dict[str, str]
    kept: tuple[str, ...]

    def of(self, tag: Tag) -> dict[str, str]:
        """The attributes of a tag, rewritten."""
        found = {}
        for name, value in tag.attrs.items():
            if name in ("src", "srcset") and not urlsplit(value).scheme:
                value = self._from_root(value)
            elif name == "href" and tag.name == "a":
                value = self._link(value)
            elif name in NAMES and (name != "name" or tag.name == "a"):
                value = " ".join(map(self._place, value.split()))
            # whatever waits for the reader to come near would never be printed
            if value is not None and name != "loading":
                found[name] = value
        return found

    def _place(self, name: str) -> str:
        return name if name.startswith(self.kept) else f"{self.places[self.leaf.file]}-{name}"

    def _from_root(self, url: str) -> str:
        return normpath(join(self.leaf.name.rpartition("/")[0], url))

    def _link(self, url: str) -> str | None:
        """Where a link leads in the PDF; another host's as it is; None for a file not in it."""
        parts = urlsplit(url)
        if parts.scheme:
            return url
        file = self._from_root(unquote(parts.path)) if parts.path else self.leaf.file
        if file not in self.places:
            return None
        if "=" in parts.fragment:  # a state of the live page: on paper there is the page alone
            return f"#{self.places[file]}"
        return f"#{self.places[file]}" + (f"-{parts.fragment}" if parts.fragment else "")
