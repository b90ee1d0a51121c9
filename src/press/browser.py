"""The system's Chromium (never playwright's own download), for the printed book and the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Error, Page, sync_playwright

from press.errors import BrowserError

BINARIES = ("chromium", "chromium-browser", "google-chrome", "chrome")
NO_CHROMIUM = "Chromium is not installed (Debian: `apt-get install chromium`)"
#: besides playwright's own; no name but this machine's is looked up: the book needs no other host
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PATIENCE = 180.0  # seconds: a busy machine is slow, not broken
#: resolves when formulas are typeset and fonts are there
SETTLED = """(async () => {
    if (window.MathJax && MathJax.startup && MathJax.startup.promise) await MathJax.startup.promise;
    await document.fonts.ready;
    await new Promise(done => setTimeout(done, 150));
})()"""


def installed() -> str | None:
    """The path of the system's Chromium, if there is one."""
    return next(filter(None, map(shutil.which, BINARIES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """One Chromium without a window, one at a time per thread; fails as :class:`BrowserError`."""
    binary = installed()
    if binary is None:
        raise BrowserError(NO_CHROMIUM)
    try:
        with sync_playwright() as playwright:
            launch = playwright.chromium.launch
            with launch(executable_path=binary, args=FLAGS, timeout=1000 * PATIENCE) as browser:
                yield browser
    except Error as error:
        raise BrowserError(error.message) from error


def open_page(page: Page, address: Path | str, patience: float = PATIENCE) -> None:
    """Load a file (or URL) and wait, at most `patience` seconds, until formulas and fonts are there."""
    url = address if isinstance(address, str) else address.resolve().as_uri()
    page.goto(url, timeout=1000 * patience)
    page.evaluate(SETTLED)
