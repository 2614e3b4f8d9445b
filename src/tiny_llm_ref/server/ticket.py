"""A ticket: one request as its client sees it, in the client's event loop.

It knows no engine and no arrays: it is given deltas, and hands them to its reader.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tiny_llm_kit.course import task


class ServingError(Exception):
    """Why a request was not taken, or not served to its end."""


class EngineDead(ServingError):
    """The engine's thread has ended, or hangs: no request is served until the server is restarted."""


class Cancelled(ServingError):
    """The request was cancelled, usually because its client has gone."""


class SlowReader(ServingError):
    """The client did not read, and more was kept for it than a server can keep for one client."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What a request has got in one step. The last one of a ticket has a `finish_reason` or an `error`.

    Args:
        text: new text, which may be empty: a token may be part of a letter, or of what could become a stop string.
        tokens: new tokens.
        logprobs: what `submit` was asked to note for each of them, in order; empty if nothing was asked.
        finish_reason: "stop" or "length".
        error: why the answer is not complete.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[Any, ...] = ()
    finish_reason: str | None = None
    error: BaseException | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return self.finish_reason is not None or self.error is not None


class Ticket:
    """A queue of deltas from the engine's thread to one reader: `async for delta in ticket`.

    Everything here happens in the event loop that the ticket was made in, so nothing needs a lock.

    Args:
        max_unread: most deltas that are kept for a client that does not read.
        give_up: called with the ticket when its request is no longer wanted.
    """

    def __init__(self, max_unread: int, give_up: "Callable[[Ticket], None]") -> None:
        self.loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = self.loop.create_future()
        self.request_id: int | None = None
        self.prompt_tokens = 0
        self.ended = False
        self._max_unread = max_unread
        self._give_up = give_up
        self._unread: deque[Delta] = deque()
        self._news = asyncio.Event()

    def accept(self) -> None:
        """The engine has queued the request: `request_id` and `prompt_tokens` are known."""
        if not self.accepted.done():  # the waiting caller may have gone
            self.accepted.set_result(None)

    def fail(self, error: BaseException) -> None:
        """The request was not taken, or will not be served to its end."""
        self.put(Delta(error=error))
        if not self.accepted.done():
            self.accepted.set_exception(error)

    def cancel(self) -> None:
        """The rest is no longer wanted: the engine need not compute it. Once the ticket has ended this changes nothing."""
        if not self.ended:
            self._give_up(self)

    @task(week=3, day=6, number=3)
    def put(self, delta: Delta) -> None:
        """Keep a delta until it is read. What comes after the last one is dropped.

        If `max_unread` are kept already, the ticket ends with a `SlowReader` in its place, and is cancelled. What was kept
        before can still be read, so a reader always has the beginning of the answer without a gap.
        """
        if self.ended:
            return
        if len(self._unread) >= self._max_unread:
            self._give_up(self)
            delta = Delta(error=SlowReader(f"the client did not read {self._max_unread} parts of its answer: it was cancelled"))
        self._unread.append(delta)
        self.ended = delta.is_last
        self._news.set()

    def __aiter__(self) -> "Ticket":
        return self

    @task(week=3, day=6, number=3)
    async def __anext__(self) -> Delta:
        """The next delta, as soon as there is one; after the last one the iteration ends."""
        while not self._unread:
            if self.ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._unread.popleft()

    async def whole(self) -> Delta:
        """Read to the end, and return all of it as one delta.

        Raises:
            BaseException: what the request ended with, if that was an error. An answer that broke off is not an answer.
        """
        deltas = [delta async for delta in self]
        if deltas[-1].error is not None:
            raise deltas[-1].error
        return Delta(
            text="".join(delta.text for delta in deltas),
            tokens=tuple(token for delta in deltas for token in delta.tokens),
            logprobs=tuple(one for delta in deltas for one in delta.logprobs),
            finish_reason=deltas[-1].finish_reason,
        )
