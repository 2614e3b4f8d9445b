import asyncio

from tiny_llm_kit.course import task

from .ticket import Cancelled, Delta


class Progress:
    @task(week=3, day=6, number=3)
    def note(self) -> None:
        seen = self._tokens + len(self._logprobs)
        for place in range(seen, len(self.request.generated_tokens)) if self._noted else ():
            self._logprobs = [*self._logprobs, self._noted(self.request, len(self.request.prompt) + place)]

    @task(week=3, day=6, number=3)
    def take(self) -> Delta:
        request, error = self.request, self.request.error
        reason = request.finish_reason
        if reason is not None and error is None:
            if reason != "stop" and reason != "length":
                error = Cancelled(f"ended as {reason}, before the answer was complete")
            elif getattr(request.sampler, "error", ""):
                error = RuntimeError(f"no token could come next: {request.sampler.error}")
        tokens = tuple(request.generated_tokens[self._tokens :])
        text = request.text.removeprefix(request.text[: self._letters])
        logprobs = tuple(self._logprobs)
        self._tokens, self._letters, self._logprobs = self._tokens + len(tokens), self._letters + len(text), []
        if reason is None:
            return Delta(text, tokens, logprobs)
        return Delta(text, tokens, logprobs, None, error) if error is not None else Delta(text, tokens, logprobs, reason)


class Outbox:
    @task(week=3, day=6, number=3)
    def send(self) -> list[asyncio.AbstractEventLoop]:
        closed = [loop for loop in self._calls if not _hand_over(loop, list(self._calls[loop]))]
        self._calls.clear()
        return closed


def _hand_over(loop: asyncio.AbstractEventLoop, calls: list) -> bool:
    try:
        loop.call_soon_threadsafe(_make_all, calls)
    except RuntimeError:
        return False
    return True
