"""A server in this process for as long as a block lasts, and a probe in its event loop."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tiny_llm_kit.cli.server_process import Server, take_port

PROBE_SECONDS = 0.01
_PATIENCE = 10.0


class LoopProbe:
    """Asks an event loop to be called in a moment, again and again. By how many seconds it is called too late is its lag."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """To be called in the loop; its end is the probe's."""
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            self.lags.append(max(0.0, time.monotonic() - due))


@contextmanager
def live_server(app: Any, probe: LoopProbe) -> Iterator[str]:
    """The URL of the app, which is served at a free port of this machine by a thread of this process.

    Raises:
        RuntimeError: if the server does not start.
    """
    ready = threading.Event()

    def begin() -> None:
        probe.start()
        ready.set()

    with take_port("127.0.0.1", 0) as taken:
        server = Server(app, begin)
        serving = threading.Thread(target=server.run, args=([taken],), name="server", daemon=True)
        serving.start()
        try:
            if not ready.wait(_PATIENCE):
                raise RuntimeError(f"the server was not ready after {_PATIENCE:g} s")
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        finally:
            server.should_exit = True
            serving.join(_PATIENCE)
