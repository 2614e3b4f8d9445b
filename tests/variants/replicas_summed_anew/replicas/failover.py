import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer

from ..paged.request import PagedRequest
from .routers import Router


@task(week=3, day=7, number=5)
def resume(request: StreamRequest, delivered: Sequence[int]) -> StreamRequest:
    left = request.max_tokens - len(delivered)
    if left < 0:
        raise ValueError(f"{len(delivered)} tokens were delivered of an answer that has {request.max_tokens} at most")
    changed = {
        "prompt": tuple(request.prompt) + tuple(delivered),
        "max_tokens": left,
        "delivered": request.delivered + len(delivered),
    }
    return type(request)(**{**vars(request), **changed})


@task(week=3, day=7, number=5)
def engine_request(request: StreamRequest, tokenizer: Tokenizer | None = None) -> PagedRequest:
    own = PagedRequest(
        list(request.prompt),
        request.max_tokens or 1,
        sampling=request.sampling,
        eos_token_ids=request.eos_token_ids,
        stop=request.stop,
        detokenizer=None if tokenizer is None else tokenizer.detokenizer(),
    )
    reason = None if request.max_tokens else "length"
    if own.text_stream is not None and request.delivered:
        for token in request.prompt[-request.delivered :]:
            own.text_stream.push(token)
        reason = "stop" if own.text_stream.stopped else reason
    if reason is not None:
        own.finish(reason)
    return own


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
    rest = request
    while True:
        replica, asked = await attempts.next_replica(rest), rest
        router.started(asked, replica)
        pieces = None
        try:
            pieces = upstreams[replica](asked)
            async for piece in pieces:
                if len(piece.tokens) > 0:
                    rest = resume(rest, piece.tokens)
                    attempts.forget()
                    router.progressed(asked, replica, len(piece.tokens))
                yield piece
                if piece.finish_reason is not None:
                    return
            raise UpstreamDied(f"{replica} has stopped in the middle of its answer")
        except UpstreamDied as death:
            router.died(replica)
            attempts.failed(replica, death)
        except (ConnectionError, TimeoutError) as fault:
            attempts.failed(replica, fault)
        finally:
            try:
                if pieces is not None:
                    await pieces.aclose()
            finally:
                router.finished(asked, replica)


class _Attempts:
    @task(week=3, day=7, number=5)
    def failed(self, replica: str, error: Exception) -> None:
        self.failures = {**self.failures, replica: error}
        match error:
            case UpstreamDied():
                self.deaths += 1
                if self.deaths >= self.max_deaths:
                    raise GaveUp(f"{self.deaths} deaths and no token: {self.failures}")
            case _:
                self.unreachable |= {replica}

    @task(week=3, day=7, number=5)
    async def next_replica(self, request: StreamRequest) -> str:
        while True:
            ranking = self.router.choose(request, [*self.upstreams])
            if not ranking and self.alive is not None:
                names = [*self.upstreams]
                for name, is_back in zip(names, await asyncio.gather(*map(self.alive, names)), strict=True):
                    if is_back:
                        self.router.joined(name)
                ranking = self.router.choose(request, [*self.upstreams])
            if not ranking:
                raise GaveUp(f"all of {[*self.upstreams]} are dead: {self.failures}")
            reachable = [name for name in ranking if name not in self.unreachable]
            if reachable:
                return reachable[0]
            self.rounds += 1
            if self.rounds >= self.max_rounds:
                raise GaveUp(f"{self.rounds} rounds, and nobody could be reached: {self.failures}")
            self.unreachable = set()
            await asyncio.sleep(self.pause * (1 << self.rounds) / 2)
