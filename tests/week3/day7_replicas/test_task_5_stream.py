"""Week 3 Day 7, task 5: one unbroken stream over replicas that die, and over a network that fails."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from answer import answer
from event_loop import run
from failing_replicas import (
    Client,
    Fails,
    Notes,
    Replica,
    Said,
    ask,
    assert_books_are_closed,
    dies,
    expected,
    is_unreachable,
    listen,
    stream,
)
from paged_engines import engine
from support import ToyModel, finish_all
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()


def of_two(*failures: Fails, **options: Any) -> tuple[Notes, dict[str, Replica]]:
    """A replica that fails, which is ranked first, and one that does not."""
    router = Notes()
    return router, {
        "a": Replica(*failures, router=router, name="a", **options),
        "b": Replica(router=router, name="b", **options),
    }


# Nothing fails.


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_task_5_a_stream_that_does_not_break(at_a_time: int) -> None:
    router, replicas = of_two(at_a_time=at_a_time)
    request = ask()
    client = listen(router, request, replicas)
    client.received(request)
    assert len(client.pieces) == -(-8 // at_a_time), f"pieces are handed on as they come: {client.pieces}"
    assert not replicas["b"].asked, "the first replica answers, so no other is asked"
    assert_books_are_closed(router, replicas)


def test_task_5_the_end_may_come_in_a_piece_of_its_own() -> None:
    router, replicas = of_two(separately=True)
    request = ask()
    listen(router, request, replicas).received(request)


def test_task_5_the_router_hears_of_progress() -> None:
    router, replicas = of_two(dies(3), at_a_time=2)
    listen(router, ask(), replicas)
    assert router.progress == {"a": 6, "b": 2}, (
        f"a sent 6 tokens, b the other 2, and the router heard of {dict(router.progress)}"
    )


def test_task_5_the_router_knows_what_is_left() -> None:
    router, replicas = of_two(dies(3))
    listen(router, ask(), replicas)
    assert [len(request.prompt) for request in router.asked] == [5, 8], (
        "the next replica is chosen for what is left: a prompt that has grown by the delivered tokens; the router was asked for"
        f" prompts of {[len(request.prompt) for request in router.asked]} tokens"
    )


# A replica dies.

DEATHS = {"it says so": dies, "it just ends": Fails}


@pytest.mark.parametrize("dies_somehow", DEATHS.values(), ids=DEATHS)
@pytest.mark.parametrize("at_a_time", [1, 3])
def test_task_5_a_death_at_every_place(dies_somehow: Any, at_a_time: int) -> None:
    for after in range(-(-8 // at_a_time)):
        router, replicas = of_two(dies_somehow(after), at_a_time=at_a_time)
        request = ask()
        listen(router, request, replicas).received(request)
        assert router.dead == ["a"], f"a has died after piece {after}, and the router was told of {router.dead}"
        assert_books_are_closed(router, replicas)


def test_task_5_a_death_between_the_last_token_and_the_end() -> None:
    router, replicas = of_two(dies(8), separately=True)
    request = ask()
    listen(router, request, replicas).received(request)


def test_task_5_several_deaths() -> None:
    router = Notes()
    replicas = {name: Replica(dies(after)) for name, after in (("a", 2), ("b", 0), ("c", 3))} | {"d": Replica()}
    request = ask()
    listen(router, request, replicas).received(request)
    assert router.dead == ["a", "b", "c"], f"three have died, and the router was told of {router.dead}"


def test_task_5_what_died_is_not_asked_again() -> None:
    router, replicas = of_two(dies(1))
    listen(router, ask(), replicas)
    listen(router, ask(), replicas)
    assert len(replicas["a"].asked) == 1, f"a has died in the first stream, and is asked {len(replicas['a'].asked)} times"


def test_task_5_all_have_died() -> None:
    router = Notes()
    replicas = {"a": Replica(dies(2)), "b": Replica(dies(1))}
    client = listen(router, ask(), replicas)
    assert client.tokens == expected(ask())[:3], f"what came before is delivered all the same: {client.tokens}"
    assert isinstance(client.error, answer.GaveUp), f"all have died: that is GaveUp, and not {client.error!r}"
    assert "killed" in str(client.error), f"GaveUp says what became of them: {client.error}"
    assert_books_are_closed(router, replicas)


def test_task_5_no_replicas_at_all() -> None:
    client = listen(Notes(), ask(), {})
    assert isinstance(client.error, answer.GaveUp), f"no replica is there: that is GaveUp, and not {client.error!r}"


def test_task_5_a_request_that_kills() -> None:
    router = Notes()
    replicas = {name: Replica(*[dies(0)] * 9) for name in "abcde"}
    client = listen(router, ask(), replicas, max_deaths=3)
    assert isinstance(client.error, answer.GaveUp), f"three have died of it: that is GaveUp, and not {client.error!r}"
    assert router.dead == ["a", "b", "c"], f"max_deaths is 3, so d and e live: {router.dead} have died of this request"


def test_task_5_a_piece_without_tokens_is_no_progress() -> None:
    """Half a letter: a piece that says that the replica works, and no more."""

    async def says_nothing(request: Any) -> AsyncGenerator[Said]:
        yield Said([])
        raise answer.UpstreamDied("killed, as this test wants it")

    router = Notes()
    client = listen(router, ask(), dict.fromkeys("abcde", says_nothing), max_deaths=3)
    assert isinstance(client.error, answer.GaveUp), f"three have died of it: that is GaveUp, and not {client.error!r}"
    assert router.dead == ["a", "b", "c"], f"no token has come between these deaths, and max_deaths is 3: {router.dead}"


def test_task_5_deaths_behind_new_tokens_have_other_causes() -> None:
    router = Notes()
    replicas = {name: Replica(dies(1)) for name in "abcdef"} | {"g": Replica()}
    request = ask()
    listen(router, request, replicas, max_deaths=2).received(request)


def test_task_5_a_new_replica_takes_over() -> None:
    replicas: dict[str, Any] = {}

    async def is_replaced(request: Any) -> AsyncGenerator[Said]:
        try:
            async for said in Replica(dies(2))(request):
                yield said
        finally:
            replicas["late"] = Replica()

    replicas["a"] = is_replaced
    request = ask()
    listen(Notes(), request, replicas).received(request)


def test_task_5_two_streams_at_once() -> None:
    async def both() -> list[Client]:
        router, replicas = of_two(dies(2), dies(3))
        replicas["a"].router = replicas["b"].router = None
        requests = [ask(), answer.StreamRequest("request 2", [2, 7, 1], 8, sampling=ask().sampling)]
        clients = await asyncio.gather(*(stream(router, request, replicas) for request in requests))
        for client, request in zip(clients, requests, strict=True):
            client.received(request)
        return list(clients)

    run(both())


# The network fails.

FAULTS = {
    "refused": ConnectionRefusedError("refused, as this test wants it"),
    "reset": ConnectionResetError("reset, as this test wants it"),
    "timed out": TimeoutError("timed out, as this test wants it"),
}


@pytest.mark.parametrize("error", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("after", [0, 3])
def test_task_5_a_fault_of_the_network(error: Exception, after: int) -> None:
    router, replicas = of_two(Fails(after, error))
    request = ask()
    listen(router, request, replicas).received(request)
    assert not router.dead, (
        f"a {type(error).__name__} may be the network's fault, and the router was told that {router.dead} died"
    )
    assert len(replicas["b"].asked) == 1, "who can't be reached is not waited for: the next one goes on"
    assert_books_are_closed(router, replicas)


def test_task_5_the_next_stream_asks_it_again() -> None:
    router, replicas = of_two(is_unreachable())
    for _ in range(2):
        request = ask()
        listen(router, request, replicas).received(request)
    assert len(replicas["a"].asked) == 2, "a was unreachable once; the next stream should try it again"


def test_task_5_the_only_replica_is_tried_again() -> None:
    router = Notes()
    replicas = {"a": Replica(is_unreachable(), is_unreachable(2), is_unreachable())}
    request = ask()
    listen(router, request, replicas).received(request)


def test_task_5_it_pauses_before_it_asks_the_same_again() -> None:
    replicas, pauses = {"a": Replica(*[is_unreachable()] * 3)}, []

    async def watched() -> Client:
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def at_once(delay: float, *work: Any, **options: Any) -> Any:
            pauses.append(delay)
            return later(0, *work, **options)

        loop.call_later = at_once  # type: ignore[method-assign, assignment]
        return await stream(Notes(), ask(), replicas, pause=0.02)

    run(watched()).received(ask())
    assert pauses == [0.02, 0.04, 0.08], (
        f"unreachable in three rounds, so there are pauses of 0.02, 0.04 and 0.08 seconds (asyncio.sleep), and not {pauses}: a"
        " loop without pauses is an attack"
    )


def test_task_5_it_does_not_try_for_ever() -> None:
    router = Notes()
    replicas = {name: Replica(*[is_unreachable()] * 99) for name in "ab"}
    client = listen(router, ask(), replicas, max_rounds=3)
    assert isinstance(client.error, answer.GaveUp), f"no replica can be reached: that is GaveUp, and not {client.error!r}"
    asked = [len(replica.asked) for replica in replicas.values()]
    assert asked == [3, 3], f"max_rounds is 3, so each is asked three times, and not {asked}"
    assert "nobody listens" in str(client.error), f"GaveUp says why: {client.error}"
    assert_books_are_closed(router, replicas)


def test_task_5_rounds_begin_anew_behind_a_token() -> None:
    replicas = {"a": Replica(*[is_unreachable(1)] * 7)}
    request = ask()
    listen(Notes(), request, replicas, max_rounds=2).received(request)


def test_task_5_unreachable_and_dead() -> None:
    router = Notes()
    replicas = {"a": Replica(is_unreachable(), is_unreachable(2)), "b": Replica(dies(1))}
    request = ask()
    listen(router, request, replicas).received(request)
    assert router.dead == ["b"], f"b has died and a was unreachable: the router was told of {router.dead}"


# Those who come back.


def test_task_5_a_replica_that_is_back() -> None:
    router, probed = Notes(), []

    async def alive(name: str) -> bool:
        probed.append(name)
        return name == "b"

    replicas = {"a": Replica(dies(1)), "b": Replica(dies(2))}
    request = ask()
    listen(router, request, replicas, alive=alive).received(request)
    assert router.dead == ["a"], f"b is alive again, and a is not; the router holds {router.dead} for dead"
    assert len(replicas["a"].asked) == 1, "a is not alive, and was asked again"


def test_task_5_a_replica_may_come_back_several_times() -> None:
    async def alive(name: str) -> bool:
        return True

    request = ask()
    listen(Notes(), request, {"a": Replica(dies(1), dies(2), dies(1), dies(0))}, alive=alive).received(request)


def test_task_5_the_living_are_not_probed() -> None:
    router, replicas = of_two(dies(1))

    async def alive(name: str) -> bool:
        raise AssertionError(f"{name} is probed, and b lives")

    request = ask()
    listen(router, request, replicas, alive=alive).received(request)


def test_task_5_nobody_is_back() -> None:
    async def alive(name: str) -> bool:
        return False

    client = listen(Notes(), ask(), {"a": Replica(dies(1))}, alive=alive)
    assert isinstance(client.error, answer.GaveUp), f"the only one is dead: that is GaveUp, and not {client.error!r}"


# It is the request's own fault.


@pytest.mark.parametrize("kind", [ValueError, PermissionError, RuntimeError])
def test_task_5_a_bad_request_is_not_sent_round(kind: type[Exception]) -> None:
    refusal = kind("the prompt is too long, as this test wants it")
    router, replicas = of_two(Fails(0, refusal))
    client = listen(router, ask(), replicas)
    assert client.error is refusal, f"the client hears what is wrong with its request, and not {client.error!r}"
    assert not replicas["b"].asked, "every replica would refuse it: the next one need not be asked"
    assert not router.dead, f"a has refused a request, and is not dead: {router.dead}"
    assert_books_are_closed(router, replicas)


def test_task_5_an_error_in_the_stream_is_an_end() -> None:
    async def fails(request: Any) -> AsyncGenerator[Said]:
        yield Said([1])
        yield Said([], "error")

    router, other = Notes(), Replica()
    client = listen(router, ask(), {"a": fails, "b": other})
    assert client.finish_reason == "error", f"the replica lives and says how it ended: {client.finish_reason!r}"
    assert not other.asked, "the request has ended with an error of its own, and another replica is asked to go on"
    assert not router.dead, f"no replica has died, and the router was told of {router.dead}"
    assert (client.tokens, client.error) == ([1], None), (
        f"a piece with a finish reason is the last, whatever the reason is; the client got {client.tokens}, {client.error!r}"
    )


def test_task_5_a_replica_that_refuses_at_once() -> None:
    def refuses_at_once(request: Any) -> AsyncGenerator[Said]:
        raise ConnectionRefusedError("before there is a stream, as this test wants it")

    request, router = ask(), Notes()
    listen(router, request, {"a": refuses_at_once, "b": Replica()}).received(request)
    assert not router.open, "a was never reached, and the router still counts the request there"


# The client leaves.


@pytest.mark.parametrize("failure", [None, dies(1)], ids=["of the first", "of the second"])
def test_task_5_a_client_that_leaves(failure: Fails | None) -> None:
    async def leave() -> None:
        router, replicas = Notes(), {"a": Replica(failure), "b": Replica()}
        await stream(router, ask(), replicas, until=lambda: sum(replica.sent for replica in replicas.values()) == 3)
        assert_books_are_closed(router, replicas)
        assert sum(replica.sent for replica in replicas.values()) == 3, "the client has left, and replicas went on"
        assert router.dead == (["a"] if failure else []), f"no replica dies of a client that leaves: {router.dead}"

    run(leave())


def test_task_5_a_client_that_is_cancelled() -> None:
    async def leave() -> None:
        router, hangs = Notes(), asyncio.Event()

        class Hanging(Replica):
            async def _answer(self, request: Any) -> AsyncGenerator[Said]:
                yield Said([1])
                hangs.set()
                await asyncio.sleep(60)

        replicas = {"a": Hanging(), "b": Replica()}
        task = asyncio.ensure_future(stream(router, ask(), replicas))
        waiting = asyncio.ensure_future(hangs.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert not task.done(), f"the replica has more to say, and the stream has ended with {task.result().error!r}"
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "a stream that is cancelled ends: CancelledError is no failure of a replica"
        assert_books_are_closed(router, replicas)
        assert not replicas["b"].asked, "the client has left, and the next replica is asked"

    run(leave())


# All of it together.

WAYS = {
    "greedy": {},
    "drawn": {"temperature": 1.0, "seed": 3},
    "penalized": {"temperature": 0.7, "repetition_penalty": 1.4, "seed": 4},
}


@pytest.mark.parametrize("params", WAYS.values(), ids=WAYS)
def test_task_5_on_real_engines(toy: ToyModel, params: dict[str, Any]) -> None:
    """Two engines behind the course's own router; the first is killed in the middle of a stop string."""
    kill_after: list[int] = []

    async def replica(request: Any) -> AsyncGenerator[Said]:
        served, shown, given = engine(toy), 0, 0
        own = answer.engine_request(request, TOKENIZER)
        if own.finish_reason is None:
            served.submit(own)
        count = 0
        while own.finish_reason is None or shown < len(own.text):
            served.step()
            count += len(own.generated_tokens) - given
            if kill_after and count >= kill_after[0]:
                kill_after.pop()
                raise answer.UpstreamDied("killed, as this test wants it")
            yield Said(own.generated_tokens[given:], own.finish_reason, own.text[shown:])
            given, shown = len(own.generated_tokens), len(own.text)
        finish_all(served)

    sampling = answer.SamplingParams(**params)
    plain = answer.StreamRequest("plain", TOKENIZER.encode("Once"), 14, sampling=sampling)
    text = listen(answer.RoundRobin(), plain, {"a": replica}).text
    request = answer.StreamRequest("stops", plain.prompt, 14, sampling=sampling, stop=(text[8:12],))
    alone = listen(answer.RoundRobin(), request, {"a": replica})
    assert alone.finish_reason == "stop", "the answer holds its stop string"
    for after in (1, 5, 9, 10, 11):
        kill_after[:] = [after]
        client = listen(answer.RoundRobin(), request, {"a": replica, "b": replica})
        assert (client.tokens, client.text, client.finish_reason) == (alone.tokens, alone.text, alone.finish_reason), (
            f"killed after token {after - 1}, the client reads {client.text!r} ({client.finish_reason!r}, {client.error!r}),"
            f" and alone {alone.text!r} ({alone.finish_reason!r})"
        )
