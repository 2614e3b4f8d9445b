"""An HTTP client that speaks ASGI to an app, without a socket: it can hang up, send its body in pieces, and read slowly.

The app is called as a server would call it, so a test decides what happens when, to the message.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self

from patience import PATIENCE


class Exchange:
    """One request and its answer: `async with Exchange(app, "/v1/completions", {...}) as exchange`, until the block ends.

    Args:
        body: sent as JSON, or as it is if it is bytes, or piece by piece if it is a list of bytes. None: a GET without one.
        ends: whether the client says that its body is complete.
    """

    def __init__(
        self,
        app: Any,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
        ends: bool = True,
    ) -> None:
        self.app = app
        pieces = [] if body is None else body if isinstance(body, list) else [body]
        pieces = [piece if isinstance(piece, bytes) else json.dumps(piece).encode() for piece in pieces] or [b""]
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method or ("GET" if body is None else "POST"),
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (name.lower().encode(), value.encode("latin-1"))
                for name, value in {"host": "test", "content-type": "application/json", **(headers or {})}.items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        self.taken = 0
        """Bytes of the body that the app has asked for."""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for number, piece in enumerate(pieces):
            more = number < len(pieces) - 1 or not ends
            self._incoming.put_nowait({"type": "http.request", "body": piece, "more_body": more})
        self._reading = asyncio.Event()
        self._reading.set()
        self._news = asyncio.Event()
        self._over = False

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.app(self.scope, self._receive, self._send))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.hang_up()
        self._reading.set()
        await asyncio.wait([self.task], timeout=PATIENCE)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def hang_up(self) -> None:
        """The client's end of the connection is closed."""
        self._over = True
        self._incoming.put_nowait({"type": "http.disconnect"})
        self._news.set()

    def stop_reading(self) -> None:
        """What the app sends from now on does not arrive, and it waits until it does."""
        self._reading.clear()

    async def answered(self) -> Self:
        """Wait for the end of the answer."""
        await asyncio.wait([self.task], timeout=PATIENCE)
        if not self.task.done():
            raise AssertionError(f"no end of the answer to {self.scope['path']} after {PATIENCE:.0f} s: {self.body[-300:]!r}")
        if isinstance(error := self.task.exception(), NotImplementedError):
            raise error  # of a stub: it names the task
        if not self.complete:
            self.task.result()  # which is how it failed
            raise AssertionError(f"{self.scope['path']} was not answered completely: {self.body[-300:]!r}")
        return self

    async def until(self, text: bytes) -> None:
        """Wait until the answer holds this."""
        async with asyncio.timeout(PATIENCE):
            while text not in self.body:
                if self.complete or self.task.done():
                    raise AssertionError(f"the answer to {self.scope['path']} ended without {text!r}: {self.body[-300:]!r}")
                self._news.clear()
                await asyncio.wait([self.task, asyncio.ensure_future(self._news.wait())], return_when=asyncio.FIRST_COMPLETED)

    def json(self) -> Any:
        """The answer, which must be JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise AssertionError(f"{self.scope['path']} answered {self.status} with no JSON: {self.body[:300]!r}") from None

    def events(self) -> list[Any]:
        """The data of the stream's events, without [DONE]."""
        return [json.loads(data) for data in self.data() if data != "[DONE]"]

    def data(self) -> list[str]:
        """The data of the stream's events as they came."""
        blocks = self.body.decode().split("\n\n")
        return [
            "\n".join(line[6:] for line in block.split("\n") if line.startswith("data: "))
            for block in blocks
            if "data: " in block
        ]

    async def _receive(self) -> dict[str, Any]:
        message = await self._incoming.get()
        if message["type"] == "http.disconnect":
            self._incoming.put_nowait(message)  # an app that asks again hears it again
        self.taken += len(message.get("body", b""))
        return message

    async def _send(self, message: Any) -> None:
        await self._reading.wait()
        if self._over:
            return  # as uvicorn does: the app is not told here that no client listens
        if message["type"] == "http.response.start":
            assert self.status is None, "an answer began twice"
            self.status = message["status"]
            self.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)
            if self.complete:
                self._incoming.put_nowait({"type": "http.disconnect"})  # as uvicorn does
        self._news.set()


async def ask(app: Any, path: str, body: Any = None, **options: Any) -> Exchange:
    """A whole exchange."""
    async with Exchange(app, path, body, **options) as exchange:
        return await exchange.answered()
