"""What a built book has to be. Each check takes the folder of the HTML and returns a list of complaints, one a line."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from browser import Browser

KEY_PAGES = (
    "index", "intro", "results", "chapters/04_differentiation", "chapters/06_intervention", "environment", "bibliography", "search",
)
SIZES = ((1400, 900), (390, 844))
#: attributes through which a page loads something by itself; a plain link to a reference is not one of them
LOADS = {
    "script": ("src",), "link": ("href",), "img": ("src", "srcset"), "source": ("src", "srcset"), "iframe": ("src",),
    "embed": ("src",), "video": ("src", "poster"), "audio": ("src",), "object": ("data",),
    "image": ("href", "xlink:href"), "use": ("href", "xlink:href"),
}
LOADING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "manifest", "prefetch"}


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
            elif url.fragment and target.suffix == ".html" and tag.name == "a" and not _has_place(target, unquote(url.fragment)):
                found.append(f"{path.relative_to(html)} links to {url.path}#{url.fragment}, a place that is not there")
    return found


def _has_place(path: Path, name: str) -> bool:
    return page(path).find(id=name) is not None or page(path).find("a", attrs={"name": name}) is not None


def images_without_text(html: Path) -> list[str]:
    """Images without an alternative text, or with one that only repeats the file name."""
    found = []
    for path in pages(html):
        for image in page(path).find_all("img"):
            alt = (image.get("alt") or "").strip()
            if not alt or alt == image.get("src") or re.fullmatch(r"\S*[0-9a-f]{16}\S*|\.\./\S*", alt):
                found.append(f"{path.relative_to(html)}: image {image.get('src')} has the alternative text {alt!r}")
    return found


def external_requests(html: Path) -> list[str]:
    """Whatever a page or style sheet would fetch from another host."""
    found = []
    for path in pages(html):
        for name, attributes in LOADS.items():
            for tag in page(path).find_all(name):
                if name == "link" and not set(tag.get("rel") or []) & LOADING_LINKS:
                    continue
                found += [f"{path.relative_to(html)}: <{name} {a}={tag[a]!r}>" for a in attributes if _is_foreign(tag.get(a, ""))]
    for path in sorted(html.rglob("*.css")):
        urls = re.findall(r"""(?:url\(|@import)\s*['"]?([^'")\s]+)""", path.read_text(encoding="utf8", errors="replace"))
        found += [f"{path.relative_to(html)}: {url}" for url in urls if _is_foreign(url)]
    return found


def _is_foreign(url: str) -> bool:
    return bool(re.match(r"\s*(https?:)?//", url))


def absolute_paths(html: Path, *folders: Path) -> list[str]:
    """Pages that name a folder of the machine they were built on."""
    return [f"{p.relative_to(html)} names {f}" for p in pages(html) for f in folders if str(f) in p.read_text(encoding="utf8")]


def in_browser(html: Path, names: list[str] | None = None, scheme: str = "light") -> list[str]:
    """Open pages from files, at desk and phone width: console errors, requests, overflow, formulas."""
    names = names or key_pages(html)
    found = []
    with Browser() as browser:
        for name in names:
            for width, height in SIZES:
                visit = browser.visit(html / f"{name}.html", width, height, scheme)
                found += [f"{name} at {width} px: {complaint}" for complaint in visit.complaints()]
    return found


def key_pages(html: Path) -> list[str]:
    """The pages every book has, and one lab of each chapter."""
    labs = [sorted(folder.glob("*.html"))[0] for folder in sorted((html / "labs").iterdir()) if folder.is_dir()]
    return [*KEY_PAGES, *(p.relative_to(html).with_suffix("").as_posix() for p in labs)]
