"""Week 3 Day 7, task 7: a replica, and many of them that look like one engine. No test here needs Ray.

The class that Ray makes replicas of is an ordinary one: here it is made without Ray, each with its engine in its own thread.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from event_loop import run
from failing_replicas import Fails, Notes, Replica, Said, expected
from failing_replicas import ask as ask_replicas
from paged_engines import engine
from support import ToyModel, alone, make_prompt, refuses
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()


class Threads:
    """Replicas of the toy's engine, which are stopped at the end of the test."""

    def __init__(self, toy: ToyModel) -> None:
        self.toy = toy
        self.made: list[Any] = []

    def replica(self, **options: Any) -> Any:
        made = answer.EngineDeployment(lambda: (engine(self.toy, **options), TOKENIZER))
        self.made.append(made)
        return made


@pytest.fixture
def threads(toy: ToyModel) -> Iterator[Threads]:
    mx.eval(toy.token_embedding, toy.position_embedding, toy.head, toy.only_printable, *toy.layers)
    threads = Threads(toy)
    yield threads
    for made in threads.made:
        made.engine.stop()


def ask(length: int = 6, max_tokens: int = 10, **options: Any) -> Any:
    return answer.StreamRequest(f"request of {length}", make_prompt(length), max_tokens, **options)


async def listen(deltas: AsyncGenerator[Any], until: int | None = None) -> list[Any]:
    """All deltas, or this many; then the generator is closed."""
    heard: list[Any] = []
    if asyncio.iscoroutine(deltas):  # a stub, which says so
        await deltas
    async with aclosing(deltas):
        async for delta in deltas:
            heard.append(delta)
            if len(heard) == until:
                break
    return heard


def tokens(deltas: list[Any]) -> list[int]:
    return [token for delta in deltas for token in delta.tokens]


def text(deltas: list[Any]) -> str:
    return "".join(delta.text for delta in deltas)


async def comes_true(condition: Callable[[], bool], what: str) -> None:
    """Wait a little, since it happens in another thread."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError(what)


def idle(made: Any) -> bool:
    stats = made.engine.stats()
    return not (stats.num_requests_running or stats.num_requests_waiting or stats.kv_used)


# A replica.


def test_task_7_a_replica_answers(toy: ToyModel, threads: Threads) -> None:
    request = ask()
    heard = run(listen(threads.replica().stream(request)))
    right = alone(toy, request.prompt, 10)
    assert tokens(heard) == right, f"the replica says {tokens(heard)}, alone the answer is {right}"
    assert text(heard) == TOKENIZER.decode(right), f"its text is {text(heard)!r}"
    assert heard[-1].finish_reason == "length", f"the last delta says how it ended: {heard[-1]}"


def test_task_7_a_replica_goes_on(toy: ToyModel, threads: Threads) -> None:
    right = alone(toy, make_prompt(6), 10)
    heard = run(listen(threads.replica().stream(answer.resume(ask(), right[:4]))))
    assert (tokens(heard), text(heard)) == (right[4:], TOKENIZER.decode(right[4:])), (
        f"4 of 10 tokens were delivered; the rest is {right[4:]}, and the replica says {tokens(heard)}, {text(heard)!r}"
    )


def test_task_7_only_the_end_is_missing(toy: ToyModel, threads: Threads) -> None:
    right = alone(toy, make_prompt(6), 10)
    heard = run(listen(threads.replica().stream(answer.resume(ask(), right))))
    assert [(delta.tokens, delta.finish_reason) for delta in heard] == [((), "length")], (
        f"all 10 tokens were delivered: one delta with the finish reason is left, and not {heard}"
    )


def test_task_7_what_was_held_back_comes_with_the_end(toy: ToyModel, threads: Threads) -> None:
    right = alone(toy, make_prompt(6), 10)
    last = TOKENIZER.decode(right)[-1]
    heard = run(listen(threads.replica().stream(answer.resume(ask(stop=(last + "\n\n",)), right))))
    assert (text(heard), heard[-1].finish_reason) == (last, "length"), (
        f"{last!r} might have begun the stop string, and was held back when the stream broke; now it comes with the end: not"
        f" {heard}"
    )


def test_task_7_many_at_once_share_the_engine(toy: ToyModel, threads: Threads) -> None:
    made = threads.replica()
    requests = [ask(length) for length in (3, 4, 5, 6, 7)]

    async def together() -> list[list[Any]]:
        return list(await asyncio.gather(*(listen(made.stream(request)) for request in requests)))

    for request, heard in zip(requests, run(together()), strict=True):
        assert tokens(heard) == alone(toy, request.prompt, 10), f"{request.request_id} got other tokens than alone"


def test_task_7_whoever_stops_listening_cancels(threads: Threads) -> None:
    async def leave() -> None:
        made = threads.replica()
        await listen(made.stream(ask(max_tokens=100)), until=3)
        await comes_true(lambda: idle(made), f"no client listens, and the engine still has {made.engine.stats()}")
        assert made.engine.stats().generation_tokens < 90, "the engine has computed the answer to its end, for no client"

    run(leave())


def test_task_7_a_request_that_the_engine_refuses(threads: Threads) -> None:
    made = threads.replica()
    with refuses(ValueError, "a request that is larger than the pool is its own fault, and no death", "pool"):
        run(listen(made.stream(ask(100, 300))))
    assert made.engine.healthy, f"the engine is well: {made.engine.reason}"


def test_task_7_an_error_of_the_request(threads: Threads) -> None:
    made = threads.replica()

    async def fails() -> None:
        async for _ in made.stream(ask(max_tokens=100)):
            made.engine.post(lambda served: served.abandon(ArithmeticError("as this test wants it")))

    with refuses(ArithmeticError, "what a request ended with is raised, so that the caller hears of it"):
        run(fails())


def test_task_7_a_dead_engine(threads: Threads) -> None:
    made = threads.replica()
    made.check_health()
    made.engine.stop()
    with refuses(answer.UpstreamDied, "the engine is dead, so another replica must go on"):
        run(listen(made.stream(ask())))
    with refuses(
        RuntimeError, "Ray asks check_health, and replaces a replica for which it raises; the message has `reason`", "stopped"
    ):
        made.check_health()


def test_task_7_an_engine_that_dies_in_mid_stream(threads: Threads) -> None:
    made = threads.replica()

    async def dies() -> None:
        async for _ in made.stream(ask(max_tokens=100)):
            made.engine.post(_die)

    with refuses(answer.UpstreamDied, "the engine's thread died in mid-stream"):
        run(dies())


def _die(served: Any) -> None:
    raise SystemExit("as this test wants it")


@pytest.mark.parametrize("reason", ["full", "draining"])
def test_task_7_a_replica_that_has_no_room(threads: Threads, reason: str) -> None:
    made = threads.replica()

    def check_open() -> None:
        raise (answer.QueueFull("the queue is full", 1) if reason == "full" else answer.Draining("it shuts down"))

    made.engine.check_open = check_open
    with refuses(ConnectionError, f"a replica that is {reason} lives, and another one may have room"):
        run(listen(made.stream(ask())))


def test_task_7_an_engine_that_can_not_be_built() -> None:
    def build() -> Any:
        raise OSError("no weights, as this test wants it")

    with refuses(OSError, "Ray hears why a replica does not start", "no weights"):
        answer.EngineDeployment(build)


# Ray's handle, without Ray.


class RayActorError(Exception):
    """Ray's word for a replica that can't be asked."""


class ActorDiedError(RayActorError):
    """Ray's word for one whose process is gone."""


