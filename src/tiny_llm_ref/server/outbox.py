"""What goes from the engine's thread to event loops, collected over one step and handed over at once.

Waking an event loop costs more than handing it a delta. So each loop is woken once per step, for all of its clients.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from tiny_llm_kit.course import task

from ..request import Request
from .ticket import Cancelled, Delta, Ticket

Noted = Callable[[Request, int], Any]
"""Called with a request and the number of tokens before a new one, in the engine's thread."""


class Progress:
    """What the engine's thread knows about an open request: how much of it the ticket has received.

    Args:
        noted: what to put into `Delta.logprobs` for each new token; None: nothing.
    """

    def __init__(self, ticket: Ticket, request: Request, noted: Noted | None) -> None:
        self.ticket = ticket
        self.request = request
        self._noted = noted
        self._logprobs: list[Any] = []
        self._tokens = self._letters = 0

    @task(week=3, day=6, number=3)
    def note(self) -> None:
        """Take notes of the newest tokens. It is called while the request is served, so an error ends only this one."""
        if self._noted is not None:
            before = len(self.request.prompt) + self._tokens + len(self._logprobs)
            now = len(self.request.prompt) + len(self.request.generated_tokens)
            self._logprobs += [self._noted(self.request, position) for position in range(before, now)]

    @task(week=3, day=6, number=3)
    def take(self) -> Delta:
        """All that has come since the last look."""
        request = self.request
        tokens, text = request.generated_tokens[self._tokens :], request.text[self._letters :]
        self._tokens += len(tokens)
        self._letters += len(text)
        logprobs, self._logprobs = self._logprobs, []
        return Delta(text, tuple(tokens), tuple(logprobs), *_end_of(request))


@task(week=3, day=6, number=3)
def _end_of(request: Request) -> tuple[str | None, BaseException | None]:
    """The finish reason and the error. An answer that a client gets as complete must be complete."""
    if request.finish_reason is None:
        return None, None
    if request.error is not None:
        return None, request.error
    if request.finish_reason not in ("stop", "length"):
        return None, Cancelled(f"the request was {request.finish_reason} after {len(request.generated_tokens)} tokens")
    problem = getattr(request.sampler, "error", "")  # of a sampler that may have to give up, such as one that follows a schema
    if problem:
        return None, RuntimeError(f"the answer could not be continued: {problem}")
    return request.finish_reason, None


class Outbox:
    """Calls that wait for their event loop. It belongs to the engine's thread."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = defaultdict(list)

    def add(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Let `loop` make this call, after those added before."""
        self._calls[loop].append(call)

    @task(week=3, day=6, number=3)
    def send(self) -> list[asyncio.AbstractEventLoop]:
        """Hand everything over; return the loops that are closed, whose clients are gone."""
        calls, self._calls = self._calls, defaultdict(list)
        closed = []
        for loop, mine in calls.items():
            try:
                loop.call_soon_threadsafe(_make_all, mine)
            except RuntimeError:
                closed.append(loop)
        return closed


def _make_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
