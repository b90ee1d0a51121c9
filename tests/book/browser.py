"""Headless Chromium over its debugging pipe: open a page from a file, hear every request and every complaint.

No driver and no port: Chromium reads commands from file descriptor 3 and writes answers to 4, one JSON text each,
ended by a NUL byte (`--remote-debugging-pipe`).
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
from pathlib import Path

BINARIES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
)


class BrowserError(Exception):
    """Chromium is missing, died, or did not answer in time."""


class Browser:
    """One Chromium process. Use as a context manager; `visit` opens a page and tells what happened on it."""

    def __init__(self, timeout: float = 180.0):  # a busy machine is slow, not broken
        binary = next(filter(None, map(shutil.which, BINARIES)), None)
        if binary is None:
            raise BrowserError("Chromium is not installed (Debian: `apt-get install chromium`)")
        self.timeout, self._buffer, self._id = timeout, b"", 0
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        # a shell moves the pipes to the numbers that Chromium expects
        command = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null', "sh", binary, *FLAGS]
        self._process = subprocess.Popen(
            [*command, "--remote-debugging-pipe", f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
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

    def visit(self, page: Path | str, width: int = 1400, height: int = 900, scheme: str = "light", screenshot: Path | None = None) -> Visit:
        """Open a file (or URL) in a fresh tab of the given size and colour scheme and wait until it has settled."""
        url = page if isinstance(page, str) else page.resolve().as_uri()
        context = self._call("Target.createBrowserContext")["browserContextId"]
        target = self._call("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        visit = Visit(url)

        def call(method, **parameters):
            return self._call(method, parameters, session, visit.hear)

        for domain in ("Page", "Runtime", "Log", "Network"):
            call(f"{domain}.enable")
        call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        call("Page.navigate", url=url)
        deadline = time.monotonic() + self.timeout
        while not visit.loaded:
            visit.hear(self._message(deadline))
        ready = """(async () => {
            if (window.MathJax && MathJax.startup && MathJax.startup.promise) await MathJax.startup.promise;
            await document.fonts.ready;
            await new Promise(done => setTimeout(done, 150));
        })()"""
        self._evaluate(call, ready)
        visit.facts = self._evaluate(call, FACTS)
        if screenshot:
            shot = call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
            screenshot.write_bytes(base64.b64decode(shot["data"]))
        self._call("Target.closeTarget", {"targetId": target})
        self._call("Target.disposeBrowserContext", {"browserContextId": context})
        return visit

    def _evaluate(self, call, expression: str):
        answer = call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def _call(self, method: str, parameters: dict | None = None, session: str | None = None, hear=lambda message: None) -> dict:
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters or {}} | ({"sessionId": session} if session else {})
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + self.timeout
        while True:
            answer = self._message(deadline)
            if answer.get("id") == self._id:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            if session is None or answer.get("sessionId") == session:
                hear(answer)

    def _message(self, deadline: float) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 1 << 20) if ready else b""
            if not chunk:
                raise BrowserError("Chromium ended" if ready else f"Chromium did not answer within {self.timeout:.0f} s")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)


#: measured in the page: how much wider it is than the window (and what sticks out), formulas and how many were typeset,
#: images that did not load
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
    };
})()"""


class Visit:
    """What happened on a page: `errors` (console errors, exceptions), `foreign` and `failed` requests, `facts` (see FACTS)."""

    def __init__(self, url: str):
        self.url, self.loaded, self.facts = url, False, {}
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.failed: list[str] = []
        self._urls: dict[str, str] = {}

    def hear(self, message: dict) -> None:
        method, p = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent":
            url = p["request"]["url"]
            self._urls[p["requestId"]] = url
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.foreign.append(url)
        elif method == "Network.loadingFailed" and not p.get("canceled"):
            self.failed.append(f"{self._urls.get(p['requestId'], '?')}: {p.get('errorText')}")
        elif method == "Log.entryAdded" and p["entry"]["level"] == "error":
            self.errors.append(f"{p['entry']['text']} ({p['entry'].get('url', '')})")
        elif method == "Runtime.consoleAPICalled" and p["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in p["args"]))
        elif method == "Runtime.exceptionThrown":
            details = p["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])

    def complaints(self) -> list[str]:
        """Everything that is not as it should be, as sentences."""
        facts = self.facts
        found = [f"console error: {e}" for e in self.errors] + [f"foreign request: {u}" for u in self.foreign]
        found += [f"failed request: {u}" for u in self.failed] + [f"broken image: {u}" for u in facts["broken_images"]]
        if facts["overflow"] > 1 or facts["wide"]:
            found.append(f"wider than the window by {facts['overflow']} px: {', '.join(facts['wide'])}")
        if facts["typeset"] < facts["formulas"] or facts["formula_errors"]:
            found.append(f"{facts['typeset']} of {facts['formulas']} formulas typeset, {facts['formula_errors']} errors")
        return found
