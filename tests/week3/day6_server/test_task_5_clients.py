"""What clients do, and what engines do to them: leaving, not reading, coming all at once, waiting too long, and failures.

However an exchange ends, the engine must be empty after it.
"""

import asyncio
import threading
from typing import Any

import pytest

from answer import answer
from asgi_client import PATIENCE, Exchange, ask
from served_toy import MODEL, Served, served, text_alone
from support import FragileModel, ToyModel

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
LONG = {"model": MODEL, "prompt": "Once upon", "max_tokens": 110, "temperature": 0}
EVERY_KIND = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def error_of(exchange: Exchange) -> Any:
    """What a stream's error event says."""
    errors = [event["error"] for event in exchange.events() if "error" in event]
    assert len(errors) == 1, (
        f"a stream that fails has one error event, and this one has {len(errors)}: {exchange.body[-300:]!r}"
    )
    return errors[0]


async def running(serving: Served, count: int = 1) -> None:
    await serving.until(lambda: len(serving.engine.running) >= count, f"{count} requests should run")


@EVERY_KIND
@pytest.mark.parametrize("n", [1, 3])
def test_task_5_a_client_that_leaves_is_not_served_on(toy: ToyModel, stream: bool, n: int) -> None:
    async def main(serving: Served) -> None:
        serving.model.shut_after = 8
        async with Exchange(serving.app, COMPLETIONS, {**LONG, "stream": stream, "n": n}) as exchange:
            await serving.until(lambda: serving.model.calls == 8, "the engine should be in the middle of the answer")
            exchange.hang_up()
            await asyncio.wait([exchange.task], timeout=PATIENCE)
            assert exchange.task.done(), "the client has left, and its exchange should end though the engine is busy"
            serving.model.gate.set()
            await serving.until_empty("a client has left, and its requests should be cancelled")

    with served(toy) as serving:
        asyncio.run(main(serving))
    assert serving.model.calls < 20, (
        f"{serving.model.calls - 8} steps for a client that had left: await `http.disconnect` alongside the answer, see"
        " unless_gone, and cancel its tickets"
    )


@EVERY_KIND
def test_task_5_a_client_may_leave_while_it_waits(toy: ToyModel, stream: bool) -> None:
    async def main(serving: Served) -> None:
        serving.model.gate.clear()
        async with Exchange(serving.app, COMPLETIONS, {**LONG, "max_tokens": 20}) as first:
            await running(serving)
            async with Exchange(serving.app, COMPLETIONS, {**LONG, "stream": stream}) as second:
                await serving.until(lambda: serving.thread.num_waiting == 1, "the second request should wait")
                second.hang_up()
                await asyncio.wait([second.task], timeout=PATIENCE)
                assert second.task.done(), "the client has left, and its exchange should end though the engine is busy"
            serving.model.gate.set()
            await first.answered()
            await serving.until_empty("the request of a client that has left should not wait on")
            assert first.json()["choices"][0]["text"] == text_alone(toy, "Once upon", 20), "others are served as before"

    with served(toy, max_num_seqs=1) as serving:
        asyncio.run(main(serving))
        assert len(serving.steps) < 60, "the request of a client that has left was served when it was its turn"


def test_task_5_a_client_that_leaves_between_two_events_is_noticed(toy: ToyModel) -> None:
    """While nothing is being sent: nothing can fail, so only `receive` tells."""

    async def main(serving: Served) -> None:
        async with Exchange(serving.app, COMPLETIONS, {**LONG, "stream": True}) as exchange:
            await serving.until(lambda: serving.model.calls == 10, "the engine should be in the middle of the answer")
            await exchange.until(b"data: ")
            exchange.hang_up()
            await asyncio.wait([exchange.task], timeout=PATIENCE)
            assert exchange.task.done(), "the stream goes on waiting for a token though its client has left"
            calls = serving.model.calls
            serving.model.gate.set()
            await serving.until_empty("a client has left, and its request should be cancelled")
            assert serving.model.calls < calls + 10, "the request of a client that had left was served on"

    with served(toy) as serving:
        serving.model.shut_after = 10
        asyncio.run(main(serving))


def test_task_5_who_does_not_read_is_not_served_on(toy: ToyModel) -> None:
    async def main(serving: Served) -> None:
        async with Exchange(serving.app, COMPLETIONS, {**LONG, "max_tokens": 1500, "stream": True}) as slow:
            await slow.until(b"data: ")
            slow.stop_reading()
            other = await ask(serving.app, COMPLETIONS, {**LONG, "max_tokens": 20})
            assert other.json()["choices"][0]["text"] == text_alone(toy, "Once upon", 20), "a client that reads is served"
            await serving.until(
                lambda: not serving.engine.has_work, "a client that reads nothing should lose its request, not fill the memory"
            )
            assert serving.steps[-1] <= 1

    with served(_Endless(toy), num_blocks=512, max_seq_len=1600) as serving:
        asyncio.run(main(serving))


