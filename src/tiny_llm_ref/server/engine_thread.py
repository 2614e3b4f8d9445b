"""The engine's thread as a server needs it: it refuses in time, knows when it is unhealthy, and ends without losing an
answer."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tiny_llm_kit.course import task

from .engine_loop import EngineLoop
from .ticket import Cancelled, Delta, EngineDead, ServingError


class QueueFull(ServingError):
    """Too many requests wait already to take this one.

    Args:
        retry_after: seconds after which it is worth trying again.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Draining(ServingError):
    """The server is shutting down, and takes no new requests."""


class EngineThread(EngineLoop):
    """An `EngineLoop` with limits: on the queue, on the length of a step, and on consecutive failed steps.

    A failed step need not be the end: the running requests end with its error, and the others can go on. But an engine whose
    steps keep failing would answer every request with an error, as fast as they come.

    Args:
        max_queue: most requests that may wait.
        step_limit: seconds; a step that takes longer counts as hanging.
        max_failed_steps: this many in a row mean that the engine is broken.
        See `EngineLoop` for the others.
    Raises:
        ValueError: if a limit is not above 0.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        *,
        max_queue: int = 256,
        step_limit: float = 30.0,
        max_failed_steps: int = 3,
        max_unread: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = {"max_queue": max_queue, "step_limit": step_limit, "max_failed_steps": max_failed_steps}
        for name, limit in limits.items():
            if not limit > 0:
                raise ValueError(f"{name} is {limit}: it must be above 0")
        super().__init__(build, max_unread=max_unread, clock=clock)
        self.max_queue = max_queue
        self.step_limit = step_limit
        self.max_failed_steps = max_failed_steps
        self.draining = False
        self._failed_steps = 0
        self._last_error: BaseException | None = None
        self._ends: deque[float] = deque(maxlen=64)

    @task(week=3, day=6, number=6)
    def check_open(self) -> None:
        """Refuse a request that could not be served, or not soon enough.

        Raises:
            EngineDead: if the thread is dead, or its step hangs. Failed steps are not a reason: the next may succeed.
            Draining: if the server is shutting down.
            QueueFull: if `max_queue` requests are already waiting.
        """
        super().check_open()
        if hung := self._hung():
            raise EngineDead(hung)
        if self.draining:
            raise Draining("the server is shutting down and takes no new requests: ask another one")
        if self.num_waiting >= self.max_queue:
            retry_after = self._retry_after()
            raise QueueFull(f"{self.num_waiting} requests wait already: try again in {retry_after} s", retry_after)

    @property
    @task(week=3, day=6, number=6)
    def reason(self) -> str | None:
        """Why no requests should be sent here: the thread is dead, a step hangs, steps keep failing, or the server is shutting
        down. None if all is well. It never waits, whatever the engine is doing.
        """
        failing = self._failed_steps >= self.max_failed_steps
        return (
            super().reason
            or self._hung()
            or (f"the last {self._failed_steps} steps failed, the last with {self._last_error!r}" if failing else None)
            or ("the server is shutting down" if self.draining else None)
        )

    @task(week=3, day=6, number=6)
    async def drain(self, timeout: float, grace: float = 5.0) -> bool:
        """Take no new requests, let the others end, and stop. Those that have not ended after `timeout` seconds are cancelled.

        Args:
            grace: additional seconds for the step that is then in progress.
        Returns:
            Whether all of them ended by themselves.
        """
        with self._lock:
            self.draining = True
        self.post(lambda engine: None)  # wakes a sleeping thread, which may find that it is time to end
        await asyncio.to_thread(self._thread.join, timeout)
        in_time = not self._thread.is_alive()
        await asyncio.to_thread(self.stop, grace)
        return in_time

    @task(week=3, day=6, number=6)
    def is_over(self) -> bool:
        """Also when the server is shutting down, and no request is left."""
        return super().is_over() or (self.draining and not self._open)

    @task(week=3, day=6, number=6)
    def step(self, engine: Any) -> list[Delta]:
        """Step, and count consecutive failures.

        A step has failed if it raised, or if requests ended with errors in it and none got a token. A token resets the count; a
        step with neither does not. A request that ran out of time, or was cancelled, is not a failure.

        Raises:
            Exception: the engine's, after `max_failed_steps` in a row: it would go on raising, in a loop that serves nothing.
        """
        try:
            deltas = super().step(engine)
        except Exception as error:
            self._failed_steps, self._last_error = self._failed_steps + 1, error
            if self._failed_steps >= self.max_failed_steps:
                raise
            return []
        errors = [one.error for one in deltas if one.error and not isinstance(one.error, TimeoutError | Cancelled)]
        if any(one.tokens for one in deltas):
            self._failed_steps = 0
        elif errors:
            self._failed_steps, self._last_error = self._failed_steps + 1, errors[-1]
        self._ends.extend(self.clock() for one in deltas if one.is_last)
        return deltas

    @task(week=3, day=6, number=6)
    def _hung(self) -> str | None:
        began = self.turn_began  # read once: the other thread may set it to None in the meantime
        seconds = 0.0 if began is None else self.clock() - began
        return f"the engine's step has not ended after {seconds:.1f} s" if seconds > self.step_limit else None

    @task(week=3, day=6, number=6)
    def _retry_after(self) -> int:
        """How long the queue takes, in whole seconds, 1 … 60, at the rate at which requests have ended lately."""
        ends = list(self._ends)
        if len(ends) < 2:
            return 1
        per_second = (len(ends) - 1) / max(self.clock() - ends[0], 1e-9)
        return min(60, max(1, math.ceil(self.num_waiting / per_second)))
