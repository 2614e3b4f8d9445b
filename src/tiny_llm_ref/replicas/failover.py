"""Fail-over: one unbroken stream, even if the replicas that compute it die.

A decision of week 1 makes it possible: a draw depends on the request's seed and on the number of tokens before it, and a
penalty on these tokens. So a replica that gets the prompt, followed by the tokens that the client has, continues exactly as the
dead one would have. No state of a replica needs to be saved.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer

from ..paged.request import PagedRequest
from ..sampler import SamplingParams
from .routers import RoutedRequest, Router


class UpstreamDied(Exception):
    """The replica is gone, and with it what it was computing: its process was killed, or its engine has stopped."""


class GaveUp(Exception):
    """No replica is left to continue a stream; the message says what happened to those that were asked."""


@dataclass(frozen=True)
class StreamRequest(RoutedRequest):
    """A request as it is sent to a replica: plain data, and everything that its tokens depend on.

    Args:
        sampling, eos_token_ids, stop: as in `Request`.
        delivered: this many tokens at the end of `prompt` belong to the answer. The client has them, and their text.
    """

    sampling: SamplingParams = field(default_factory=SamplingParams)
    eos_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    delivered: int = 0


class Piece(Protocol):
    """What a replica sends: tokens that have come back for a request. Only the last piece has a finish reason."""

    @property
    def tokens(self) -> Sequence[int]: ...

    @property
    def finish_reason(self) -> str | None: ...


P = TypeVar("P", bound=Piece)
Upstream = Callable[[StreamRequest], AsyncGenerator[P]]
"""Asks one replica. Raises UpstreamDied, or a ConnectionError or TimeoutError, which may be the network's fault; any other
error is about the request, and another replica would raise the same. Closing the generator cancels the request."""


@task(week=3, day=7, number=5)
def resume(request: StreamRequest, delivered: Sequence[int]) -> StreamRequest:
    """The request that continues after the tokens that were delivered for `request`. Everything else that it asks for stays the
    same.

    `resume(resume(request, a), b)` equals `resume(request, a + b)`: a stream may break more than once.

    Raises:
        ValueError: if these are more tokens than the request asked for.
    """
    if len(delivered) > request.max_tokens:
        raise ValueError(
            f"request {request.request_id} asked for {request.max_tokens} tokens, and {len(delivered)} were delivered:"
            " whose are they?"
        )
    return replace(
        request,
        prompt=(*request.prompt, *delivered),
        max_tokens=request.max_tokens - len(delivered),
        delivered=request.delivered + len(delivered),
    )


@task(week=3, day=7, number=5)
def engine_request(request: StreamRequest, tokenizer: Tokenizer | None = None) -> PagedRequest:
    """What a replica submits to its engine. Its tokens and its text are those that the client does not have yet.

    The delivered tokens go through its text stream first, and their text is thrown away: so half a letter, or half a stop
    string, is there when the other half comes.

    Returns:
        A request to submit. If the stream broke between its last token and its end, it has already finished: there is nothing
        to compute, but `text` may hold text that was held back.
    Raises:
        ValueError: as `PagedRequest`.
    """
    result = PagedRequest(
        request.prompt,
        max(request.max_tokens, 1),
        request.sampling,
        request.eos_token_ids,
        request.stop,
        tokenizer.detokenizer() if tokenizer is not None else None,
    )
    stream = result.text_stream
    if stream is not None:
        for token in request.prompt[len(request.prompt) - request.delivered :]:
            stream.push(token)
        if stream.stopped:
            result.finish("stop")
    if request.max_tokens == 0:
        result.finish("length")
    return result


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
    """The pieces of one answer, up to the one with a finish reason, from whichever replicas: no token comes twice, none is
    lost.

    A consumer that stops listening closes the generator; that cancels the request at its replica.

    Args:
        upstreams: by replica. They may change: each attempt uses the current ones.
        alive: asks a replica that has died whether it is back; None: dead replicas don't come back. They are asked whenever no
            other replica is left.
        max_deaths: give up when this many replicas have died without a token in between: the request may be what kills them.
        max_rounds: give up when every replica was unreachable this many times without a token in between.
        pause: seconds before the second round; doubles for each further one.
    Raises:
        GaveUp: if no replica is left, or one of the limits is reached.
        Exception: what an upstream raises about the request itself.
    """
    delivered: list[int] = []
    attempts = _Attempts(router, upstreams, alive, max_deaths, max_rounds, pause)
    while True:
        rest = resume(request, delivered)
        replica = await attempts.next_replica(rest)
        try:
            async with aclosing(_ask(router, rest, replica, upstreams[replica])) as pieces:
                async for piece in pieces:
                    if piece.tokens:
                        delivered += piece.tokens
                        attempts.forget()
                    yield piece
                    if piece.finish_reason is not None:
                        return
        except (UpstreamDied, ConnectionError, TimeoutError) as error:
            attempts.failed(replica, error)


@task(week=3, day=7, number=5)
async def _ask(router: Router, request: StreamRequest, replica: str, upstream: Upstream[P]) -> AsyncGenerator[P]:
    """What one replica sends; the router's books are kept along the way.

    Raises:
        UpstreamDied: also if the stream ends without a finish reason, as it does when a process dies behind a proxy.
    """
    router.started(request, replica)
    try:
        async with aclosing(upstream(request)) as pieces:
            async for piece in pieces:
                if piece.tokens:
                    router.progressed(request, replica, len(piece.tokens))
                yield piece
                if piece.finish_reason is not None:
                    return
        raise UpstreamDied(f"the stream of {replica} ended without a finish reason")
    except UpstreamDied:
        router.died(replica)
        raise
    finally:
        router.finished(request, replica)


@dataclass
class _Attempts:
    """Where a stream goes next, and when it gives up. Failures count until the next token comes."""

    router: Router
    upstreams: Mapping[str, Upstream]
    alive: Callable[[str], Awaitable[bool]] | None
    max_deaths: int
    max_rounds: int
    pause: float
    deaths: int = 0
    rounds: int = 0
    failures: dict[str, Exception] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """A token has come."""
        self.deaths = self.rounds = 0
        self.failures.clear()
        self.unreachable.clear()

    @task(week=3, day=7, number=5)
    def failed(self, replica: str, error: Exception) -> None:
        """Raise GaveUp if that was one death too many."""
        self.failures[replica] = error
        if not isinstance(error, UpstreamDied):
            self.unreachable.add(replica)
            return
        self.deaths += 1
        if self.deaths == self.max_deaths:
            raise self._give_up(f"{self.deaths} replicas died of it one after another") from error

    @task(week=3, day=7, number=5)
    async def next_replica(self, request: StreamRequest) -> str:
        """The best living replica that was not unreachable in this round; if all were, the next round begins after a pause."""
        living = self.router.choose(request, list(self.upstreams)) or await self._returned(request)
        if not living:
            raise self._give_up("all replicas have died" if self.upstreams else "there are no replicas")
        for replica in living:
            if replica not in self.unreachable:
                return replica
        self.rounds += 1
        if self.rounds == self.max_rounds:
            raise self._give_up(f"no replica could be reached in {self.rounds} rounds")
        await asyncio.sleep(self.pause * 2 ** (self.rounds - 1))
        self.unreachable.clear()
        return await self.next_replica(request)

    @task(week=3, day=7, number=5)
    async def _returned(self, request: StreamRequest) -> list[str]:
        """The ranking of those dead replicas that answer again."""
        if self.alive is not None:
            for replica in list(self.upstreams):
                if await self.alive(replica):
                    self.router.joined(replica)
        return self.router.choose(request, list(self.upstreams))

    def _give_up(self, why: str) -> GaveUp:
        told = "".join(f"; {replica}: {error!r}" for replica, error in self.failures.items())
        return GaveUp(f"{why}{told}")