class _Endless:
    """The toy's positions end at 512. This one says the same letter for as long as a client listens."""

    def __init__(self, toy: ToyModel) -> None:
        self.toy = toy
        self.config = toy.config

    def __call__(self, tokens: Any, offset: Any = 0, *args: Any, **kwargs: Any) -> Any:
        return self.toy(tokens, offset % 400, *args, **kwargs)


@EVERY_KIND
def test_task_5_without_an_answer_in_time_the_status_says_so(toy: ToyModel, stream: bool) -> None:
    async def main(serving: Served) -> Exchange:
        serving.model.gate.clear()
        async with Exchange(serving.app, COMPLETIONS, LONG):
            await running(serving)
            exchange = await ask(serving.app, COMPLETIONS, {**LONG, "stream": stream})
        serving.model.gate.set()
        await serving.until_empty("the time of both is over, and they should not be served on")
        return exchange

    with served(toy, app={"request_timeout": 0.1}) as serving:
        exchange = asyncio.run(main(serving))
    assert exchange.status == 504, f"no answer in time is status 504, and not {exchange.status}: {exchange.body!r:.300}"
    assert "0.1 s" in exchange.json()["error"]["message"], "the message names the time that was allowed"


def test_task_5_a_stream_that_takes_too_long_ends_with_an_error(toy: ToyModel) -> None:
    async def main(serving: Served) -> Exchange:
        async with Exchange(serving.app, COMPLETIONS, {**LONG, "stream": True}) as exchange:
            await exchange.until(b"data: ")
            serving.model.gate.clear()
            await exchange.answered()
            serving.model.gate.set()
            await serving.until_empty("its time is over, and it should not be served on")
            return exchange

    with served(toy, app={"request_timeout": 0.5}) as serving:
        exchange = asyncio.run(main(serving))
    assert "0.5 s" in error_of(exchange)["message"], "the message names the time that was allowed"
    assert "[DONE]" not in exchange.data(), "an answer that was broken off must not end like a whole one"


def test_task_5_an_answer_that_is_begun_and_takes_too_long_is_told_the_same(toy: ToyModel) -> None:
    async def main(serving: Served) -> Exchange:
        serving.model.shut_after = 3
        exchange = await ask(serving.app, COMPLETIONS, LONG)
        serving.model.gate.set()
        await serving.until_empty("its time is over, and it should not be served on")
        return exchange

    with served(toy, app={"request_timeout": 0.5}) as serving:
        exchange = asyncio.run(main(serving))
    assert exchange.status == 504, (
        f"some tokens and then no more in time is status 504, and not {exchange.status}: a whole answer whose ticket ended with"
        f" an error is what `explain` makes of that error: {exchange.body!r:.300}"
    )
    assert "0.5 s" in exchange.json()["error"]["message"], "the message names the time that was allowed"


def test_task_5_time_that_a_request_has_waited_is_part_of_its_limit(toy: ToyModel) -> None:
    async def main(serving: Served) -> Exchange:
        loop, passed, held = asyncio.get_running_loop(), 0.0, threading.Event()
        real_time = loop.time
        loop.time = lambda: real_time() + passed  # type: ignore[method-assign]
        serving.thread.post(lambda engine: held.wait(PATIENCE))
        async with Exchange(serving.app, COMPLETIONS, {**LONG, "stream": True}) as exchange:
            await serving.until(lambda: serving.thread.num_waiting == 1, "the request should be submitted")
            passed = 60.0
            held.set()
            await exchange.until(b"data: ")
            serving.model.gate.clear()
            passed = 101.0
            await exchange.answered()
            serving.model.gate.set()
            await serving.until_empty("its time is over, and it should not be served on")
            return exchange

    with served(toy, app={"request_timeout": 100.0}) as serving:
        exchange = asyncio.run(main(serving))
    assert "100" in error_of(exchange)["message"], "the message names the time that was allowed"


def test_task_5_who_waits_for_the_client_to_leave_ends_with_the_work() -> None:
    ended = False

    async def receive() -> Any:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    async def main() -> None:
        assert await answer.unless_gone(receive, work()) == "done"
        assert ended, "the work is done: cancel the task that waits for `http.disconnect`, and wait until it has ended"

    asyncio.run(main())


@EVERY_KIND
def test_task_5_a_full_queue_sends_clients_away(toy: ToyModel, stream: bool) -> None:
    async def main(serving: Served) -> Exchange:
        serving.model.gate.clear()
        async with Exchange(serving.app, COMPLETIONS, LONG):
            await running(serving)
            waiting = [Exchange(serving.app, COMPLETIONS, LONG) for _ in range(2)]
            for exchange in waiting:
                await exchange.__aenter__()
            await serving.until(lambda: serving.thread.num_waiting == 2, "two requests should wait")
            refused = await ask(serving.app, COMPLETIONS, {**LONG, "stream": stream})
            for exchange in waiting:
                await exchange.__aexit__()
        serving.model.gate.set()
        await serving.until_empty("all clients have left")
        return refused

    with served(toy, max_queue=2, max_num_seqs=1) as serving:
        refused = asyncio.run(main(serving))
    assert refused.status == 429, f"the queue is full, which is status 429, and not {refused.status}: {refused.body!r:.300}"
    assert int(refused.headers["retry-after"]) >= 1, "Retry-After says in how many seconds it is worth another try"
    assert refused.json()["error"]["message"]


