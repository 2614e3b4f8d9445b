"""Many engines that look like one: it takes requests and gives tickets, as an `EngineThread` does, but replicas compute.

So the app of day 6 serves replicas without knowing about them.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from tiny_llm_kit.course import task

from ..request import Request
from ..server.answers import ApiError
from ..server.engine_thread import Draining, QueueFull
from ..server.outbox import Noted
from ..server.snapshot import EngineSnapshot
from ..server.ticket import Cancelled, Delta, EngineDead, Ticket
from .failover import GaveUp, StreamRequest, Upstream, stream_with_failover
from .routers import Router


def stream_request(request: Request) -> StreamRequest:
    """A request of this process, in a form that can be sent.

    Raises:
        ApiError: 400, for what replicas do not support: `logit_bias`, `logprobs` and `response_format`.
    """
    sampler = request.sampler
    for name in ("logit_bias", "alternatives", "guide"):
        if getattr(sampler, name, None) not in (None, {}):
            wish = {"alternatives": "logprobs", "guide": "response_format"}.get(name, name)
            raise ApiError(400, f"{wish} is not served by replicas: leave it out, or ask a server with one engine", param=wish)
    return StreamRequest(
        uuid.uuid4().hex,
        tuple(request.prompt),
        request.max_tokens,
        getattr(request, "user", ""),
        sampler.params,
        frozenset(request.eos_token_ids),
        tuple(request.stop),
    )


class ReplicatedEngine:
    """Belongs to one event loop.

    Args:
        router, upstreams, alive: see `stream_with_failover`.
        max_open: most requests that are open at once.
        max_unread: see `Ticket`.
    """

    def __init__(
        self,
        router: Router,
        upstreams: Mapping[str, Upstream[Delta]],
        alive: Callable[[str], Awaitable[bool]] | None = None,
        *,
        max_open: int = 512,
        max_unread: int = 1024,
    ) -> None:
        self.router = router
        self.upstreams = upstreams
        self.alive = alive
        self.max_open = max_open
        self.max_unread = max_unread
        self.draining = False
        self._open: dict[Ticket, asyncio.Task[None]] = {}

    @task(week=3, day=7, number=7)
    async def submit(self, make: Callable[[], Request], noted: Noted | None = None) -> Ticket:
        """Take a request; its ticket gets the deltas of a stream with fail-over.

        Raises:
            Draining, QueueFull: as `EngineThread.submit`.
            Exception: what `make` raises.
        """
        if self.draining:
            raise Draining("the server is shutting down and takes no new requests")
        if len(self._open) >= self.max_open:
            raise QueueFull(f"{self.max_open} requests are open already: try again in a second", 1)
        own = make()
        request = stream_request(own)
        ticket = Ticket(self.max_unread, self.cancel)
        ticket.request_id, ticket.prompt_tokens = own.request_id, len(own.prompt)
        task = asyncio.create_task(self._serve(ticket, request))
        self._open[ticket] = task
        task.add_done_callback(lambda _: self._close(ticket))
        ticket.accept()
        return ticket

    @task(week=3, day=7, number=7)
    async def _serve(self, ticket: Ticket, request: StreamRequest) -> None:
        """Hand a ticket its deltas; if the stream ends with an error, that is in the last one."""
        try:
            async with aclosing(stream_with_failover(self.router, request, self.upstreams, alive=self.alive)) as deltas:
                async for delta in deltas:
                    ticket.put(delta)
        except GaveUp as error:
            ticket.put(Delta(error=EngineDead(str(error))))
        except Exception as error:
            ticket.put(Delta(error=error))

    def _close(self, ticket: Ticket) -> None:
        """Its task has ended, or was cancelled, possibly before it began."""
        del self._open[ticket]
        ticket.put(Delta(error=Cancelled("the request was cancelled")))  # which is dropped if the ticket has ended

    @task(week=3, day=7, number=7)
    def cancel(self, ticket: Ticket) -> None:
        """The rest is no longer wanted: tell its replica."""
        if ticket in self._open:
            self._open[ticket].cancel()

    async def drain(self, timeout: float) -> bool:
        """Take no new requests, and let the others end. Those that have not after `timeout` seconds are cancelled.

        Returns:
            Whether all of them ended by themselves.
        """
        self.draining = True
        tasks = list(self._open.values())
        late = (await asyncio.wait(tasks, timeout=timeout))[1] if tasks else set()
        for one in late:
            one.cancel()
        return not late

    def post(self, command: Callable[[Any], None]) -> None:
        """There is no engine here that a command could use."""

    @property
    def reason(self) -> str | None:
        """Why no requests should be sent here; None if all is well. Ray watches the health of the replicas."""
        return "the server is shutting down" if self.draining else None

    @property
    def healthy(self) -> bool:
        """Whether requests can be served."""
        return self.reason is None

    @property
    def num_waiting(self) -> int:
        """No request waits here: the queues are in the replicas."""
        return 0

    def stats(self) -> EngineSnapshot:
        """What is open here. The engines, and their figures, are elsewhere."""
        return EngineSnapshot(num_requests_running=len(self._open), max_running=self.max_open, kv_unit="none")