class Handle:
    """As much of a deployment's handle as `ask_ray` needs: two deltas, and then perhaps an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.cancelled = False
        self.stream = self

    def remote(self, request: Any) -> "Handle":
        return self

    def cancel(self) -> None:
        self.cancelled = True

    async def __aiter__(self) -> AsyncGenerator[Any]:
        yield answer.Delta(tokens=(1,))
        if self.error is not None:
            raise self.error
        yield answer.Delta(tokens=(2,), finish_reason="length")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> None:
    words = SimpleNamespace(RayActorError=RayActorError, ActorDiedError=ActorDiedError)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(exceptions=words))
    monkeypatch.setitem(sys.modules, "ray.exceptions", words)


@pytest.mark.usefixtures("ray")
def test_task_7_rays_stream_is_handed_on_and_cancelled_in_the_end() -> None:
    handle = Handle()
    assert tokens(run(listen(answer.ask_ray(handle, ask())))) == [1, 2], "what the replica sends is handed on"
    left = Handle()
    run(listen(answer.ask_ray(left, ask()), until=1))
    assert left.cancelled, "a client that stops listening closes the generator, and Ray's response must be cancelled then"


@pytest.mark.usefixtures("ray")
def test_task_7_rays_errors_are_told_apart() -> None:
    for error, kind in (
        (ActorDiedError("its process is gone"), answer.UpstreamDied),
        (RayActorError("lost sight of it"), ConnectionError),
        (answer.UpstreamDied("its engine is dead"), answer.UpstreamDied),
        (ValueError("the prompt is too long"), ValueError),
    ):
        handle = Handle(error)
        with refuses(kind, f"Ray's {error!r} is a {kind.__name__} here"):
            run(listen(answer.ask_ray(handle, ask())))
        assert handle.cancelled, f"cancel Ray's response in any case, also after {error!r}"


# Fail-over between replicas.


def test_task_7_killed_in_mid_stream(toy: ToyModel, threads: Threads) -> None:
    first, second = threads.replica(), threads.replica()
    request = ask(max_tokens=40)

    async def killed() -> list[Any]:
        heard = []
        stream = answer.stream_with_failover(answer.RoundRobin(), request, {"a": first.stream, "b": second.stream})
        async for delta in stream:
            heard.append(delta)
            if len(heard) == 5:
                first.engine.post(_die)
        return heard

    heard = run(killed())
    assert not first.engine.healthy, "the first has died"
    right = alone(toy, request.prompt, 40)
    assert (tokens(heard), text(heard)) == (right, TOKENIZER.decode(right)), (
        f"killed after token 5, the client has {tokens(heard)}, and alone the answer is {right}"
    )


# Many that look like one.


def replicated(*failures: Fails | None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Two replicas without engines behind a `ReplicatedEngine`, the first of which fails; what they send are deltas."""
    plain = {"a": Replica(*failures), "b": Replica()}

    async def as_deltas(replica: Replica, request: Any) -> AsyncGenerator[Any]:
        async with aclosing(replica(request)) as pieces:
            async for piece in pieces:
                assert isinstance(piece, Said)
                yield answer.Delta(tokens=tuple(piece.tokens), finish_reason=piece.finish_reason)

    upstreams = {name: partial(as_deltas, replica) for name, replica in plain.items()}
    return answer.ReplicatedEngine(Notes(), upstreams, **options), plain


