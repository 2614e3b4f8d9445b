"""What comes before the routes: a name for each request, the API key, and a limit on what is read.

It is plain ASGI: it sees each request before the framework has read its body, and each answer, wherever it comes from.
"""

import asyncio
import hmac
import uuid
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tiny_llm_kit.course import task

from .answers import ApiError
from .error_answers import error_answer

MAX_BODY_BYTES = 2**20
BODY_SECONDS = 30.0
"""Time for a client to send its body: the server does not wait longer for a connection that sends nothing more."""

WRITE_SECONDS = 60.0
"""Time for a client to take a part of its answer."""

_DISCARDED_BODIES = 8
_LONGEST_ID = 128
_OPEN_PATHS = ("/", "/app.js", "/style.css", "/live", "/health", "/metrics", "/openapi.json")
"""Paths for a person, a load balancer or a monitor. All others need the key."""


@task(week=3, day=6, number=5)
def check_key(path: str, authorization: str | None, api_key: str | None) -> None:
    """Refuse a request without the key, if there is a key and the path needs it.

    Args:
        path: the request's path; `_OPEN_PATHS` need no key.
        authorization: the header, which must be "Bearer" and the key.
        api_key: None lets every request in.
    Raises:
        ApiError: 401. The time that the comparison takes reveals nothing about the key.
    """
    raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")


@task(week=3, day=6, number=5)
async def read_body(receive: Receive, most: int, announced: str | None = None) -> bytes:
    """The whole body of a request; never more than `most` bytes are kept.

    Most clients read an answer only when they have sent everything, so the rest of a body that is too large is read and thrown
    away, up to `_DISCARDED_BODIES` times the limit; then the connection is cut. If more is announced, nothing is read.

    Args:
        announced: the header content-length, which may be missing or wrong.
    Raises:
        ApiError: 413 if the body is larger; 408 if it has not arrived after `BODY_SECONDS`.
        ClientDisconnect: if the client leaves while sending.
    """
    raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")


class Guard:
    """The outermost part of the app that is the course's own. See `check_key` and `read_body`.

    Each answer carries the `x-request-id` of its request, or a new one, by which a client can find it in a log. An unexpected
    exception is answered as an error 500 in OpenAI's format, and raised again for the log.
    """

    def __init__(self, app: ASGIApp, api_key: str | None = None, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.api_key = api_key
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"")[:_LONGEST_ID] or uuid.uuid4().hex.encode()
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", request_id)]}
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await send(message)
            except TimeoutError:
                raise ClientDisconnect() from None

        try:
            check_key(scope["path"], _text(headers.get(b"authorization")), self.api_key)
            body = await read_body(receive, self.max_body_bytes, _text(headers.get(b"content-length")))
            await self.app(scope, _replay(body, receive), send_with_id)
        except ClientDisconnect:
            pass
        except ApiError as error:
            await error_answer(error)(scope, receive, send_with_id)
        except Exception:
            if not begun:
                mistake = ApiError(500, "the server has made a mistake: its log says which", "server_error")
                await error_answer(mistake)(scope, receive, send_with_id)
            raise


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body that has been read, and then continues as the other one."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")
