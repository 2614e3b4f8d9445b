import asyncio
from collections.abc import Iterator
from math import ceil
from typing import Any

from tiny_llm_kit.course import task

from .engine_loop import EngineLoop
from .ticket import Cancelled, Delta, EngineDead


class EngineThread(EngineLoop):
    @task(week=3, day=6, number=6)
    def check_open(self) -> None:
        super().check_open()
        hung = self._hung()
        if hung is not None:
            raise EngineDead(hung)
        if self.draining:
            raise Draining("nobody is taken any more, since the server is about to end")
        waiting = self.num_waiting
        if waiting < self.max_queue:
            return
        seconds = self._retry_after()
        raise QueueFull(f"the queue has {waiting} requests, all that it takes; come back in {seconds} s", seconds)

    @property
    @task(week=3, day=6, number=6)
    def reason(self) -> str | None:
        return next(self._reasons(), None)

    def _reasons(self) -> Iterator[str]:
        for problem in (super().reason, self._hung()):
            if problem is not None:
                yield problem
        if self._failed_steps >= self.max_failed_steps:
            yield f"{self._failed_steps} steps in a row have failed: {self._last_error!r}"
        if self.draining:
            yield "the server is about to end"

    @task(week=3, day=6, number=6)
    async def drain(self, timeout: float, grace: float = 5.0) -> bool:
        with self._lock:
            self.draining = True
            self._commands.put(lambda engine: None)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._thread.is_alive() and loop.time() < deadline:
            await asyncio.sleep(min(0.01, timeout))
        ended = not self._thread.is_alive()
        await loop.run_in_executor(None, self.stop, grace)
        return ended

    @task(week=3, day=6, number=6)
    def is_over(self) -> bool:
        if self.draining and len(self._open) == 0:
            return True
        return super().is_over()

    @task(week=3, day=6, number=6)
    def step(self, engine: Any) -> list[Delta]:
        deltas: list[Delta] = []
        failure: BaseException | None = None
        raised = False
        try:
            deltas = super().step(engine)
        except Exception as error:
            failure, raised = error, True
        got_token = False
        for delta in deltas:
            got_token = got_token or len(delta.tokens) > 0
            if delta.is_last:
                self._ends.append(self.clock())
            if delta.error is not None and not isinstance(delta.error, (TimeoutError, Cancelled)):
                failure = delta.error
        if got_token:
            self._failed_steps = 0
        elif failure is not None:
            self._failed_steps += 1
            self._last_error = failure
        if raised and self._failed_steps >= self.max_failed_steps:
            raise failure
        return deltas

    @task(week=3, day=6, number=6)
    def _hung(self) -> str | None:
        began = self.turn_began
        if began is None or self.clock() <= began + self.step_limit:
            return None
        return f"a step that should end within {self.step_limit} s has not"

    @task(week=3, day=6, number=6)
    def _retry_after(self) -> int:
        match list(self._ends):
            case [first, _, *others]:
                seconds = self.num_waiting * (self.clock() - first) / (1 + len(others))
                return ceil(min(max(seconds, 1), 60))
        return 1
