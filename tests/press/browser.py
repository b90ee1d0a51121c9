"""Headless Chromium looks at a page: open it from a file or a server, hear every request and every
complaint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from press import browser
from press.browser import BINARIES, Tab
from press.errors import BrowserError

__all__ = ["BINARIES", "Browser", "BrowserError", "Reader", "Visit"]


class Browser(browser.Browser):
    """One Chromium process. Use as a context manager; `visit` opens a page and tells what happened
    on it.
    """

    def visit(
        self,
        page: Path | str,
        width: int = 1400,
        height: int = 900,
        scheme: str = "light",
        screenshot: Path | None = None,
    ) -> Visit:
        """Open a file (or URL) in a fresh tab of the given size and colour scheme and wait until it
        has settled.
        """
        with self.reading(page, width, height, scheme) as reader:
            if screenshot:
                reader.tab.screenshot(screenshot)
            return reader.visit

    @contextmanager
    def reading(
        self, page: Path | str, width: int = 1400, height: int = 900, scheme: str = "light"
    ) -> Iterator[Reader]:
        """Like `visit`, but the page stays open: `reader.evaluate(javascript)`,
        `reader.tab.call(...)`, `reader.visit.complaints()`.
        """
        with self.tab() as tab:
            reader = Reader(tab)
            tab.look(width, height, scheme)
            reader.open(page)
            yield reader


class Reader:
    """A tab, and in `visit` what happened on the page that is open in it."""

    def __init__(self, tab: Tab):
        self.tab, self.visit = tab, Visit("about:blank")
        tab.hear = lambda event: self.visit.hear(event)

    def open(self, page: Path | str) -> Visit:
        """Load a page; starts a new `visit`."""
        self.visit = Visit(page if isinstance(page, str) else page.resolve().as_uri())
        self.tab.open(page)
        self.visit.facts = self.evaluate(FACTS)
        return self.visit

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Turn the page to another size and colour scheme and let it settle, without loading it
        again.
        """
        self.tab.look(width, height, scheme)
        self.evaluate(STILL)
        self.visit.facts = self.evaluate(FACTS)

    def evaluate(self, expression: str):
        """The value of a JavaScript expression in the page (a promise is awaited)."""
        return self.tab.evaluate(expression)


#: resolves when the page has been drawn again and its colours have stopped changing
STILL = """(async () => {
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const turning = () => document.getAnimations().some(a => a instanceof CSSTransition && a.playState === "running");
    for (const began = performance.now(); turning() && performance.now() - began < 2000;) await new Promise(done => setTimeout(done, 10));
})()"""
#: measured in the page: how much wider it is than the window (and what sticks out), formulas and
#: how many were typeset, images that did not load
FACTS = r"""(() => {
    const width = document.documentElement.clientWidth;
    const inBox = el => { for (let p = el.parentElement; p; p = p.parentElement) {
        if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX)) return true; } return false; };
    const wide = [...document.querySelectorAll('body *')].filter(el => {
        const box = el.getBoundingClientRect();
        return box.width > 0 && box.right > width + 1 && !inBox(el) && getComputedStyle(el).position !== 'fixed';
    });
    return {
        overflow: Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - width,
        wide: wide.slice(0, 5).map(el => el.tagName + '.' + el.className),
        formulas: document.querySelectorAll('.math').length,
        typeset: document.querySelectorAll('mjx-container').length,
        formula_errors: document.querySelectorAll('mjx-merror').length,
        broken_images: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
        title: document.title,
        theme: document.documentElement.dataset.theme || '',
    };
})()"""


class Visit:
    """What happened on a page: `errors` (console errors, exceptions), `foreign` and `failed`
    requests, `facts` (see FACTS).
    """

    def __init__(self, url: str):
        self.url, self.facts = url, {}
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.failed: list[str] = []
        self._urls: dict[str, str] = {}

    def hear(self, message: dict) -> None:
        method, p = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            url = p["request"]["url"]
            self._urls[p["requestId"]] = url
            if (
                not url.startswith(("file:", "data:", "blob:", "about:"))
                and urlsplit(url).netloc != urlsplit(self.url).netloc
            ):
                self.foreign.append(url)
        elif method == "Network.loadingFailed" and not p.get("canceled"):
            self.failed.append(f"{self._urls.get(p['requestId'], '?')}: {p.get('errorText')}")
        elif method == "Log.entryAdded" and p["entry"]["level"] == "error":
            self.errors.append(f"{p['entry']['text']} ({p['entry'].get('url', '')})")
        elif method == "Runtime.consoleAPICalled" and p["type"] in ("error", "assert"):
            self.errors.append(
                " ".join(str(a.get("value", a.get("description"))) for a in p["args"])
            )
        elif method == "Runtime.exceptionThrown":
            details = p["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])

    def complaints(self) -> list[str]:
        """Everything that is not as it should be, as sentences."""
        facts = self.facts
        found = [f"console error: {e}" for e in self.errors] + [
            f"foreign request: {u}" for u in self.foreign
        ]
        found += [f"failed request: {u}" for u in self.failed] + [
            f"broken image: {u}" for u in facts["broken_images"]
        ]
        if facts["overflow"] > 1 or facts["wide"]:
            found.append(
                f"wider than the window by {facts['overflow']} px: {', '.join(facts['wide'])}"
            )
        if facts["typeset"] < facts["formulas"] or facts["formula_errors"]:
            found.append(
                f"{facts['typeset']} of {facts['formulas']} formulas typeset,"
                f" {facts['formula_errors']} errors"
            )
        return found
