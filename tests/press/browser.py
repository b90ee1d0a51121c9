"""Chromium looks at a page: open it from a file or a server, hear every request and every complaint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request

from press.browser import NO_CHROMIUM, PATIENCE, installed, open_page

#: width and height in CSS pixels, colour scheme that the reader prefers
View = tuple[int, int, str]
DESK: View = (1400, 900, "light")

needs_chromium = pytest.mark.skipif(installed() is None, reason=NO_CHROMIUM)


@contextmanager
def reading(browser: Browser, address: Path | str, view: View = DESK) -> Iterator[Reader]:
    """A file (or URL) in a fresh tab with a profile of its own, in the given view, once it has
    settled.
    """
    with browser.new_context(no_viewport=True) as context:
        context.set_default_timeout(1000 * PATIENCE)
        reader = Reader(context.new_page())
        reader.turn(view)
        reader.open(address)
        yield reader


class Reader:
    """A tab, and in `visit` what happened on the page that is open in it."""

    def __init__(self, page: Page):
        self.page, self.visit = page, Visit("about:blank")
        self._protocol = page.context.new_cdp_session(page)
        page.on("console", lambda message: self.visit.hear_console(message))
        page.on("pageerror", lambda error: self.visit.hear_exception(error))
        page.on("request", lambda request: self.visit.hear_request(request))
        page.on("requestfailed", lambda request: self.visit.hear_failure(request))

    def open(self, address: Path | str) -> Visit:
        """Load a page; starts a new `visit`."""
        self.visit = Visit(address if isinstance(address, str) else address.resolve().as_uri())
        open_page(self.page, address)
        self.visit.facts = self.evaluate(FACTS)
        return self.visit

    def turn(self, view: View) -> None:
        """Give the window another size (below 600 it is a phone) and colour scheme."""
        width, height, scheme = view
        self._protocol.send(  # playwright cannot make a phone of a tab that is open
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.page.emulate_media(color_scheme=scheme)

    def look(self, view: View) -> None:
        """Turn the page to another view and let it settle, without loading it again."""
        self.turn(view)
        self.evaluate(STILL)
        self.visit.facts = self.evaluate(FACTS)

    def evaluate(self, expression: str):
        """The value of a JavaScript expression in the page (a promise is awaited)."""
        return self.page.evaluate(expression)


#: resolves when the page has been drawn again and its colours have stopped changing
STILL = """(async () => {
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const turns = a => a instanceof CSSTransition && a.playState === "running";
    const turning = () => document.getAnimations().some(turns), began = performance.now();
    while (turning() && performance.now() - began < 2000) await new Promise(done => setTimeout(done, 10));
})()"""
#: measured in the page: how much wider it is than the window (and what sticks out), formulas and
#: how many were typeset, images that did not load
FACTS = r"""(() => {
    const width = document.documentElement.clientWidth;
    const cuts = el => ['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(el).overflowX);
    const inBox = el => el.parentElement !== null && (cuts(el.parentElement) || inBox(el.parentElement));
    const wide = [...document.querySelectorAll('body *')].filter(el => {
        const box = el.getBoundingClientRect();
        const sticksOut = box.width > 0 && box.right > width + 1 && !inBox(el);
        return sticksOut && getComputedStyle(el).position !== 'fixed';
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


@dataclass
class Visit:
    """What happened on a page: `errors` (console errors, exceptions), `foreign` and `failed`
    requests, `facts` (see FACTS).
    """

    url: str
    facts: dict = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def hear_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            self.errors.append(f"{message.text} ({message.location['url']})")

    def hear_exception(self, error: Error) -> None:
        self.errors.append(error.stack or error.message)

    def hear_request(self, request: Request) -> None:
        is_file = request.url.startswith(("file:", "data:", "blob:", "about:"))
        if not is_file and urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.foreign.append(request.url)

    def hear_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself thought better of it
            self.failed.append(f"{request.url}: {request.failure}")

    def complaints(self) -> list[str]:
        """Everything that is not as it should be, as sentences."""
        facts = self.facts
        found = [f"console error: {e}" for e in self.errors]
        found += [f"foreign request: {u}" for u in self.foreign]
        found += [f"failed request: {u}" for u in self.failed]
        found += [f"broken image: {u}" for u in facts["broken_images"]]
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
