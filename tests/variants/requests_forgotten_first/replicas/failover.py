import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer

from ..paged.request import PagedRequest
from .routers import Router


@task(week=3, day=7, number=5)
def engine_request(request: StreamRequest, tokenizer: Tokenizer | None = None) -> PagedRequest:
    made = PagedRequest(
        request.prompt,
        max(request.max_tokens, 1),
        request.sampling,
        request.eos_token_ids,
        request.stop,
        tokenizer.detokenizer() if tokenizer is not None else None,
        user=request.session,
    )
    stream = made.text_stream
    if stream is not None:
        for token in request.prompt[len(request.prompt) - request.delivered :]:
            stream.push(token)
            if stream.stopped:
                made.finish("stop")
                return made
    if request.max_tokens == 0:
        made.finish("length")
    return made


@task(week=3, day=7, number=5)
async def stream_with_failover(
    router: Router,
    request: StreamRequest,
    upstreams: Mapping[str, Upstream[P]],
    *,
    alive: Callable[[str], Awaitable[bool]] | None = None,
    max_deaths: int = 3,
    max_rounds: int = 4,
    pause: float = 0.05,
) -> AsyncGenerator[P]:
    attempts = _Attempts(router, upstreams, alive, max_deaths, max_rounds, pause)
    while True:
        replica = await attempts.next_replica(request)
        try:
            async with aclosing(_ask(router, request, replica, upstreams[replica])) as pieces:
                async for piece in pieces:
                    if piece.tokens:
                        request = resume(request, piece.tokens)
                        attempts.forget()
                    yield piece
                    if piece.finish_reason is not None:
                        return
        except (UpstreamDied, ConnectionError, TimeoutError) as error:
            attempts.failed(replica, error)


class _Attempts:
    @task(week=3, day=7, number=5)
    def failed(self, replica: str, error: Exception) -> None:
        self.failures[replica] = error
        if not isinstance(error, UpstreamDied):
            self.unreachable.add(replica)
            return
        self.deaths += 1
        if self.deaths >= self.max_deaths:
            raise GaveUp(f"{self.deaths} replicas have died without a token in between: {self.failures}") from error

    @task(week=3, day=7, number=5)
    async def next_replica(self, request: StreamRequest) -> str:
        while True:
            ranking = self.router.choose(request, list(self.upstreams)) or await self._returned(request)
            if not ranking:
                raise GaveUp(f"nobody is left to go on with request {request.request_id}: {self.failures}")
            for name in ranking:
                if name not in self.unreachable:
                    return name
            self.rounds += 1
            if self.rounds >= self.max_rounds:
                raise GaveUp(f"no replica could be reached in {self.rounds} rounds: {self.failures}")
            await asyncio.sleep(self.pause * 2 ** (self.rounds - 1))
            self.unreachable.clear()

    @task(week=3, day=7, number=5)
    async def _returned(self, request: StreamRequest) -> list[str]:
        if self.alive is None:
            return []
        for name in list(self.upstreams):
            if await self.alive(name):
                self.router.joined(name)
        return self.router.choose(request, list(self.upstreams))
