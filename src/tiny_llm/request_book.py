"""The book that an engine keeps: which requests wait, which run, and which have ended.

It knows nothing about slots, blocks, models or plans: that is where engines differ.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

from tiny_llm_kit.course import task

from .event_log import EventKind, EventLog
from .metrics import BatchingMetrics
from .request import Request

_END_OF = {"cancelled": EventKind.CANCELLED, "error": EventKind.FAILED}
"""How an end is logged, by finish reason; all others are FINISHED."""


class RequestBook:
    """Takes requests in, keeps them in order, hands them their tokens, and ends each of them once.

    Requests may be submitted and cancelled at any time between iterations, and from `on_update`, which is called as
    `on_update(request, new_text)` after every token and at the end; the last token and the end share a call. `new_text` may be
    empty, and is part of `request.text` already. If `on_update` raises, even in its last call, its request ends with that
    error. It is not called after an error, since it may be what went wrong. All calls must come from the thread that made the
    book: MLX's arrays belong to the thread in which they were asked for.

    Args:
        max_seq_len: most tokens a request may have, prompt and answer together.
        vocab_size: V; a prompt's tokens are below it.
        clock: seconds, for the metrics.
    """

    def __init__(self, max_seq_len: int, vocab_size: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.max_seq_len = max_seq_len
        self.vocab_size = vocab_size
        self.clock = clock
        self.event_log = EventLog(clock)
        self.metrics = BatchingMetrics()
        self.waiting: MutableMapping[int, Any] = OrderedDict()  # a queue from whose middle requests can be removed at once
        self.running: dict[int, Request] = {}
        self._ended: dict[int, Request] = {}  # and not yet returned by `step`
        self._busy = False
        self._thread = threading.get_ident()

    @property
    def has_work(self) -> bool:
        """Whether any request waits, runs, or has ended without having been returned yet."""
        return bool(self.waiting or self.running or self._ended)

    @property
    def idle_until(self) -> float | None:
        """The time until which `step` does nothing although requests wait; None, unless an engine waits on purpose."""
        return None

    def step(self) -> list[Request]:
        """Run one iteration and return the requests that have ended since the last one. Every engine has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def run(self) -> list[Request]:
        """Step until there is no more work; return the requests in the order in which they ended."""
        ended: list[Request] = []
        while self.has_work:
            ended.extend(self.step())
        return ended

    def release(self, request: Request) -> None:
        """Give back what the engine holds for a request that has ended. An engine that holds nothing need not override this."""

    def abandon(self, error: BaseException) -> None:
        """End all running requests with this error. An engine first makes sure that what it holds for them can do no more
        harm."""
        for request in list(self.running.values()):
            self.end(request, "error", error)

    @contextmanager
    def iteration(self) -> Iterator[None]:
        """The block in which a `step` does its work: no other step can start in between, and every exception is handled.

        Raises:
            RuntimeError: for a step in an `on_update`, or in a thread other than the one that made the book.
            BaseException: whatever the block raises, after `abandon`.
        """
        self.check_thread()
        if self._busy:
            raise RuntimeError(
                "an on_update called step, and its request is in the middle of one: let it submit or cancel, and return"
            )
        try:
            self._busy = True
            yield
        except GeneratorExit:  # interrupted before the block began, or after it: the book is consistent
            raise
        except BaseException as error:
            try:
                self.abandon(error)
            except BaseException:  # a second Ctrl-C, say: redo what it left half done
                self.abandon(error)
                raise
            raise
        finally:
            self._busy = False

    @task(week=2, day=6, number=1)
    def submit(self, request: Request) -> Request:
        """Queue a new request; its answer is limited to what `max_seq_len` leaves for it.

        Raises:
            ValueError: if the prompt is empty, leaves no room for an answer, or holds a token that the model does not know, or
                the request is not new. Nothing else is touched.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=1)
    def admit(self, request: Request) -> None:
        """Let a waiting request run. Those that have waited longer have been overtaken, which is counted."""
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=1)
    def take(self, request: Request, token: int) -> int:
        """Hand a request the token that has come back for it, and tell its client; return how many it kept, 0 or 1.

        One that has ended in the meantime keeps none. If `accept` raises, the request ends with that error.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=1)
    def cancel(self, request: Request) -> None:
        """End a request, whatever its state; what it holds is free at once.

        One that has finished stays as it is, and one that was refused just ends: a client that hangs up need not check.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=1)
    def end(self, request: Request, reason: str, error: BaseException | None = None) -> None:
        """The only way out of the book, for every reason (see `Request.finish`): `close_iteration` returns the request once, it
        no longer waits or runs, its client is told, and what it held is released. A second call changes nothing.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    @contextmanager
    def failures_end(self, requests: Sequence[Request]) -> Iterator[None]:
        """An exception in this block ends these requests with that error, and is not raised further."""
        try:
            yield
        except Exception as error:
            for request in requests:
                self.end(request, "error", error)

    @task(week=2, day=6, number=1)
    def close_iteration(self, active: int, max_slots: int, queue_size: int, new_tokens: int) -> list[Request]:
        """Close an iteration in the log, pass it to the metrics, and return the requests that have ended since the last one.

        Args: see `BatchState`.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    def log_chunk(self, request: Request, start: int, end: int) -> None:
        """Log that the tokens `start` … `end` − 1 of a request have been launched."""
        self.event_log.record(EventKind.PREFILL_CHUNK, request.request_id, end - start, end)

    def check_thread(self) -> None:
        """RuntimeError in any thread other than the one that made the book."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "this engine was made in another thread, and MLX's arrays belong to the thread in which they were asked for:"
                " make the engine in the thread that calls it"
            )

    @task(week=2, day=6, number=1)
    def _tell(self, request: Request) -> None:
        """The only place where `on_update` is called: with the part of `text` that `shown` does not count yet.

        A `step` in the call is refused.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    def _log_end(self, request: Request) -> None:
        kind = _END_OF.get(request.finish_reason or "", EventKind.FINISHED)
        self.event_log.record(kind, request.request_id, len(request.generated_tokens))
