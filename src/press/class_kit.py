"""What a class opens on its phones: the pages of the lesson plans, alone, as a folder and a zip of it.

Home, the question, the live page, the glossary and every page that a plan names, with all that they
load. A link to a page that stays behind is taken away, so that none is dead, and so is the search.
`phones.html` is for the projector: the address of the folder's server, as text and as a QR code.
"""

from __future__ import annotations

import html
import re
import shutil
import socket
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from press.errors import TeachingError

#: pages of every class, besides those of the plans
ALWAYS = ("index", "intro", "live", "glossary")
#: what phones open first
ENTRY = "live.html"
PORT = 8000
PHONES, CODE = "phones.html", "phones.svg"
#: every file of a zip is of the same time, so that the same book gives the same zip
_TIME = (1980, 1, 1, 0, 0, 0)
_ADDRESS = re.compile(
    r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[\w./~-]*)?|https?://\[[0-9a-f:]+\](:\d{1,5})?/?"
)


def write_kit(book: Path, out: Path, pages: Iterable[str], address: str) -> list[str]:
    """Write the folder `out` and `<out>.zip` from a built book; returns the pages that are in them.

    `pages`: of the plans, without suffix; `address`: where phones will find the folder. Errors:
    `TeachingError` for a book that lacks a page, an address that is none, an `out` of somebody else.
    """
    address = checked(address)
    if out.exists() and not (out / PHONES).is_file():
        raise TeachingError(f"{out} is no folder of `make class`; choose another one with OUT=...")
    chosen = list(dict.fromkeys([*ALWAYS, *pages]))
    for page in chosen:
        if not (book / f"{page}.html").is_file():
            raise TeachingError(
                f"{book} has no page {page}.html, which a lesson plan needs; build the whole book with"
                " `make book`"
            )
    fresh = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(book / "_static", fresh / "_static")
    for page in chosen:
        target = fresh / f"{page}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        text, files = alone(book, f"{page}.html", {f"{one}.html" for one in chosen})
        target.write_text(text, encoding="utf8")
        for file in files:
            (fresh / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(book / file, fresh / file)
    _write_phones(fresh, address)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    _zip(out)
    return chosen


# -- the address --------------------------------------------------------------------------------------
def checked(address: str) -> str:
    """An address that phones can open, without a slash at its end. Errors: `TeachingError`."""
    if not _ADDRESS.fullmatch(address):
        raise TeachingError(
            f"ADDRESS={address!r} is no address of a server; write it like http://192.168.1.7:{PORT}"
        )
    host = urlsplit(address).hostname or ""
    if host in ("localhost", "::1") or host.startswith(("127.", "0.")):
        raise TeachingError(
            f"ADDRESS={address!r} is this machine's name for itself, and a phone would look for it on"
            f" the phone; give the address in your network, like http://192.168.1.7:{PORT}"
        )
    return address.rstrip("/")


def port_of(address: str) -> int:
    """The port that a server of this address listens on."""
    url = urlsplit(address)
    return url.port or {"http": 80, "https": 443}[url.scheme]


def own_address() -> str:
    """This machine's address in its network, with the port. Errors: `TeachingError`: it has none.

    A datagram socket that is connected sends nothing; it only tells which address would be used.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # of a range that nobody has (RFC 5737)
            own = asked.getsockname()[0]
        except OSError:
            own = "0.0.0.0"
    if own.startswith(("127.", "0.")):
        raise TeachingError(
            "this machine has no address in a network; join one, or say where the folder will be"
            f" served: make class ADDRESS=http://192.168.1.7:{PORT}"
        )
    return f"http://{own}:{PORT}"


# -- a page that stands without the rest of the book --------------------------------------------------
def alone(book: Path, page: str, there: set[str]) -> tuple[str, list[str]]:
    """A page without what leads to pages that are not `there`; and the files that it loads.

    `page`, `there` and the files: places in the book. What lies in `_static` is not listed.
    """
    soup = BeautifulSoup((book / page).read_text(encoding="utf8"), "html.parser")
    for search in soup.select("form.bd-search, .search-button, .search-button__wrapper, dialog"):
        search.decompose()
    files: dict[str, None] = {}
    for tag in soup.find_all(["a", "link", "img", "script", "source"]):
        if tag.decomposed:
            continue
        place = _place(tag, page)
        if place is None or place in there or place.startswith("_static/"):
            continue
        if (book / place).is_file() and not place.endswith(".html"):
            files[place] = None
        else:
            _take_away(tag)
    _tidy(soup)
    return str(soup), list(files)


def _tidy(soup: BeautifulSoup) -> None:
    """Lists of pages without an entry that is left, and the captions above them, are taken away."""
    for entry in soup.select("nav li"):
        if not entry.decomposed and entry.find("a", href=True) is None:
            entry.decompose()
    for listed in soup.select("nav ul"):
        if not listed.decomposed and listed.find("li") is None:
            above = listed.find_previous_sibling()
            if above is not None and above.name == "p":
                above.decompose()
            listed.decompose()


def _place(tag: Tag, page: str) -> str | None:
    """Where a tag leads, as a place in the book; None: to the page itself or out of the book."""
    url = urlsplit(str(tag.get("href") or tag.get("src") or ""))
    if url.scheme or url.netloc or not url.path:
        return None
    return normpath(join(dirname(page), unquote(url.path)))


def _take_away(tag: Tag) -> None:
    """A link that would be dead: its words stay, unless it was a door or a way on and nothing else."""
    door = tag.find_parent(class_="sd-card")
    around = set(tag.get("class") or [])
    if tag.name != "a" or around & {"left-prev", "right-next"}:
        tag.decompose()
    elif door is not None and "sd-stretched-link" in around:
        (door.find_parent(class_="sd-col") or door).decompose()
    else:
        del tag["href"]
        tag.name, tag.attrs = "span", {"class": "not-in-this-copy"}


# -- the page for the projector, and the zip ------------------------------------------------------------
def _write_phones(folder: Path, address: str) -> None:
    import segno  # nothing else of the book needs it

    where = f"{address}/{ENTRY}"
    code = segno.make(where, error="m", micro=False)
    code.save(str(folder / CODE), scale=8, border=4, xmldecl=False, svgclass=None, light="#fff")
    said = html.escape(where)
    (folder / PHONES).write_text(
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>On your phone · Think or Remember?</title>
<link rel="icon" href="_static/favicon.svg">
<style>
body {{ font-family: system-ui, sans-serif; text-align: center; margin: 1rem; }}
body {{ color: #1b1b1b; background: #fff; }}
img {{ width: min(70vh, 90vw); height: auto; }}
p {{ font-size: clamp(1.1rem, 3.5vw, 2.5rem); overflow-wrap: anywhere; margin: 0.5rem; }}
a {{ color: #00558b; }}
</style>
</head>
<body>
<main>
<h1>Steer a model on your phone</h1>
<img src="{CODE}" alt="QR code of the address {said}">
<p><a href="{ENTRY}">{said}</a></p>
</main>
</body>
</html>
""",
        encoding="utf8",
    )


def _zip(folder: Path) -> Path:
    """`<folder>.zip`, with everything below one folder of the same name."""
    target = folder.with_name(f"{folder.name}.zip")
    fresh = folder.with_name(f"{folder.name}.zip.unfinished")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            name = PurePosixPath(folder.name) / path.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(str(name), _TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(entry, path.read_bytes())
    fresh.replace(target)
    return target
