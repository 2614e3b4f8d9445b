"""The loop in which an engine serves clients: in a thread of its own, since MLX's arrays belong to the thread that made them.

It knows engines by `submit`, `step`, `cancel` and `has_work`, and clients by their tickets. It knows nothing about HTTP.
"""

import logging
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue
from typing import Any

from tiny_llm_kit.course import task

from ..request import Request
from .outbox import Noted, Outbox, Progress
from .snapshot import EngineSnapshot, take_snapshot
from .ticket import Cancelled, Delta, EngineDead, Ticket

log = logging.getLogger(__name__)

Command = Callable[[Any], None]
"""Something to do with the engine, in its thread."""


class EngineLoop:
    """Builds an engine in a new thread, and steps it there while there is work. Without work the thread sleeps.

    All other threads send commands, and get deltas back. When the thread ends, for whatever reason, every open ticket ends with
    `EngineDead`, and no more requests are taken: no client waits for a thread that is gone.

    Args:
        build: makes the engine, in the thread. Weights that it uses must have been evaluated before.
        max_unread: most deltas that are kept for a client that does not read, see `Ticket`.
        clock: seconds; it must never go back.
    """

    def __init__(self, build: Callable[[], Any], *, max_unread: int = 256, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.turn_began: float | None = None  # None while the thread has nothing to do
        self._build = build
        self._max_unread = max_unread
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._built: Future[None] = Future()
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._stopping = False
        self._stats = EngineSnapshot()
        # Only for the thread:
        self._outbox = Outbox()
        self._progress: dict[int, Progress] = {}
        self._news: dict[int, Progress] = {}
        self._settled: list[Ticket] = []
        self._taken = 0
        # For all threads, under the lock:
        self._lock = threading.Lock()
        self._open: set[Ticket] = set()
        self._unseen = 0  # submitted, and not in `_stats` yet
        self._death: EngineDead | None = None

    # From any thread

    def start(self) -> None:
        """Start the thread and wait until the engine is built.

        Raises:
            BaseException: what `build` raised.
            RuntimeError: if it was started before, or the thread ended without reporting anything.
        """
        self._thread.start()
        while not self._built.done() and self._thread.is_alive():
            wait([self._built], timeout=0.1)
        if not self._built.done():
            raise RuntimeError("the engine's thread has ended, and never said that the engine is built: look at `_run`")
        self._built.result()

    @task(week=3, day=6, number=3)
    async def submit(self, make: Callable[[], Request], noted: Noted | None = None) -> Ticket:
        """Queue a request, and wait until the engine has taken it. The event loop goes on meanwhile.

        Cancelling the caller while it waits here cancels the request.

        Args:
            make: makes the request, in the engine's thread. Its `on_update` is taken over.
            noted: see `Delta.logprobs`; called as `noted(request, position)` with the number of tokens before the new one.
        Raises:
            EngineDead: if it would not be served.
            Exception: what `make` or the engine's `submit` raised, such as ValueError.
        """
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=3)
    def cancel(self, ticket: Ticket) -> None:
        """End a ticket, whatever its state; what its request holds is free before the next step. It does not wait."""
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")

    def post(self, command: Command) -> None:
        """Do something with the engine in its thread, between two steps. It does not wait. The command must not raise."""
        self._commands.put(command)

    def stats(self) -> EngineSnapshot:
        """What the engine looked like after the last step."""
        return self._stats

    @property
    def num_waiting(self) -> int:
        """How many requests wait: those in the engine's queue, and those on the way to it. It is never too low."""
        return self._stats.num_requests_waiting + self._unseen

    @property
    def reason(self) -> str | None:
        """Why requests can't be served; None if all is well."""
        return self._why_dead()

    @property
    def healthy(self) -> bool:
        """Whether requests can be served."""
        return self.reason is None

    def check_open(self) -> None:
        """Called under the lock before a request is taken; raises the reason against it."""
        if reason := self._why_dead():
            raise EngineDead(reason)

    def stop(self, timeout: float = 10.0) -> None:
        """End the thread after its current step. Requests that still wait or run are cancelled, and end with `EngineDead`.

        A thread that does not end within `timeout` seconds is left alone; its clients get their error all the same.
        """
        self._stopping = True
        if self._thread.ident is None:
            return
        self.post(lambda engine: None)  # wakes it up
        self._thread.join(timeout)
        self._bury()

    def _why_dead(self) -> str | None:
        if self._death is not None:
            return str(self._death)
        return None if self._thread.is_alive() else "the engine's thread does not run"

    # In the engine's thread

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            engine = self._build()
            self._stats = take_snapshot(engine)
            self._built.set_result(None)
            self._serve(engine)
        except BaseException as raised:  # whatever it is, even SystemExit, no client may wait for this thread
            error = raised
            if self._built.done():
                log.critical("the engine's thread has died", exc_info=raised)
            else:
                self._built.set_exception(raised)
        finally:
            self._bury(error)

    @task(week=3, day=6, number=3)
    def _serve(self, engine: Any) -> None:
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")

    def is_over(self) -> bool:
        """Whether the thread should end now."""
        return self._stopping

    @task(week=3, day=6, number=3)
    def _obey(self, engine: Any) -> None:
        """Carry out the pending commands; if there is nothing else to do, sleep until one comes."""
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=3)
    def step(self, engine: Any) -> list[Delta]:
        """Step the engine, and put what each request got into the outbox. Return these deltas."""
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=3)
    def _accept(self, engine: Any, ticket: Ticket, make: Callable[[], Request], noted: Noted | None) -> None:
        """Submit a request, and tell its ticket."""
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=3)
    def _cancel(self, engine: Any, ticket: Ticket) -> None:
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=3)
    def _note(self, request: Request, new_text: str) -> None:
        """The `on_update` of every request."""
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")

    def _put(self, ticket: Ticket, delta: Delta) -> None:
        self._outbox.add(ticket.loop, partial(ticket.put, delta))
        if delta.is_last:
            self._settled.append(ticket)

    def _close_turn(self, engine: Any) -> None:
        """Take the snapshot, and only then hand over what has happened: clients that hear of it find it in the snapshot."""
        with self._lock:
            self._stats = take_snapshot(engine)
            self._unseen -= self._taken
        self._taken = 0
        closed = self._outbox.send()
        for progress in [one for one in self._progress.values() if one.ticket.loop in closed]:
            self._cancel(engine, progress.ticket)
        with self._lock:  # only now: a thread that dies earlier has to tell them, too
            self._open.difference_update(self._settled)
        self._settled = []

    @task(week=3, day=6, number=3)
    def _bury(self, error: BaseException | None = None) -> None:
        """No request will be served any more: tell all waiting clients. A second call changes nothing."""
        raise NotImplementedError("Week 3 Day 6, task 3: the engine's thread. Read book/src/week3-06-server.md")
