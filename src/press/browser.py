"""Headless Chromium over its debugging pipe: what the printed book and the tests of the pages need
of a browser.

No driver and no port: Chromium reads commands from file descriptor 3 and writes answers to 4, one
JSON text each, ended by a NUL byte (`--remote-debugging-pipe`). The commands are those of the
Chrome DevTools Protocol.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from press.errors import BrowserError

BINARIES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
)
#: resolves when formulas are typeset and fonts are there
SETTLED = """(async () => {
    if (window.MathJax && MathJax.startup && MathJax.startup.promise) await MathJax.startup.promise;
    await document.fonts.ready;
    await new Promise(done => setTimeout(done, 150));
})()"""


class Browser:
    """One Chromium process. Use as a context manager; `tab` opens a tab in it."""

    def __init__(self, timeout: float = 180.0):  # a busy machine is slow, not broken
        binary = next(filter(None, map(shutil.which, BINARIES)), None)
        if binary is None:
            raise BrowserError("Chromium is not installed (Debian: `apt-get install chromium`)")
        self.timeout, self._buffer, self._id = timeout, b"", 0
        self._listeners: dict[str, Callable[[dict], None]] = {}
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        # a shell moves the pipes to the numbers that Chromium expects
        command = [
            "sh",
            "-c",
            'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null',
            "sh",
            binary,
            *FLAGS,
        ]
        self._process = subprocess.Popen(
            [
                *command,
                "--remote-debugging-pipe",
                f"--user-data-dir={self._profile}",
                "about:blank",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self._process.stdin.close()
            self._process.terminate()
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._profile, ignore_errors=True)

    @contextmanager
    def tab(self, hear: Callable[[dict], None] = lambda event: None) -> Iterator[Tab]:
        """A fresh tab with a profile of its own; `hear` is called with every event of it."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context}
        )["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})[
            "sessionId"
        ]
        tab = Tab(self, session, hear)
        self._listeners[session] = tab.receive
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                tab.call(f"{domain}.enable")
            yield tab
        finally:
            self._listeners.pop(session)
            self.call("Target.closeTarget", {"targetId": target})
            self.call("Target.disposeBrowserContext", {"browserContextId": context})

    def call(self, method: str, parameters: dict | None = None, session: str | None = None) -> dict:
        """Send a command and wait for its answer. Raises :class:`BrowserError` if it is refused."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters or {}} | (
            {"sessionId": session} if session else {}
        )
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        number, deadline = self._id, time.monotonic() + self.timeout
        while (answer := self._hear(deadline)).get("id") != number:
            pass
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Listen to events until `done()`."""
        deadline = time.monotonic() + self.timeout
        while not done():
            self._hear(deadline)

    def _hear(self, deadline: float) -> dict:
        """The next message; an event has been handed to its tab."""
        message = self._message(deadline)
        if message.get("sessionId") in self._listeners and "method" in message:
            self._listeners[message["sessionId"]](message)
        return message

    def _message(self, deadline: float) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select(
                [self._process.stdout], [], [], max(0.0, deadline - time.monotonic())
            )
            chunk = os.read(self._process.stdout.fileno(), 1 << 20) if ready else b""
            if not chunk:
                raise BrowserError(
                    "Chromium ended"
                    if ready
                    else f"Chromium did not answer within {self.timeout:.0f} s"
                )
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)


class Tab:
    """A tab of a :class:`Browser`."""

    def __init__(self, browser: Browser, session: str, hear: Callable[[dict], None]):
        self.browser, self.hear, self._session, self._loaded = browser, hear, session, False

    def receive(self, event: dict) -> None:
        """An event of this tab has come."""
        self._loaded |= event["method"] == "Page.loadEventFired"
        self.hear(event)

    def call(self, method: str, **parameters) -> dict:
        """A command of the DevTools Protocol to this tab, e.g. `call("Input.insertText",
        text="7")`.
        """
        return self.browser.call(method, parameters, self._session)

    def evaluate(self, expression: str):
        """The value of a JavaScript expression in the page (a promise is awaited). An exception is
        a :class:`BrowserError`.
        """
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the window in CSS pixels (below 600 it is a phone) and the colour scheme
        that the reader prefers.
        """
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def open(self, page: Path | str) -> None:
        """Load a file (or URL) and wait until formulas and fonts are there."""
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self._loaded = False
        self.call("Page.navigate", url=url)
        self.browser.wait_until(lambda: self._loaded)
        self.evaluate(SETTLED)

    def screenshot(self, path: Path) -> None:
        """What the window shows, as PNG."""
        path.write_bytes(
            base64.b64decode(
                self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)[
                    "data"
                ]
            )
        )
