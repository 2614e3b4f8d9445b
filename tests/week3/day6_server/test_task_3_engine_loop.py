"""Week 3 Day 6, task 3: an engine in a thread of its own, and clients in event loops."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from answer import answer
from engine_threads import (
    ENDLESS,
    ScriptedEngine,
    Threads,
    asks,
    at_once,
    begin,
    gated,
    happens,
    letter,
    read,
    read_error,
    run,
    take,
    text,
    tokens,
    within,
)
from engine_threads import threads as threads
from patience import PATIENCE
from support import POISON, FragileModel, ToyModel, alone, is_poisoned, make_prompt, refuses

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def paged(model: Any) -> Any:
    return answer.Engine(model, num_blocks=32, block_size=4, max_num_seqs=4, max_num_batched_tokens=12)


def slots(model: Any) -> Any:
    return answer.ContinuousBatchScheduler(model, 2, max_seq_len=64, prefill_step=8)


def prompt(kind: type, length: int, max_tokens: int, seed: int = 0, **options: Any) -> Callable[[], Any]:
    return lambda: kind(make_prompt(length, seed), max_tokens, **options)


@pytest.mark.parametrize(("engine", "kind"), [(paged, "PagedRequest"), (slots, "Request")])
def test_task_3_both_engines_answer_as_if_alone(toy: ToyModel, threads: Threads, engine: Any, kind: str) -> None:
    served = threads.loop(lambda: engine(toy))
    sizes = [(5, 9), (11, 4), (3, 12), (8, 1), (6, 7)]

    async def main() -> list[list[Any]]:
        makes = [prompt(getattr(answer, kind), *size, seed) for seed, size in enumerate(sizes)]
        return list(await asyncio.gather(*(read(ticket) for ticket in await take(served, *makes))))

    for seed, ((length, max_tokens), deltas) in enumerate(zip(sizes, run(main), strict=True)):
        assert deltas[-1].error is None, f"this request should have been answered: {deltas[-1].error!r}"
        expected = alone(toy, make_prompt(length, seed), max_tokens)
        assert tokens(deltas) == expected, f"the client got {tokens(deltas)}, and the request alone gives {expected}"
        assert deltas[-1].finish_reason == "length"


def test_task_3_requests_that_have_ended_are_not_kept(threads: Threads) -> None:
    served = threads.loop(ScriptedEngine)
    made: list[weakref.ref[Any]] = []

    def make() -> Any:
        request = asks(1)()
        made.append(weakref.ref(request))
        return request

    async def main() -> None:
        for _ in range(30):
            await read(*await take(served, make))

    run(main)
    gc.collect()
    kept = sum(one() is not None for one in made)
    assert kept < 10, f"{kept} of 30 requests that have been answered are still in memory, and a server runs for months"


def test_task_3_text_arrives_with_its_tokens(threads: Threads) -> None:
    served = threads.loop(ScriptedEngine)

    async def main() -> None:
        (ticket,) = await take(served, asks(5, "hello"))
        assert ticket.prompt_tokens == 5, "the ticket knows the length of the prompt, for the usage"
        deltas = await read(ticket)
        assert [(delta.text, delta.tokens) for delta in deltas] == [(one, (ord(one),)) for one in "abcde"], (
            f"a delta per step, with the text and the token that are new in it; not {deltas}"
        )

    run(main)


def test_task_3_several_tokens_in_a_step(threads: Threads) -> None:
    class Drafting(ScriptedEngine):
        """As an engine that drafts: up to three tokens in a step."""

        def step(self) -> list[Any]:
            with self.iteration():
                for request in list(self.waiting.values()):
                    self.admit(request)
                for request in list(self.running.values()) * 3:
                    if request.finish_reason is None:
                        self.take(request, letter(request))
            return self.close_iteration(1, 1, 0, 3)

    served = threads.loop(Drafting)

    async def main() -> None:
        (ticket,) = await take(served, asks(8, "hey"), noted=lambda request, position: position)
        deltas = await read(ticket)
        assert [delta.tokens for delta in deltas] == [tuple(b"abc"), tuple(b"def"), tuple(b"gh")], (
            f"a delta has all the tokens that the request got in a step: {deltas}"
        )
        assert [delta.text for delta in deltas] == ["abc", "def", "gh"]
        assert [delta.logprobs for delta in deltas] == [(3, 4, 5), (6, 7, 8), (9, 10)], f"each of them is noted once: {deltas}"

    run(main)


def test_task_3_an_end_without_a_token(threads: Threads) -> None:
    served = threads.loop(ScriptedEngine)

    async def main() -> None:
        (ticket,) = await take(served, asks(9, "hey", eos_token_ids=[ord("c")]), noted=lambda request, position: position)
        deltas = await read(ticket)
        assert tokens(deltas) == list(b"ab"), f"EOS is not a part of the answer, and its step brings no token: {deltas}"
        assert [one for delta in deltas for one in delta.logprobs] == [3, 4], f"two tokens, two notes: {deltas}"
        assert (deltas[-1].text, deltas[-1].finish_reason) == ("", "stop")

    run(main)


def test_task_3_text_that_is_held_back_comes_with_the_end(threads: Threads) -> None:
    served = threads.loop(ScriptedEngine)

    async def main() -> None:
        held, stopped = await take(served, asks(4, stop=["cdx"]), asks(9, stop=["cd"]))
        deltas = await read(held)
        assert text(deltas) == "abcd", (
            f"'cd' could have become the stop string 'cdx', and is text after all; got {text(deltas)!r}"
        )
        assert tokens(deltas) == list(b"abcd")
        deltas = await read(stopped)
        assert (text(deltas), deltas[-1].finish_reason) == ("ab", "stop"), f"the answer ends before 'cd'; got {deltas}"

    run(main)


def test_task_3_the_engine_stays_in_its_thread(threads: Threads) -> None:
    seen: dict[str, set[int]] = {}

    def note(what: str) -> None:
        seen.setdefault(what, set()).add(threading.get_ident())

    class Watched(ScriptedEngine):
        def __init__(self, **options: Any) -> None:
            note("build")
            super().__init__(**options)

        def submit(self, request: Any) -> Any:
            note("submit")
            return super().submit(request)

        def step(self) -> list[Any]:
            note("step")
            return super().step()

        def cancel(self, request: Any) -> None:
            note("cancel")
            super().cancel(request)

    def make() -> Any:
        note("make")
        return asks(ENDLESS)()

    gate = threads.gate(after=1)
    served = threads.loop(lambda: Watched(before_step=gate))

    async def main() -> None:
        (ticket,) = await take(served, make)
        served.post(lambda engine: note("post"))
        ticket.cancel()
        gate.open()
        await read_error(ticket, answer.Cancelled)

    run(main)
    assert set(seen) == {"build", "make", "submit", "step", "cancel", "post"}, f"all of them should have happened: {set(seen)}"
    places = set().union(*seen.values())
    assert len(places) == 1, (
        f"MLX's arrays belong to the thread that made them, so all calls of the engine are made in one: {seen}"
    )
    assert threading.get_ident() not in places, "the engine has a thread of its own: an event loop must never wait for a step"


def test_task_3_requests_share_steps(threads: Threads) -> None:
    gate = threads.gate()
    engines: list[ScriptedEngine] = []

    def build() -> ScriptedEngine:
        engines.append(ScriptedEngine(seats=8, before_step=gate))
        return engines[0]

    served = threads.loop(build)

    async def main() -> None:
        gate.close()
        first = begin(take(served, asks(2)))
        await gate.reach()
        others = begin(take(served, *[asks(20) for _ in range(6)]))
        await asyncio.sleep(0)
        gate.open()
        tickets = [*await first, *await others]
        await asyncio.gather(*(read(ticket) for ticket in tickets))

    run(main)
    assert engines[0].steps <= 24, (
        "6 requests of 20 tokens that come during a step are all taken before the next, and run together; it took"
        f" {engines[0].steps} steps"
    )


def test_task_3_an_event_loop_is_woken_once_per_step(threads: Threads) -> None:
    gate = threads.gate()
    engines: list[ScriptedEngine] = []

    def build() -> ScriptedEngine:
        engines.append(ScriptedEngine(seats=8, before_step=gate))
        return engines[0]

    served = threads.loop(build)

    async def main() -> int:
        loop, calls = asyncio.get_running_loop(), 0
        given = loop.call_soon_threadsafe

        def counting(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            return given(*args, **options)

        gate.close()
        first = begin(take(served, asks(1)))
        await gate.reach()
        loop.call_soon_threadsafe = counting  # type: ignore[method-assign]
        others = begin(take(served, *[asks(15) for _ in range(8)]))
        await asyncio.sleep(0)
        gate.open()
        tickets = [*await first, *await others]
        await asyncio.gather(*(read(ticket) for ticket in tickets))
        return calls

    calls = run(main)
    assert calls <= engines[0].steps + 1, (
        f"in {engines[0].steps} steps the event loop was woken {calls} times: collect what a step has brought, for all"
        " clients, and hand it over with one `call_soon_threadsafe`"
    )


def test_task_3_each_event_loop_gets_its_own(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    served = threads.loop(ScriptedEngine)
    got: dict[str, str] = {}
    put, places = answer.Ticket.put, dict[Any, set[int]]()

    def watched(ticket: Any, delta: Any) -> None:
        places.setdefault(ticket.loop, set()).add(threading.get_ident())
        put(ticket, delta)

    monkeypatch.setattr(answer.Ticket, "put", watched)

    def client(name: str, length: int) -> None:
        async def main() -> None:
            for ticket in await take(served, asks(length), asks(length)):
                got[name] = text(await read(ticket))
            assert places[asyncio.get_running_loop()] == {threading.get_ident()}, (
                "a ticket is filled in its own event loop and nowhere else, so it needs no lock"
            )

        run(main)

    at_once(*(partial(client, f"client {n}", 3 + n) for n in range(3)))
    assert got == {f"client {n}": "abcdefgh"[: 3 + n] for n in range(3)}, f"three event loops in three threads got {got}"


def test_task_3_the_engine_does_not_wait_for_an_event_loop(threads: Threads) -> None:
    engines: list[ScriptedEngine] = []
    enough = threading.Event()

    def look(engine: ScriptedEngine) -> None:
        if engine.steps > 20:
            enough.set()

    def build() -> ScriptedEngine:
        engines.append(ScriptedEngine(before_step=look))
        return engines[0]

    served = threads.loop(build)

    async def main() -> None:
        (ticket,) = await take(served, asks(60))
        assert enough.wait(5), "an event loop that is busy with something else must not stop the engine: hand over and go on"
        assert len(text(await read(ticket))) == 60

    run(main)


def test_task_3_the_event_loop_does_not_wait_for_a_step(threads: Threads) -> None:
    gate = threads.gate()
    served = threads.loop(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        gate.close()
        waiting = [begin(take(served, asks(3))) for _ in range(3)]
        await gate.reach()
        for _ in range(5):
            await within(asyncio.sleep(0), "the event loop goes on while a step takes its time")
        assert not any(one.done() for one in waiting[1:]), "these wait until the engine has taken them"
        gate.open()
        for (ticket,) in await asyncio.gather(*waiting):
            await read(ticket)

    run(main)


def test_task_3_what_the_engine_refuses_reaches_the_caller(threads: Threads) -> None:
    served = threads.loop(ScriptedEngine)

    async def main() -> None:
        (other,) = await take(served, asks(30))
        with refuses(ValueError, "an empty prompt is refused by the engine's `submit`, and `submit` here raises the same"):
            await take(served, lambda: answer.Request([], 3))
        with refuses(ValueError, "what `make` raises reaches the caller, too", named="max_tokens"):
            await take(served, lambda: answer.Request([1], 0))
        assert len(text(await read(other))) == 30, "others do not notice"
        (again,) = await take(served, asks(2))
        assert text(await read(again)) == "ab", "the thread goes on after a request that was refused"

    run(main)
    assert served.healthy, f"a request that was refused harms no other: {served.reason}"


def test_task_3_cancel_gives_everything_back(toy: ToyModel, threads: Threads) -> None:
    engines: list[Any] = []
    gate = threads.gate(after=4)

    def build() -> Any:
        engines.append(gated(paged(toy), gate))
        return engines[0]

    served = threads.loop(build)

    async def main() -> None:
        makes = [prompt(answer.PagedRequest, 6, 30, seed) for seed in range(3)]
        tickets = await take(served, *makes)
        first = await within(anext(tickets[0]), "the first token comes")
        assert first.tokens
        for ticket in tickets:
            served.cancel(ticket)
            served.cancel(ticket)  # both the reader and the app may
        gate.open()
        for ticket in tickets:
            await read_error(ticket, answer.Cancelled)
        await happens(lambda: served.stats().kv_used == 0, "the blocks of a request that was cancelled are free")
        assert served.stats().num_requests_running == 0

    run(main)
    served.stop()
    engines[0]._thread = threading.get_ident()  # the other one has ended
    engines[0].check_integrity()


def test_task_3_cancel_comes_before_the_next_step(threads: Threads) -> None:
    running: list[int] = []
    gate = threads.gate(after=1)

    def look(engine: ScriptedEngine) -> None:
        running.append(len(engine.running))
        gate(engine)

    served = threads.loop(lambda: ScriptedEngine(before_step=look))

    async def main() -> None:
        gone, _ = await take(served, asks(ENDLESS), asks(200))
        await gate.reach()
        steps = len(running)
        gone.cancel()
        gate.open()
        await read_error(gone, answer.Cancelled)
        await happens(lambda: len(running) > steps + 2, "the other one goes on")
        assert running[steps : steps + 2] == [1, 1], (
            f"a cancel is carried out before the next step: {running[steps : steps + 2]} requests ran in the two after it"
        )

    run(main)


def test_task_3_cancel_of_one_that_waits_or_has_ended(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.loop(lambda: ScriptedEngine(seats=1, before_step=gate))

    async def main() -> None:
        first, waiting, third = await take(served, asks(ENDLESS), asks(3), asks(3))
        waiting.cancel()
        first.cancel()
        gate.open()
        await read_error(waiting, answer.Cancelled)
        assert text(await read(third)) == "abc"
        third.cancel()
        served.cancel(third)
        (again,) = await take(served, asks(2))
        assert text(await read(again)) == "ab", "to cancel what has ended changes nothing"

    run(main)


def test_task_3_whoever_is_cancelled_has_no_answer(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.loop(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        (ticket,) = await take(served, asks(ENDLESS))
        served.post(lambda engine: [engine.cancel(one) for one in list(engine.running.values())])
        gate.open()
        await read_error(ticket, answer.Cancelled)  # whichever of them cancelled it

    run(main)


def test_task_3_whoever_goes_while_submitting_is_not_served(threads: Threads) -> None:
    gate = threads.gate()
    served = threads.loop(lambda: ScriptedEngine(before_step=gate), max_unread=10 * ENDLESS)

    async def main() -> None:
        gate.close()
        first = begin(take(served, asks(1)))
        await gate.reach()
        leaving = begin(served.submit(asks(ENDLESS)))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(leaving, "a caller who is cancelled in `submit` is let go")
        gate.open()
        await first
        await happens(
            lambda: served.stats().num_requests_running + served.stats().num_requests_waiting == 0,
            "a request whose client went in the middle of `submit` is cancelled",
        )
        (after,) = await take(served, asks(2))
        await read(after)
        assert served.stats().num_requests_running == 0, "nothing is computed for a client that has gone"

    run(main)


def test_task_3_sleeps_when_there_is_nothing_to_do(threads: Threads) -> None:
    looks = 0

    def count(*_: Any) -> None:
        nonlocal looks
        looks += 1

    threading.setprofile(count)  # called for each call in threads that start from now on
    try:
        served = threads.loop(ScriptedEngine)
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]

    async def main() -> None:
        (ticket,) = await take(served, asks(3))
        await read(ticket)
        await asyncio.sleep(0.02)
        before = looks
        await asyncio.sleep(0.1)
        assert looks - before <= 20, (
            f"in a tenth of a second without work the thread made {looks - before} calls: let it sleep in `get`"
        )
        assert served.turn_began is None, f"a thread that sleeps has no turn, and `turn_began` is {served.turn_began}"
        (ticket,) = await take(served, asks(3))
        assert text(await read(ticket)) == "abc", "a command wakes it up"

    run(main)


def test_task_3_an_error_is_never_an_answer(toy: ToyModel, threads: Threads) -> None:
    served = threads.loop(lambda: paged(FragileModel(toy, is_poisoned)))

    async def main() -> None:
        poisoned = lambda: answer.PagedRequest([1, 2, POISON], 5)  # noqa: E731
        (bad,) = await take(served, poisoned)
        *_, last = await read_error(bad, Exception)
        assert "the model failed" in str(last.error), f"the error is the request's own, and this one is {last.error!r}"
        (bad,) = await take(served, poisoned)
        with refuses(Exception, "`whole` raises what the request ended with: there is no answer"):
            await within(bad.whole(), "the ticket ends")
        (good,) = await take(served, prompt(answer.PagedRequest, 5, 6))
        assert tokens(await read(good)) == alone(toy, make_prompt(5), 6), "others are served afterwards"

    run(main)


def test_task_3_a_sampler_that_gave_up_is_an_error(threads: Threads) -> None:
    served = threads.loop(ScriptedEngine)

    def make() -> Any:
        request = asks(3)()
        request.sampler.error = "the schema is too complicated"
        return request

    async def main() -> None:
        (ticket,) = await take(served, make)
        *_, last = await read_error(ticket, Exception)
        assert "too complicated" in str(last.error), f"the sampler's `error` says why, and the client got {last.error!r}"

    run(main)


def test_task_3_notes_of_each_token(threads: Threads) -> None:
    served = threads.loop(ScriptedEngine)

    async def main() -> None:
        (ticket,) = await take(served, asks(4, "hey"), noted=lambda request, position: (request.tokens[position], position))
        deltas = await read(ticket)
        assert [delta.logprobs for delta in deltas] == [((ord(one), 3 + i),) for i, one in enumerate("abcd")], (
            f"`noted` is called for each new token, with the number of tokens before it; got {[one.logprobs for one in deltas]}"
        )

        def fails(request: Any, position: int) -> Any:
            if position == 5:
                raise RuntimeError("nothing was recorded")
            return position

        good, bad = await asyncio.gather(served.submit(asks(6)), served.submit(asks(6, "hey"), fails))
        *_, last = await read_error(bad, RuntimeError)
        assert "recorded" in str(last.error)
        assert text(await read(good)) == "abcdef", "an error in a `noted` ends that request, and no other"

    run(main)


def test_task_3_a_slow_reader_stops_nobody(threads: Threads) -> None:
    lengths, got = (40, 60), [0, 0]

    def wait_for_readers(engine: ScriptedEngine) -> None:
        """The others read as fast as the engine computes."""
        watched = [one for one in engine.running.values() if one.max_tokens in lengths]
        for _ in range(5000):
            if all(got[lengths.index(one.max_tokens)] == len(one.generated_tokens) for one in watched):
                return
            time.sleep(0.001)

    served = threads.loop(lambda: ScriptedEngine(before_step=wait_for_readers), max_unread=4)

    async def follow(place: int, ticket: Any) -> Any:
        async for delta in ticket:
            got[place] += len(delta.tokens)
            if delta.is_last:
                return delta

    async def main() -> None:
        slow, *others = await take(served, asks(ENDLESS), *map(asks, lengths))
        ends = asyncio.gather(*(follow(place, ticket) for place, ticket in enumerate(others)))
        for last in await within(ends, "others get their answers while one client does not read"):
            assert last.finish_reason == "length", f"others get their whole answers, and this one ended with {last}"
        assert got == list(lengths), f"others get their whole answers: {got} tokens instead of {lengths}"
        await happens(lambda: served.stats().num_requests_running == 0, "a client that does not read is served no more")
        deltas = await read_error(slow, answer.SlowReader)
        assert text(deltas) == "abcd", f"it gets the beginning of its answer, 4 deltas here, and not {text(deltas)!r}"

    run(main)


def test_task_3_a_client_whose_loop_is_closed_is_cancelled(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.loop(lambda: ScriptedEngine(before_step=gate))

    async def leave() -> None:
        await take(served, asks(ENDLESS))
        await gate.reach()

    async def stay() -> None:
        (ticket,) = await take(served, asks(30))
        assert len(text(await read(ticket))) == 30
        await happens(lambda: served.stats().num_requests_running == 0, "nothing is computed for an event loop that is closed")

    run(leave)
    gate.open()
    run(stay)
    assert served.healthy, f"an event loop that is closed is no reason to die: {served.reason}"


def test_task_3_a_loop_that_is_closed_silences_no_other(threads: Threads) -> None:
    gate = threads.gate(after=0)

    def with_two(engine: ScriptedEngine) -> None:
        if len(engine.running) == 2:
            gate(engine)

    served = threads.loop(lambda: ScriptedEngine(before_step=with_two), max_unread=ENDLESS)
    left = asyncio.new_event_loop()
    left.run_until_complete(take(served, asks(ENDLESS)))

    async def stay() -> None:
        (ticket,) = await take(served, asks(30))
        await gate.reach()
        left.close()
        gate.open()
        got = text(await read(ticket))
        assert len(got) == 30, f"a step brought tokens for two event loops, of which one is closed, and the other got {got!r}"

    run(stay)


def test_task_3_the_snapshot_is_as_new_as_what_clients_know(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.loop(lambda: ScriptedEngine(seats=2, before_step=gate))

    async def main() -> None:
        tickets = await take(served, *[asks(9, "hello") for _ in range(5)])
        await gate.reach()
        stats = served.stats()
        assert stats.num_requests_running + stats.num_requests_waiting == 5, (
            f"a request that was taken is in the next snapshot: {stats}"
        )
        first = await within(anext(tickets[0]), "its first token has come")
        (state,) = [one for one in stats.requests if one.request_id == tickets[0].request_id]
        assert (state.prompt_tokens, state.max_tokens) == (5, 9), f"what was asked for: {state}"
        assert state.generated_tokens >= len(first.tokens), "a token that a client has is in the snapshot"
        gate.open()
        for ticket in tickets:
            await read(ticket)
        stats = served.stats()
        assert (stats.num_requests_running, stats.num_requests_waiting, stats.requests) == (0, 0, ()), (
            f"the last client has its last token, and the snapshot is older than that: {stats}"
        )
        assert stats.generation_tokens == 45

    run(main)


def test_task_3_the_snapshot_of_both_engines(toy: ToyModel, threads: Threads) -> None:
    for engine, kind, unit, total in ((paged, answer.PagedRequest, "blocks", 32), (slots, answer.Request, "slots", 2)):
        gate = threads.gate(after=4)
        served = threads.loop(lambda engine=engine, gate=gate: gated(engine(toy), gate))  # type: ignore[misc]

        async def main(served: Any = served, kind: Any = kind, unit: str = unit, total: int = total) -> None:
            (ticket,) = await take(served, prompt(kind, 9, 50))
            await within(anext(ticket), "its first token comes")
            stats = served.stats()
            assert (stats.kv_unit, stats.kv_total) == (unit, total)
            assert 0 < stats.kv_used < total, f"this one request holds some of the memory, and not all: {stats}"
            assert stats.kv_cache_usage_perc == stats.kv_used / total
            assert [one.state for one in stats.requests] == ["decoding"], f"it has its first token: {stats.requests}"

        run(main)


def test_task_3_start_raises_what_build_raises(threads: Threads) -> None:
    def build() -> Any:
        raise ValueError("num_blocks is 0")

    with refuses(ValueError, "`start` waits for the engine and raises what `build` raised", named="num_blocks"):
        threads.loop(build)
    served = threads.started[-1]
    assert not served.healthy, "there is no engine"

    async def main() -> None:
        with refuses(answer.EngineDead, "a request would not be served, so it is refused"):
            await within(served.submit(asks(1)), "`submit` answers")

    run(main)


def test_task_3_stop_ends_everybody(threads: Threads) -> None:
    gate = threads.gate(after=1)
    requests: list[Any] = []
    served = threads.loop(lambda: ScriptedEngine(seats=1, before_step=gate))

    def make() -> Any:
        requests.append(asks(ENDLESS)())
        return requests[-1]

    async def main() -> None:
        tickets = await take(served, make, make)
        stopping = begin(asyncio.to_thread(served.stop))
        await asyncio.sleep(0.05)
        gate.open()
        await within(stopping, "`stop` returns when the thread has ended")
        for ticket in tickets:
            await read_error(ticket, answer.EngineDead)
        with refuses(answer.EngineDead, "a server that has stopped takes no request"):
            await within(served.submit(asks(1)), "`submit` answers")

    run(main)
    assert not threads.alive, "the thread has ended"
    assert [one.finish_reason for one in requests] == ["cancelled"] * 2, (
        "those who run and wait when the thread is stopped are cancelled, which gives back what they hold"
    )
    served.stop()  # a second time changes nothing


def test_task_3_incomplete_letters_wait_for_the_rest(threads: Threads) -> None:
    class Emoji(ScriptedEngine):
        def step(self) -> list[Any]:
            with self.iteration():
                for request in list(self.waiting.values()):
                    self.admit(request)
                for request in list(self.running.values()):
                    self.take(request, "😀!".encode()[len(request.generated_tokens)])
            return self.close_iteration(1, 1, 0, 1)

    served = threads.loop(Emoji)

    async def main() -> None:
        (ticket,) = await take(served, asks(5))
        deltas = await read(ticket)
        assert [delta.text for delta in deltas] == ["", "", "", "😀", "!"], (
            f"a token that is part of a letter has no text yet: {[delta.text for delta in deltas]}"
        )
        assert tokens(deltas) == list("😀!".encode()), "and it is handed on all the same"

    run(main)
