import asyncio
from collections.abc import Callable
from contextlib import aclosing

from tiny_llm_kit.course import task

from ..request import Request
from ..server.engine_thread import Draining, QueueFull
from ..server.outbox import Noted
from ..server.ticket import Delta, EngineDead, Ticket
from .failover import GaveUp, StreamRequest, stream_with_failover


class ReplicatedEngine:
    @task(week=3, day=7, number=7)
    async def submit(self, make: Callable[[], Request], noted: Noted | None = None) -> Ticket:
        if self.draining:
            raise Draining("this server is about to end")
        if not len(self._open) < self.max_open:
            raise QueueFull(f"that would be more than {self.max_open} open requests", retry_after=1)
        own = make()
        travelling = stream_request(own)
        ticket = Ticket(self.max_unread, self.cancel)
        ticket.prompt_tokens, ticket.request_id = len(own.prompt), own.request_id
        ticket.accept()
        self._open[ticket] = asyncio.get_running_loop().create_task(self._serve(ticket, travelling))
        self._open[ticket].add_done_callback(lambda done: self._close(ticket))
        return ticket

    @task(week=3, day=7, number=7)
    async def _serve(self, ticket: Ticket, request: StreamRequest) -> None:
        pieces = stream_with_failover(self.router, request, self.upstreams, alive=self.alive)
        failure: Exception | None = None
        async with aclosing(pieces):
            try:
                while (delta := await anext(pieces, None)) is not None:
                    ticket.put(delta)
            except Exception as error:
                failure = EngineDead(f"{error}") if isinstance(error, GaveUp) else error
        if failure is not None:
            ticket.put(Delta(error=failure))

    @task(week=3, day=7, number=7)
    def cancel(self, ticket: Ticket) -> None:
        serving = self._open.get(ticket)
        if serving is not None:
            serving.cancel()
