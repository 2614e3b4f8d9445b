import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tiny_llm_kit.course import task

from .engine_loop import EngineLoop
from .ticket import Cancelled, Delta


class EngineThread(EngineLoop):
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
        self._raised = 0
        self._last_error: BaseException | None = None
        self._ends: deque[float] = deque(maxlen=64)

    @task(week=3, day=6, number=6)
    def step(self, engine: Any) -> list[Delta]:
        try:
            deltas = super().step(engine)
        except Exception as error:
            self._failed_steps += 1
            self._last_error = error
            self._raised += 1
            if self._raised >= self.max_failed_steps:
                raise
            return []
        self._raised = 0
        now = self.clock()
        self._ends.extend(now for delta in deltas if delta.is_last)
        errors = [
            delta.error
            for delta in deltas
            if delta.error is not None and not isinstance(delta.error, (TimeoutError, Cancelled))
        ]
        if any(delta.tokens for delta in deltas):
            self._failed_steps = 0
        elif errors:
            self._failed_steps += 1
            self._last_error = errors[-1]
        return deltas

    @task(week=3, day=6, number=6)
    def _retry_after(self) -> int:
        if len(self._ends) < 2:
            return 1
        ends = list(self._ends)
        span = self.clock() - ends[0]
        rate = len(ends) / span if span > 0 else math.inf
        return max(1, min(60, math.ceil(self.num_waiting / rate)))
