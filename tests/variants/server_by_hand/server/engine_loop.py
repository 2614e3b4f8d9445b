from collections.abc import Callable
from queue import Empty
from typing import Any

from tiny_llm_kit.course import task

from ..request import Request
from .outbox import Noted, Progress
from .snapshot import EngineSnapshot
from .ticket import Cancelled, Delta, EngineDead, Ticket


class EngineLoop:
    @task(week=3, day=6, number=3)
    async def submit(self, make: Callable[[], Request], noted: Noted | None = None) -> Ticket:
        ticket = Ticket(self._max_unread, self.cancel)

        def accept(engine: Any) -> None:
            self._taken += 1
            try:
                request = make()
                request.on_update = self._heard
                engine.submit(request)
            except Exception as refusal:
                self._settled.append(ticket)
                self._outbox.add(ticket.loop, lambda refusal=refusal: ticket.fail(refusal))
            else:
                ticket.request_id = request.request_id
                ticket.prompt_tokens = len(request.prompt)
                self._progress[request.request_id] = Progress(ticket, request, noted)
                self._outbox.add(ticket.loop, ticket.accept)

        with self._lock:
            self.check_open()
            self._unseen += 1
            self._open.add(ticket)
            self._commands.put(accept)
        taken = False
        try:
            await ticket.accepted
            taken = True
        finally:
            if not taken:
                ticket.cancel()
        return ticket

    @task(week=3, day=6, number=3)
    def cancel(self, ticket: Ticket) -> None:
        self.post(lambda engine: self._cancel(engine, ticket))

    @task(week=3, day=6, number=3)
    def _serve(self, engine: Any) -> None:
        while True:
            if self.is_over():
                break
            self._obey(engine)
            if engine.has_work:
                self.step(engine)
            self._close_turn(engine)
        while self._progress:
            _, progress = self._progress.popitem()
            engine.cancel(progress.request)

    @task(week=3, day=6, number=3)
    def _obey(self, engine: Any) -> None:
        if not engine.has_work:
            self.turn_began = None
            command = self._commands.get()
            self.turn_began = self.clock()
            command(engine)
        else:
            self.turn_began = self.clock()
        while True:
            try:
                command = self._commands.get_nowait()
            except Empty:
                return
            command(engine)

    @task(week=3, day=6, number=3)
    def step(self, engine: Any) -> list[Delta]:
        returned = engine.step()
        ids = dict.fromkeys([*self._news, *(request.request_id for request in returned)])
        self._news = {}
        deltas = []
        for request_id in ids:
            progress = self._progress.get(request_id)
            if progress is None:
                continue
            deltas.append(progress.take())
            if deltas[-1].is_last:
                self._progress.pop(request_id)
            self._put(progress.ticket, deltas[-1])
        return deltas

    @task(week=3, day=6, number=3)
    def _cancel(self, engine: Any, ticket: Ticket) -> None:
        for request_id, progress in list(self._progress.items()):
            if progress.ticket is ticket:
                del self._progress[request_id]
                engine.cancel(progress.request)
                self._put(ticket, Delta(error=Cancelled("nobody wanted the answer any more")))

    def _heard(self, request: Request, new_text: str) -> None:
        if request.request_id in self._progress:
            self._news[request.request_id] = self._progress[request.request_id]
            self._progress[request.request_id].note()

    @task(week=3, day=6, number=3)
    def _bury(self, error: BaseException | None = None) -> None:
        with self._lock:
            if self._death is None:
                self._death = EngineDead(f"the thread has died: {error!r}" if error is not None else "it was stopped")
                self._death.__cause__ = error
            self._stats = EngineSnapshot()
            waiting = list(self._open)
            self._open = set()
        for ticket in waiting:
            try:
                ticket.loop.call_soon_threadsafe(ticket.fail, self._death)
            except RuntimeError:  # its loop is closed, so nobody waits there
                continue