def test_task_5_choices_that_found_a_place_leave_it_if_others_did_not(toy: ToyModel) -> None:
    async def main(serving: Served) -> Exchange:
        serving.model.gate.clear()
        async with Exchange(serving.app, COMPLETIONS, LONG) as first:
            await running(serving)
            refused = await ask(serving.app, COMPLETIONS, {**LONG, "n": 8})
            serving.model.gate.set()
            await first.answered()
        await serving.until_empty("the refused body's requests should not be in the queue")
        return refused

    with served(toy, max_queue=3, max_num_seqs=1) as serving:
        refused = asyncio.run(main(serving))
        assert refused.status == 429, f"8 choices do not fit into a queue of 3: {refused.status}"
        assert len(serving.steps) < 160, "those choices of a refused body that had found a place were served, for no client"


def test_task_5_a_prompt_that_the_engine_refuses_is_the_end_of_the_others(toy: ToyModel) -> None:
    """The second one could never fit into the pool, which only the engine knows. The first one has been taken by then."""

    async def main(serving: Served) -> Exchange:
        both_are_there = threading.Event()
        serving.thread.post(lambda engine: both_are_there.wait(PATIENCE))  # so that it takes them in one turn
        serving.model.shut_after = 3
        async with Exchange(serving.app, COMPLETIONS, {**LONG, "prompt": ["Hi", "x" * 100], "max_tokens": 60}) as refused:
            await serving.until(lambda: serving.thread.num_waiting >= 2, "both prompts should be submitted")
            both_are_there.set()
            await refused.answered()
        serving.model.gate.set()
        await serving.until_empty("the refused body's requests should not be in the engine")
        return refused

    with served(toy, num_blocks=16) as serving:
        refused = asyncio.run(main(serving))
        assert refused.status == 400, f"a prompt that can't be served is status 400: {refused.status}, {refused.body!r:.300}"
        assert serving.model.calls < 30, "the other prompt of a refused body was served, for no client"


@EVERY_KIND
def test_task_5_an_engine_s_error_is_never_a_success(toy: ToyModel, stream: bool) -> None:
    calls = 0

    def fails(_: Any) -> bool:
        nonlocal calls
        calls += 1
        return calls == 4

    async def main(serving: Served) -> tuple[Exchange, Exchange]:
        broken = await ask(serving.app, COMPLETIONS, {**LONG, "stream": stream})
        await serving.until_empty("a request that failed is over")
        return broken, await ask(serving.app, COMPLETIONS, {**LONG, "max_tokens": 4})

    with served(FragileModel(toy, fails)) as serving:
        broken, after = asyncio.run(main(serving))
    if stream:
        assert error_of(broken)["message"]
        assert "[DONE]" not in broken.data(), "half an answer must not end like a whole one"
        ends = [choice.get("finish_reason") for event in broken.events() for choice in event.get("choices", ())]
        assert not any(ends), f"a choice that failed has no finish_reason, {ends}"
    else:
        assert broken.status == 500, (
            f"the engine has failed, which is status 500, and not {broken.status}: {broken.body!r:.300}"
        )
        assert broken.json()["error"]["message"]
    assert after.status == 200, "the next request is served: one step has failed, and not the engine"
    assert after.json()["choices"][0]["text"] == text_alone(toy, "Once upon", 4)


def test_task_5_one_choice_that_fails_ends_the_others(toy: ToyModel) -> None:
    """A body has one answer: if a part of it is missing, the rest is of no use, and no client would fetch it."""
    prompts = [[10, 11, 12], [20, 21, 22, 259]]

    async def main(serving: Served) -> Exchange:
        exchange = await ask(serving.app, COMPLETIONS, {**LONG, "prompt": prompts})
        await serving.until_empty("the other prompt's request should end with its body")
        return exchange

    from support import is_poisoned

    with served(FragileModel(toy, is_poisoned)) as serving:
        exchange = asyncio.run(main(serving))
    assert exchange.status == 500, f"one of two prompts has failed: {exchange.status}, {exchange.body!r:.300}"


def test_task_5_health_says_ok_while_the_engine_lives(toy: ToyModel) -> None:
    with served(toy) as serving:
        exchange = asyncio.run(ask(serving.app, "/health"))
    assert exchange.status == 200, f"the engine lives: {exchange.body!r:.300}"


def test_task_5_health_is_503_when_the_engine_has_ended(toy: ToyModel) -> None:
    with served(toy) as serving:
        serving.thread.stop()
        exchange = asyncio.run(ask(serving.app, "/health"))
        refused = asyncio.run(ask(serving.app, COMPLETIONS, LONG))
    assert exchange.status == 503, "HTTP works, and nothing behind it: a load balancer must not send requests here"
    assert exchange.json()["error"]["message"], "the body says why"
    assert refused.status == 503, "no client should wait for an engine that is gone"