def make_request() -> Any:
    request = ask_replicas()
    return answer.PagedRequest(list(request.prompt), request.max_tokens, request.sampling)


def test_task_7_tickets_of_replicas() -> None:
    async def asks() -> None:
        one, replicas = replicated(Fails(3, answer.UpstreamDied("killed, as this test wants it")))
        request = make_request()
        ticket = await one.submit(lambda: request)
        assert ticket.request_id == request.request_id, f"the app logs the request's own id, and not {ticket.request_id}"
        assert ticket.accepted.done(), "the app waits until a ticket is accepted"
        assert ticket.prompt_tokens == 5, f"usage counts the 5 tokens of the prompt, and the ticket says {ticket.prompt_tokens}"
        whole = await ticket.whole()
        assert list(whole.tokens) == expected(ask_replicas()), f"the ticket got {whole.tokens}: the stream must go on at b"
        assert whole.finish_reason == "length", f"it ended with {whole.finish_reason!r}"
        assert len(replicas["b"].asked) == 1, "b goes on"
        await comes_true(lambda: one.stats().num_requests_running == 0, "the request has ended, and is still counted")

    run(asks())


def test_task_7_a_ticket_that_is_cancelled() -> None:
    async def leaves() -> None:
        one, replicas = replicated()
        for deltas in (0, 2):
            ticket = await one.submit(make_request)
            for _ in range(deltas):
                await anext(ticket)
            ticket.cancel()
            with refuses(answer.Cancelled, f"a ticket that is cancelled after {deltas} deltas ends with that"):
                await ticket.whole()
        assert not replicas["a"].open, "the rest is not wanted, and the replica goes on"
        assert one.stats().num_requests_running == 0, "they have been cancelled, and are still counted"

    run(leaves())


def test_task_7_when_all_have_died_the_server_says_so() -> None:
    async def dies() -> None:
        one, _ = replicated(Fails(1, answer.UpstreamDied("killed, as this test wants it")))
        del one.upstreams["b"]
        ticket = await one.submit(make_request)
        with refuses(answer.EngineDead, "no replica is left, which is what the app answers 503 to", "killed"):
            await ticket.whole()

    run(dies())


def test_task_7_replicas_that_are_back_are_asked_again() -> None:
    async def alive(name: str) -> bool:
        return name == "a"

    async def asks() -> None:
        one, _ = replicated(Fails(1, answer.UpstreamDied("killed, as this test wants it")), alive=alive)
        del one.upstreams["b"]
        whole = await (await one.submit(make_request)).whole()
        assert list(whole.tokens) == expected(ask_replicas()), f"`alive` says that a is back, and a goes on: {whole.tokens}"

    run(asks())


def test_task_7_an_error_of_the_request_reaches_its_ticket() -> None:
    async def fails() -> None:
        one, _ = replicated(Fails(0, ValueError("too long, as this test wants it")))
        ticket = await one.submit(make_request)
        with refuses(ValueError, "the client hears what is wrong with its request", "too long"):
            await ticket.whole()

    run(fails())


def test_task_7_no_more_than_max_open() -> None:
    async def many() -> None:
        one, _ = replicated(max_open=2)
        tickets = [await one.submit(make_request) for _ in range(2)]
        with refuses(answer.QueueFull, "2 are open and max_open is 2"):
            await one.submit(make_request)
        for ticket in tickets:
            await ticket.whole()
        await comes_true(lambda: one.stats().num_requests_running == 0, "both have ended, and are still counted")
        await (await one.submit(make_request)).whole()

    run(many())


def test_task_7_drain() -> None:
    async def drains() -> None:
        one, _ = replicated()
        ticket = await one.submit(make_request)
        assert await one.drain(5.0), "the only request can end in time"
        assert (await ticket.whole()).finish_reason == "length", "a request that was there before may end"
        with refuses(answer.Draining, "it shuts down"):
            await one.submit(make_request)

    run(drains())


def test_task_7_what_can_not_travel_is_refused() -> None:
    def make() -> Any:
        request = make_request()
        request.sampler.logit_bias = {5: 1.0}  # as a `ClientSampler` has it
        return request

    async def asks() -> None:
        with refuses(answer.ApiError, "a wish that is ignored gives an answer that looks right and is not", "logit_bias"):
            await replicated()[0].submit(make)

    run(asks())
