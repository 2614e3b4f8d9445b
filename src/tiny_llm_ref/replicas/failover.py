"""Fail-over: one unbroken stream, although the replicas that compute it die.

What makes it possible was decided in week 1: a draw depends on the request's seed and on the number of tokens before it, and a
penalty on these tokens. So a replica that gets the prompt, and behind it the tokens that the client has, goes on as the one
that died would have gone on. Nothing of a replica's state needs to be saved.
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
    """The replica is gone, and what it was computing with it: its process was killed, or its engine has stopped."""


class GaveUp(Exception):
    """Nobody is left to go on with a stream; says what became of the replicas that were asked."""


@dataclass(frozen=True)
class StreamRequest(RoutedRequest):
    """A request as it travels to a replica: plain data, and all that its tokens depend on.

    Args:
        sampling, eos_token_ids, stop: as in `Request`.
        delivered: so many tokens at the end of `prompt` belong to the answer. The client has them, and their text.
    """

    sampling: SamplingParams = field(default_factory=SamplingParams)
    eos_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    delivered: int = 0


class Piece(Protocol):
    """What a replica sends: tokens that have come back for a request. The last piece has a finish reason, and no other has."""

    @property
    def tokens(self) -> Sequence[int]: ...

    @property
    def finish_reason(self) -> str | None: ...


P = TypeVar("P", bound=Piece)
Upstream = Callable[[StreamRequest], AsyncGenerator[P]]
"""Asks one replica. Raises UpstreamDied, or a ConnectionError or TimeoutError, which may be the network's fault; anything else
is about the request, and another replica would say the same. Closing the generator cancels the request."""


@task(week=3, day=7, number=5)
def resume(request: StreamRequest, delivered: Sequence[int]) -> StreamRequest:
    """The request that goes on behind the tokens that were delivered for `request`. What it asks for besides stays as it is.

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
    """What a replica gives its engine. Its tokens and its text are those that the client does not have yet.

    The delivered tokens go through its text stream first, and what they say is thrown away: so half a letter and half a stop
    string are there when the other half comes.

    Returns:
        A request to submit; one that has finished, if the stream broke between its last token and its end: nothing is to be
        computed, but `text` may hold what was held back.
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
    """The pieces of one answer, to the one with a finish reason, whoever they come from: no token comes twice, none is lost.

    Whoever stops listening closes the generator; that cancels the request at its replica.

    Args:
        upstreams: by replica. They may change: each attempt looks at those that are there then.
        alive: asks a replica that has died whether it is back; None: the dead don't come back. They are asked whenever
            nobody else is left.
        max_deaths: give up when so many replicas have died without a token in between: the request may be what kills them.
        max_rounds: give up when every replica was unreachable so many times without a token in between.
        pause: seconds before the second round; doubles for each further one.
    Raises:
        GaveUp: if nobody is left, or one of the limits is reached.
        Exception: what an upstream says of the request itself.
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
    """What one replica sends, while the router's books are kept.

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
    """Where a stream goes next, and when it gives up. What has failed counts until the next token comes."""

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
        """Raises GaveUp if that was one death too many."""
        self.failures[replica] = error
        if not isinstance(error, UpstreamDied):
            self.unreachable.add(replica)
            return
        self.deaths += 1
        if self.deaths == self.max_deaths:
            raise self._give_up(f"{self.deaths} replicas died of it one after another") from error

    @task(week=3, day=7, number=5)
    async def next_replica(self, request: StreamRequest) -> str:
        """The best that lives, and was not unreachable in this round; if all were, the next round begins after a pause."""
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
