"""Print the built book to one PDF: its pages in the order of the contents, through headless
Chromium.

    python -m memgen.pdf --html _build/html --out _build/think-or-remember.pdf --labs all

The articles of the pages are put behind each other in one HTML page beside the book's own, so that
its styles and figures are used as they are. Names of places get the number of their page in front,
and a link from page to page becomes a link inside the PDF. What a PDF cannot hold (buttons,
scripts, the live model) is left out; what is folded on the screen is printed unfolded.
`book/_static/print.css` says how it looks.
"""

from __future__ import annotations

import argparse
import base64
import html as markup
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from posixpath import join, normpath
from urllib.parse import unquote, urlsplit

import yaml
from pypdf import PdfReader

from press.browser import Browser, Tab
from press.errors import BrowserError, PrintError
from press.numbers import seconds

LABS = ("all", "first", "none")
#: attributes that name a place of their own page
NAMES = ("id", "name", "for", "aria-labelledby", "aria-describedby", "aria-controls")
DROPPED = ("script", "button", "canvas", "input", "select", "textarea")
EMPTY = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
}
ARTICLE = re.compile(r"<article class=\"bd-article[^>]*>(.*)</article>", re.DOTALL)
MATHJAX = re.compile(r"<script>window\.MathJax = .*?</script>")
STYLES = re.compile(r"<link [^>]*rel=\"stylesheet\"[^>]*>")
#: width of the text on paper in CSS pixels: A4 without the margins that print.css leaves, (210 - 2
#: x 18) mm at 96 pixels an inch
TEXT_WIDTH = 658
#: tables that are too wide for the paper get smaller letters, and if that is not enough, break
#: their words
NARROW = """document.querySelectorAll("table").forEach(table => {
    for (const name of ["wide", "wider"]) {
        if (table.getBoundingClientRect().right > document.documentElement.clientWidth + 1) table.classList.add(name);
    }
})"""
#: draw pictures, or only leave room for them
PICTURES = (
    "drawn => document.querySelectorAll('img').forEach(image => { image.style.visibility = drawn ?"
    " '' : 'hidden'; })"
)
#: write the numbers of the sheets into the contents, where there is room for them
FILL = """sheets => document.querySelectorAll(".printed-entry a").forEach(entry => {
    entry.querySelector(".printed-sheet").textContent = sheets[entry.hash.slice(1)] || "";
})"""


@dataclass(frozen=True)
class Leaf:
    """A page of the book: its path without suffix (`chapters/01_dataset_design`), and how deep it
    lies in the contents (1 = chapter).
    """

    name: str
    depth: int
    part: str = ""

    @property
    def is_lab(self) -> bool:
        return self.name.startswith("labs/")


def print_book(html: Path, out: Path, labs: str = "all") -> int:
    """Print the book in the folder `html` to the file `out`; returns the number of pages of the
    book (not of the PDF) that went in.

    `labs` is one of LABS: every executed lab, that of each task's first seed, or none. Raises
    :class:`PrintError`.
    """
    leaves = chosen(contents(html), labs)
    missing = [leaf.name for leaf in leaves if not (html / f"{leaf.name}.html").is_file()]
    if missing:
        raise PrintError(
            f"{html} lacks {', '.join(missing[:3])}, which its contents name: build the book again"
            " with `make book`"
        )
    sheet = html / ".print.html"  # beside the pages, for the sake of relative addresses
    unfinished = out.with_suffix(".unfinished")
    try:
        sheet.write_text(assemble(html, leaves), encoding="utf8")
        out.parent.mkdir(parents=True, exist_ok=True)
        with Browser(timeout=1800) as browser, browser.tab() as tab, unfinished.open("wb") as file:
            tab.open(sheet)
            tab.call("Emulation.setEmulatedMedia", media="print")
            tab.call(
                "Emulation.setDeviceMetricsOverride",
                width=TEXT_WIDTH,
                height=1000,
                deviceScaleFactor=1,
                mobile=False,
            )
            tab.evaluate(NARROW)
            tab.evaluate(f"({FILL})({json.dumps(sheets(tab))})")
            for chunk in printed(tab):
                file.write(chunk)
        unfinished.replace(out)
    except (OSError, BrowserError) as error:
        raise PrintError(str(error)) from error
    finally:
        sheet.unlink(missing_ok=True)
        unfinished.unlink(missing_ok=True)
    return len(leaves)


