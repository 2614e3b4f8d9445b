import asyncio

from tiny_llm_kit.course import task

from ..request import Request
from .ticket import Cancelled, Delta


class Progress:
    @task(week=3, day=6, number=3)
    def note(self) -> None:
        if self._noted is None:
            return
        while self._tokens + len(self._logprobs) < len(self.request.generated_tokens):
            position = len(self.request.prompt) + self._tokens + len(self._logprobs)
            self._logprobs.append(self._noted(self.request, position))

    @task(week=3, day=6, number=3)
    def take(self) -> Delta:
        reason, error = _how_it_ended(self.request)
        delta = Delta(
            text=self.request.text[self._letters :],
            tokens=tuple(self.request.generated_tokens)[self._tokens :],
            logprobs=tuple(self._logprobs),
            finish_reason=reason,
            error=error,
        )
        self._logprobs.clear()
        self._letters, self._tokens = len(self.request.text), len(self.request.generated_tokens)
        return delta


def _how_it_ended(request: Request) -> tuple[str | None, BaseException | None]:
    match request.finish_reason:
        case None:
            return None, None
        case _ if request.error is not None:
            return None, request.error
        case "stop" | "length" as reason:
            gave_up = getattr(request.sampler, "error", "")
            return (None, RuntimeError(f"the sampler gave up: {gave_up}")) if gave_up else (reason, None)
        case other:
            return None, Cancelled(f"the request has ended: {other}")


class Outbox:
    @task(week=3, day=6, number=3)
    def send(self) -> list[asyncio.AbstractEventLoop]:
        closed = []
        while self._calls:
            loop, calls = self._calls.popitem()
            try:
                loop.call_soon_threadsafe(_make_all, calls)
            except RuntimeError:
                closed.append(loop)
        return closed
