"""What a built book has to be. Each check takes the folder of the HTML and returns a list of
complaints, one a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from browser import Reader, View, reading
from bs4 import BeautifulSoup

from press.browser import chromium

VIEWS: tuple[View, ...] = (
    (390, 844, "light"),
    (768, 1024, "light"),
    (1400, 900, "light"),
    (1400, 900, "dark"),
    (768, 1024, "dark"),
    (390, 844, "dark"),
)
#: attributes through which a page loads something by itself; a plain link to a reference is not one
#: of them
LOADS = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
LOADING_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
    "manifest",
    "prefetch",
}

#: axe-core 4.14.1, newer than the one in the package and twice as fast
AXE = Axe.from_file(Path(__file__).with_name("axe.min.js"))


@cache
def page(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf8"), "html.parser")


def pages(html: Path) -> list[Path]:
    return sorted(p for p in html.rglob("*.html") if "_static" not in p.parts)


def broken_links(html: Path) -> list[str]:
    """Links inside the book that lead to no file, or to no place in it."""
    found = []
    for path in pages(html):
        for tag in page(path).find_all(["a", "link", "script", "img"]):
            url = urlsplit(tag.get("href") or tag.get("src") or "")
            if url.scheme or url.netloc or not (url.path or url.fragment):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.is_file():
                found.append(f"{path.relative_to(html)} links to {url.path}, which is not there")
            elif (
                url.fragment
                and target.suffix == ".html"
                and tag.name == "a"
                and not _has_place(target, unquote(url.fragment))
                and not _is_state(target, url.fragment)
            ):
                found.append(
                    f"{path.relative_to(html)} links to {url.path}#{url.fragment}, a place that is"
                    " not there"
                )
    return found


def _has_place(path: Path, name: str) -> bool:
    return (
        page(path).find(id=name) is not None
        or page(path).find("a", attrs={"name": name}) is not None
    )


def _is_state(path: Path, fragment: str) -> bool:
    """Does it name a state of the live page, of a model that is there?"""
    task = parse_qs(fragment).get("task", [""])[0]
    return path.name == "live.html" and (path.parent / f"_static/live/model-{task}.js").is_file()


def images_without_text(html: Path) -> list[str]:
    """Images without an alternative text, or with one that only repeats the file name."""
    found = []
    for path in pages(html):
        for image in page(path).find_all("img"):
            alt = (image.get("alt") or "").strip()
            if (
                not alt
                or alt == image.get("src")
                or re.fullmatch(r"\S*[0-9a-f]{16}\S*|\.\./\S*", alt)
            ):
                found.append(
                    f"{path.relative_to(html)}: image {image.get('src')} has the alternative text"
                    f" {alt!r}"
                )
    return found


def external_requests(html: Path) -> list[str]:
    """Whatever a page or style sheet would fetch from another host."""
    found = []
    for path in pages(html):
        for name, attributes in LOADS.items():
            for tag in page(path).find_all(name):
                if name == "link" and not set(tag.get("rel") or []) & LOADING_LINKS:
                    continue
                found += [
                    f"{path.relative_to(html)}: <{name} {a}={tag[a]!r}>"
                    for a in attributes
                    if _is_foreign(tag.get(a, ""))
                ]
    for path in sorted(html.rglob("*.css")):
        urls = re.findall(
            r"""(?:url\(|@import)\s*['"]?([^'")\s]+)""",
            path.read_text(encoding="utf8", errors="replace"),
        )
        found += [f"{path.relative_to(html)}: {url}" for url in urls if _is_foreign(url)]
    return found


def _is_foreign(url: str) -> bool:
    return bool(re.match(r"\s*(https?:)?//", url))


def absolute_paths(html: Path, *folders: Path) -> list[str]:
    """Pages that name a folder of the machine they were built on."""
    return [
        f"{p.relative_to(html)} names {f}"
        for p in pages(html)
        for f in folders
        if str(f) in p.read_text(encoding="utf8")
    ]


def kinds(html: Path) -> list[str]:
    """Every page of prose, and one page of each folder of executed labs and of exercises."""
    found, folders = [], set()
    for path in pages(html):
        folder = path.relative_to(html).parent
        if folder.parts[:1] in ((), ("chapters",)) or folder not in folders:
            found.append(path.relative_to(html).with_suffix("").as_posix())
        folders.add(folder)
    return found


def in_browser(html: Path, names: list[str], served: bool = False, turns: int = 6) -> list[str]:
    """Open pages from files or from a server on this machine in `turns` of VIEWS: console errors,
    requests, overflow, formulas.
    """
    with server(html) as address:
        base = f"{address}/" if served else f"{html.resolve().as_uri()}/"
        return with_browsers(names, lambda reader, name: views(reader, base, name, turns))


def views(reader: Reader, base: str, name: str, turns: int) -> list[str]:
    """Load a page in one view (which one goes by its name) and turn it to the next ones, `turns` in
    all.
    """
    turn = sum(map(ord, name)) % len(VIEWS)
    found = []
    for number, view in enumerate([*VIEWS[turn:], *VIEWS[:turn]][:turns]):
        if number == 0:
            reader.turn(view)
            reader.open(f"{base}{name}.html")
        else:
            reader.look(view)
        found += [
            f"{name} at {view[0]} px, {view[2]}: {complaint}"
            for complaint in reader.visit.complaints()
        ]
        if reader.visit.facts["theme"] != view[2]:
            found.append(f"{name} at {view[0]} px is not shown {view[2]}")
    return list(dict.fromkeys(found))


def with_browsers(names: list[str], look: Callable[[Reader, str], list[str]]) -> list[str]:
    """What `look(reader, name)` says of all pages, in order; two browsers share the work."""

    def some(part: list[str]) -> dict[str, list[str]]:
        if not part:
            return {}
        with chromium() as browser, reading(browser, "about:blank") as reader:
            return {name: look(reader, name) for name in part}

    with ThreadPoolExecutor(2) as threads:
        said = {
            name: found
            for part in threads.map(some, (names[::2], names[1::2]))
            for name, found in part.items()
        }
    return [complaint for name in names for complaint in said[name]]


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a server of files on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as serving:
        Thread(target=serving.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()


# -- accessibility ---------------------------------------------------------------------------------
def inaccessible(reader: Reader, path: Path, views: Sequence[View]) -> list[str]:
    """What axe-core finds serious or critical on a page that is loaded in the first view and turned
    to the others, an element a line.
    """
    found = []
    for number, view in enumerate(views):
        if number == 0:
            reader.turn(view)
            reader.open(path)
        else:
            reader.look(view)
        for rule in AXE.run(reader.page).response["violations"]:
            if rule["impact"] in ("serious", "critical"):
                found += [
                    f"{path.stem} at {view[0]} px, {view[2]}: {rule['id']}, {rule['impact']}:"
                    f" {' '.join(map(str, node['target']))} ({' '.join(node['failureSummary'].split())})"
                    for node in rule["nodes"]
                ]
    return found


# -- where links lead ------------------------------------------------------------------------------
#: hosts that pages link to, and what for; the bibliography may cite any
HOSTS = {
    "arxiv.org": "the paper",
    "doi.org": "references by their identifier",
    "creativecommons.org": "the licence of the text, on the page that says how to cite it",
    "w3id.org": "the profile of the crate beside the book, on the same page",
    "ai.google.dev": "the terms of a model that may be asked for",
    "huggingface.co": "where a pretrained model that the book asks was published",
    "snakemake.github.io": "the executor that the page on clusters needs",
}


def links_elsewhere(html: Path) -> list[str]:
    """Links of a page, the bibliography apart, to another site than HOSTS names."""
    found = []
    for path in pages(html):
        if path.stem == "bibliography":
            continue
        hosts = {urlsplit(link["href"]).netloc for link in page(path).find_all("a", href=True)} - {
            ""
        }
        found += [
            f"{path.relative_to(html)} links to {host}" for host in sorted(hosts - set(HOSTS))
        ]
    return found


def absolute_addresses(html: Path) -> list[str]:
    """Links and files that a page asks for at the root of a server or disk: they break as soon as
    the book is put in a folder.
    """
    found = []
    for path in pages(html):
        for tag in page(path).find_all(True):
            for name in ("href", "src", "srcset", "data", "poster", "action"):
                if re.match(r"\s*(/|file:|[A-Za-z]:\\)", tag.get(name) or ""):
                    found.append(f"{path.relative_to(html)}: <{tag.name} {name}={tag[name]!r}>")
    return found