def sheets(tab: Tab) -> dict[str, int]:
    """On which sheet of paper each named place will lie, counted from 1: read from a first print
    without pictures.
    """
    tab.evaluate(f"({PICTURES})(false)")
    draft = PdfReader(io.BytesIO(b"".join(printed(tab, with_outline=False))))
    tab.evaluate(f"({PICTURES})(true)")
    return {
        name.lstrip("/"): draft.get_destination_page_number(place) + 1
        for name, place in draft.named_destinations.items()
    }


def printed(tab: Tab, with_outline: bool = True) -> Iterator[bytes]:
    """The PDF of the page that is open in a tab, in chunks. Page size and margins come from the
    style sheet.
    """
    answer = tab.call(
        "Page.printToPDF",
        preferCSSPageSize=True,
        printBackground=True,
        generateTaggedPDF=with_outline,
        generateDocumentOutline=with_outline,
        transferMode="ReturnAsStream",
    )
    while True:
        chunk = tab.call("IO.read", handle=answer["stream"], size=1 << 20)
        yield (
            base64.b64decode(chunk["data"])
            if chunk.get("base64Encoded")
            else chunk["data"].encode()
        )
        if chunk["eof"]:
            return


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
    """The pages to print. A further seed of a lab lies below that of the first seed, hence deeper
    than 2.
    """
    return [
        leaf
        for leaf in leaves
        if not leaf.is_lab or labs == "all" or (labs == "first" and leaf.depth <= 2)
    ]


def assemble(html: Path, leaves: list[Leaf]) -> str:
    """One HTML page: title, contents, and the article of every page of the book."""
    places = {f"{leaf.name}.html": f"p{number}" for number, leaf in enumerate(leaves)}
    titles, articles, rules, mathjax = {}, [], [], ""
    for leaf in leaves:
        text = (html / f"{leaf.name}.html").read_text(encoding="utf8")
        found = ARTICLE.search(text)
        if not found:
            raise PrintError(
                f"{leaf.name}.html has no article: was it built by another version? Build the book"
                " again with `make book`"
            )
        mathjax = mathjax or next(iter(MATHJAX.findall(text)), "")
        place = places[f"{leaf.name}.html"]
        rewriter = Rewriter(leaf, places)
        body = rewriter.rewrite(found[1])
        titles[leaf] = rewriter.title or leaf.name
        rules.append(
            f".{place} {{ page: {place}; }} @page {place} {{ @top-right {{ content:"
            f" {quoted(titles[leaf])}; }} }}"
        )
        articles.append(
            f'<article class="bd-article printed {place}" id="{place}">{body}</article>'
        )
    index = (html / "index.html").read_text(encoding="utf8")
    title = markup.unescape(re.search(r"<title>(.*?)</title>", index, re.DOTALL)[1]).strip()
    return "\n".join(
        [
            (
                '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light"><head><meta'
                f' charset="utf-8"><title>{markup.escape(title)}</title>'
            ),
            *STYLES.findall(index),
            f"<style>{' '.join(rules)}</style>",
            mathjax,
            (
                '<script defer src="_static/mathjax/tex-chtml.js"></script></head><body><div'
                ' class="bd-content"><main class="printed-book">'
            ),
            articles[0],
            table_of_contents(leaves[1:], titles, places),
            *articles[1:],
            "</main></div></body></html>",
        ]
    )


def table_of_contents(leaves: list[Leaf], titles: dict[Leaf, str], places: dict[str, str]) -> str:
    """The page of contents that stands behind the title page: links, indented by depth, below the
    captions of their parts.
    """
    lines, part = (
        [
            '<nav class="bd-article printed printed-contents"><p class="printed-heading">Contents</p>'
        ],
        None,
    )
    for leaf in leaves:
        if leaf.part != part:
            part = leaf.part
            lines.append(f'<p class="printed-part">{markup.escape(part)}</p>')
        link = (
            f'<a href="#{places[f"{leaf.name}.html"]}"><span>{markup.escape(titles[leaf])}</span><span'
            ' class="printed-sheet"></span></a>'
        )
        lines.append(f'<p class="printed-entry depth-{leaf.depth}">{link}</p>')
    return "\n".join([*lines, "</nav>"])


def quoted(text: str) -> str:
    """A string of a style sheet."""
    return '"' + re.sub(r'(["\\<])', lambda m: f"\\{ord(m[1]):x} ", text) + '"'


