"""What the tests of fail-over share: replicas that fail in every way and place, a router that notes what it is told, a client.

Nothing here needs a model: a token is a function of the seed and of all tokens before it, as in an engine. So a replica
that resumes a request wrongly gets other tokens.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from answer import answer
from endless import DidNotEnd
from event_loop import run

SEED = 7
MOST_ASKED = 100
"""How often one replica may be asked within one test. The one that is asked most is asked 9 times."""


@dataclass(frozen=True)
class Said:
    """A piece of an answer, as replicas send it."""

    tokens: list[int]
    finish_reason: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Fails:
    """After this many pieces: raises this, or just ends, as if all was well."""

    after: int
    error: Exception | None = None


def dies(after: int = 0) -> Fails:
    return Fails(after, answer.UpstreamDied("killed, as this test wants it"))


def is_unreachable(after: int = 0) -> Fails:
    return Fails(after, ConnectionRefusedError("nobody listens, as this test wants it"))


def tokens_of(prompt: Sequence[int], count: int, seed: int = SEED) -> list[int]:
    """The answer that every replica gives to a prompt."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append((sum((place + 1) * token for place, token in enumerate(tokens)) * 31 + seed) % 997)
    return tokens[len(prompt) :]


class Replica:
    """Answers as `tokens_of` does, and fails as it is told, one failure for each time that it is asked.

    Args:
        at_a_time: tokens of a piece.
        separately: whether the finish reason comes in a piece of its own.
        router: a `Notes`; then each request must be in it, under `name`, before anything is computed.
    """

    def __init__(
        self, *failures: Fails | None, at_a_time: int = 1, separately: bool = False, router: Any = None, name: str = ""
    ) -> None:
        self.failures = list(failures)
        self.at_a_time = at_a_time
        self.separately = separately
        self.router = router
        self.name = name
        self.asked: list[Any] = []
        self.open = 0
        self.sent = 0

    async def __call__(self, request: Any) -> AsyncGenerator[Said]:
        self.asked.append(request)
        if len(self.asked) > MOST_ASKED:
            raise DidNotEnd(f"a replica was asked {MOST_ASKED} times for one answer: when does this stream give up?")
        if self.router is not None:
            assert self.router.open[request.request_id, self.name], (
                "a replica computes, and the router has not been told: started comes first, or all requests are sent here"
            )
        failure = self.failures.pop(0) if self.failures else None
        self.open += 1
        try:
            async for said in self._answer(request):
                if failure is not None and failure.after == 0:
                    break
                failure = failure and Fails(failure.after - 1, failure.error)
                self.sent += 1
                yield said
            if failure is not None and failure.error is not None:
                raise failure.error
        finally:
            self.open -= 1

    async def _answer(self, request: Any) -> AsyncGenerator[Said]:
        tokens = tokens_of(request.prompt, request.max_tokens, request.sampling.seed)
        for start in range(0, len(tokens), self.at_a_time):
            await asyncio.sleep(0)
            end = min(start + self.at_a_time, len(tokens))
            last = end == len(tokens) and not self.separately
            yield Said(tokens[start:end], "length" if last else None)
        if self.separately or not tokens:
            yield Said([], "length")
        yield Said([-1], None)  # what comes after the end is not part of the answer


class Notes:
    """A router that ranks by name, and notes what it is told."""

    def __init__(self) -> None:
        self.dead: list[str] = []
        self.open: Counter[tuple[str, str]] = Counter()
        self.progress: Counter[str] = Counter()
        self.asked: list[Any] = []

    def choose(self, request: Any, replicas: Sequence[str]) -> list[str]:
        self.asked.append(request)
        return sorted(name for name in replicas if name not in self.dead)

    def started(self, request: Any, replica: str) -> None:
        self.open[request.request_id, replica] = 1

    def progressed(self, request: Any, replica: str, tokens: int) -> None:
        self.progress[replica] += tokens

    def finished(self, request: Any, replica: str) -> None:
        self.open.pop((request.request_id, replica), None)

    def died(self, replica: str) -> None:
        self.dead.append(replica)

    def joined(self, replica: str) -> None:
        self.dead.remove(replica)


def ask(max_tokens: int = 8, **options: Any) -> Any:
    return answer.StreamRequest(
        "request 1", [3, 1, 4, 1, 5], max_tokens, sampling=answer.SamplingParams(temperature=1.0, seed=SEED), **options
    )


def expected(request: Any) -> list[int]:
    return tokens_of(request.prompt, request.max_tokens, request.sampling.seed)


class Client:
    """What a client has received: `error` is what its stream ended with."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.error: Exception | None = None

    @property
    def tokens(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def finish_reason(self) -> str | None:
        return self.pieces[-1].finish_reason if self.pieces else None

    def received(self, request: Any) -> None:
        """AssertionError if that was not the whole answer, once."""
        __tracebackhide__ = True
        if self.error is not None:
            raise AssertionError(f"the stream should go on elsewhere, but it ended with {self.error!r}") from self.error
        wanted = expected(request)
        assert self.tokens == wanted, (
            f"the client received {self.tokens}, and the answer is {wanted}: which token came twice, was lost, or was drawn"
            " after others than those that were delivered?"
        )
        assert self.finish_reason == "length", (
            f"the last piece says how the answer ended, and that is {self.finish_reason!r} instead of 'length'"
        )
        ends = [piece.finish_reason for piece in self.pieces if piece.finish_reason is not None]
        assert len(ends) == 1, f"an answer ends once, and this one ended with {ends}"


async def stream(
    router: Any,
    request: Any,
    replicas: Mapping[str, Any],
    pause: float = 0.0,
    until: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Client:
    """Listen to the end, or until something is true: then the client leaves."""
    client = Client()
    pieces = answer.stream_with_failover(router, request, replicas, pause=pause, **options)
    if inspect.iscoroutine(pieces):  # a stub, which says so
        await pieces
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                client.pieces.append(piece)
                if until():
                    break
    except NotImplementedError:
        raise
    except Exception as error:
        client.error = error
    return client


def listen(router: Any, request: Any, replicas: Mapping[str, Any], **options: Any) -> Client:
    """The same, outside of an event loop."""
    __tracebackhide__ = True
    return run(stream(router, request, replicas, **options))


def assert_books_are_closed(router: Notes, replicas: Mapping[str, Replica]) -> None:
    """No replica computes for this stream any more, and none is thought to."""
    __tracebackhide__ = True
    busy = [name for name, replica in replicas.items() if replica.open]
    assert not busy, f"the stream is over, and {busy} still compute for it: close what you have opened"
    assert not router.open, f"the stream is over, and the router still counts it: {list(router.open)}; finished was not called"
