"""A headless Chromium, asked through a pipe by the DevTools protocol: pages as a person meets them, with the network on."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 30.0


class Page:
    """One page. `evaluate` runs JavaScript in it."""

    def __init__(self, write: int, read: int) -> None:
        self._write = write
        self._read = read
        self._unread = b""
        self._last = 0
        self._session: str | None = None

    def open(self, url: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of what its promise brings. AssertionError if it throws."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until the expression is true."""
        end = time.monotonic() + PATIENCE
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"never true: {expression}; the page says {self.evaluate('document.body.innerText')}"
            time.sleep(0.03)
        return value

    def press(self, key: str) -> None:
        """A key, as from a keyboard: "Enter", "Tab", or a letter."""
        codes = {"Enter": (13, "\r"), "Tab": (9, "")}
        code, text = codes.get(key, (0, key if len(key) == 1 else ""))
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def call(self, method: str, **params: Any) -> Any:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            pass  # events
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._unread:
            part = os.read(self._read, 1 << 16)
            assert part, "the browser has ended"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


@contextmanager
def open_page(url: str, profile: Path) -> Iterator[Page]:
    """The page at `url`; skips the test if there is no browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no browser: install chromium (apt-get install chromium) to have pages tried in one")
    (from_us, to_browser), (from_browser, to_us) = os.pipe(), os.pipe()
    options = f"--headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir='{profile}'"
    process = subprocess.Popen(  # it reads from 3 and writes to 4
        ["bash", "-c", f"exec '{browser}' {options} about:blank 3<&{from_us} 4>&{to_us}"],
        pass_fds=(from_us, to_us),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(from_us)
    os.close(to_us)
    try:
        page = Page(to_browser, from_browser)
        page.open(url)
        yield page
    finally:
        os.close(to_browser)
        os.close(from_browser)
        process.kill()
        process.wait()