class Rewriter(HTMLParser):
    """Turns the article of a page into a section of the printed book. `title` is then the text of
    its first heading.

    `places` maps the files of the printed pages, as seen from the book's root, to the names of
    their sections.
    """

    def __init__(self, leaf: Leaf, places: dict[str, str]):
        super().__init__(convert_charrefs=False)
        self.leaf, self.places, self.place = leaf, places, places[f"{leaf.name}.html"]
        self.folder = leaf.name.rpartition("/")[0]
        self.title, self._out, self._dropping, self._styled, self._in_title = (
            "",
            [],
            [],
            set(),
            False,
        )

    def rewrite(self, article: str) -> str:
        self._styled = set(
            re.findall(
                r"#(T_\w+?)(?=[ _{,:])",
                "".join(re.findall(r"<style.*?</style>", article, re.DOTALL)),
            )
        )
        self.feed(article)
        self.close()
        self.title = " ".join(self.title.split())
        return "".join(self._out)

    def handle_starttag(self, tag, attributes):
        if self._dropping or tag in DROPPED or self._is_for_screens(tag, dict(attributes)):
            if tag not in EMPTY:
                self._dropping.append(tag)
            return
        if tag == "h1" and not self.title:
            self._in_title = True
        if tag == "details":
            attributes = [a for a in attributes if a[0] != "open"] + [("open", "")]
        written = "".join(
            f' {name}="{markup.escape(value or "")}"'
            for name, value in self._attributes(tag, attributes)
        )
        self._out.append(f"<{self._deeper(tag)}{written}>")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in EMPTY:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if self._dropping:
            if tag in self._dropping:
                while self._dropping.pop() != tag:
                    pass
            return
        if tag == "h1":
            self._in_title = False
        if tag not in EMPTY:
            self._out.append(f"</{self._deeper(tag)}>")

    def handle_data(self, data):
        if not self._dropping:
            self._out.append(data)
            self.title += data if self._in_title else ""

    def handle_entityref(self, name):
        self._reference(f"&{name};")

    def handle_charref(self, name):
        self._reference(f"&#{name};")

    def _reference(self, text: str) -> None:
        if not self._dropping:
            self._out.append(text)
            self.title += markup.unescape(text) if self._in_title else ""

    def _deeper(self, tag: str) -> str:
        """`noscript` is shown; the headings of a page that lies deeper in the contents are smaller
        ones.
        """
        if tag == "noscript":
            return "div"
        return (
            f"h{min(int(tag[1]) + self.leaf.depth - 1, 6)}" if re.fullmatch("h[1-6]", tag) else tag
        )

    def _is_for_screens(self, tag: str, attributes: dict) -> bool:
        return tag == "a" and "headerlink" in (attributes.get("class") or "").split()

    def _attributes(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "srcset") and not urlsplit(value).scheme:
                value = self._from_root(value)
            elif name == "href" and tag == "a":
                value = self._link(value or "")
                if value is None:
                    continue
            elif name in NAMES and (name != "name" or tag == "a"):
                value = " ".join(self._place(word) for word in (value or "").split())
            elif name == "loading":
                continue  # whatever waits for the reader to come near would never be printed
            yield name, value

    def _place(self, name: str) -> str:
        """A name of this page, unique in the book; those that pandas styles tables by are left
        alone.
        """
        return (
            name
            if any(name.startswith(styled) for styled in self._styled)
            else f"{self.place}-{name}"
        )

    def _from_root(self, url: str) -> str:
        return normpath(join(self.folder, url))

    def _link(self, url: str) -> str | None:
        """Where a link leads inside the PDF; another host's address as it is; None for a file that
        the PDF does not hold.
        """
        parts = urlsplit(url)
        if parts.scheme:
            return url
        place = self.places.get(self._from_root(unquote(parts.path))) if parts.path else self.place
        if place is None:
            return None
        return f"#{place}-{parts.fragment}" if parts.fragment else f"#{place}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m memgen.pdf", description="Print the built book to one PDF."
    )
    parser.add_argument(
        "--html",
        type=Path,
        default=Path("_build/html"),
        help="folder of the built book (default: _build/html)",
    )
    parser.add_argument(
        "--out", type=Path, help="file to write (default: think-or-remember.pdf beside that folder)"
    )
    parser.add_argument(
        "--labs",
        choices=LABS,
        default="all",
        help="which executed labs: all, that of each task's first seed, none (default: all)",
    )
    options = parser.parse_args(arguments)
    out = options.out or options.html.parent / "think-or-remember.pdf"
    started = time.monotonic()
    try:
        n = print_book(options.html, out, options.labs)
    except PrintError as error:
        print(f"pdf: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pdf: interrupted; the former PDF, if any, is untouched", file=sys.stderr)
        return 130
    print(
        f"pdf: {n} pages of the book, {os.path.getsize(out) / 1e6:.0f} MB, printed in"
        f" {seconds(time.monotonic() - started)}: {out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
