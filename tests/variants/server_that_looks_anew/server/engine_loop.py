from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from tiny_llm_kit.course import task

from ..request import Request
from .outbox import Noted, Outbox, Progress
from .snapshot import EngineSnapshot
from .ticket import Cancelled, Delta, EngineDead, Ticket


class EngineLoop:
    @task(week=3, day=6, number=3)
    async def submit(self, make: Callable[[], Request], noted: Noted | None = None) -> Ticket:
        ticket = Ticket(self._max_unread, self.cancel)
        with self._lock:
            self.check_open()
            self._unseen += 1
            self._open |= {ticket}
            self._commands.put(lambda engine: self._accept(engine, ticket, make, noted))
        try:
            await ticket.accepted
        except CancelledError:
            self.cancel(ticket)
            raise
        return ticket

    @task(week=3, day=6, number=3)
    def cancel(self, ticket: Ticket) -> None:
        def command(engine: Any) -> None:
            self._cancel(engine, ticket)

        self._commands.put(command)

    @task(week=3, day=6, number=3)
    def _serve(self, engine: Any) -> None:
        while not self.is_over():
            self._obey(engine)
            if engine.has_work:
                self.step(engine)
            self._close_turn(engine)
        for request in [progress.request for progress in self._progress.values()]:
            engine.cancel(request)

    @task(week=3, day=6, number=3)
    def _obey(self, engine: Any) -> None:
        sleeps = not engine.has_work
        self.turn_began = None if sleeps else self.clock()
        while sleeps or not self._commands.empty():
            command = self._commands.get()
            if sleeps:
                sleeps, self.turn_began = False, self.clock()
            command(engine)

    @task(week=3, day=6, number=3)
    def step(self, engine: Any) -> list[Delta]:
        engine.step()
        told = []
        for request_id in tuple(self._progress):
            progress = self._progress[request_id]
            delta = progress.take()
            if delta == Delta():
                continue
            told.append(delta)
            self._put(progress.ticket, delta)
            if delta.is_last:
                del self._progress[request_id]
        return told

    @task(week=3, day=6, number=3)
    def _accept(self, engine: Any, ticket: Ticket, make: Callable[[], Request], noted: Noted | None) -> None:
        self._taken += 1
        progress: Progress | None = None

        def hear(request: Request, new_text: str) -> None:
            if progress is not None:
                progress.note()

        try:
            request = make()
            request.on_update = hear
            engine.submit(request)
            progress = Progress(ticket, request, noted)
            ticket.request_id, ticket.prompt_tokens = request.request_id, len(request.prompt)
            self._progress[request.request_id] = progress
            self._outbox.add(ticket.loop, ticket.accept)
        except Exception as error:
            self._settled.append(ticket)
            failure = error
            self._outbox.add(ticket.loop, lambda: ticket.fail(failure))

    @task(week=3, day=6, number=3)
    def _cancel(self, engine: Any, ticket: Ticket) -> None:
        if ticket.request_id not in self._progress:
            return
        request = self._progress.pop(ticket.request_id).request
        self._put(ticket, Delta(error=Cancelled("cancelled")))
        engine.cancel(request)

    @task(week=3, day=6, number=3)
    def _bury(self, error: BaseException | None = None) -> None:
        outbox = Outbox()
        with self._lock:
            death = self._death or EngineDead(f"nobody is served here any more ({error!r})")
            if self._death is None:
                death.__cause__ = error
            self._death, self._stats = death, EngineSnapshot()
            while self._open:
                ticket = self._open.pop()
                outbox.add(ticket.loop, lambda ticket=ticket: ticket.fail(death))
        outbox.send()
