"""Week 3 Day 6, task 6: a bounded queue, and a server that ends without losing an answer."""

import asyncio
import time
from typing import Any

import pytest

from answer import answer
from engine_threads import ENDLESS, ScriptedEngine, Threads, asks, begin, happens, read, read_error, run, take, text, within
from engine_threads import threads as threads
from fake_clock import FakeClock
from patience import PATIENCE
from support import refuses

pytestmark = pytest.mark.timeout(3 * PATIENCE)


async def refused(served: Any, kind: type[Exception], look_at: str) -> Exception:
    """The error with which a request is refused, at once."""
    __tracebackhide__ = True
    errors: list[Exception] = []

    async def submit() -> None:
        try:
            await served.submit(asks(3))
        except kind as error:
            errors.append(error)
            raise

    with refuses(kind, look_at):
        await within(submit(), f"{look_at}; it is refused at once, whatever the engine does")
    return errors[0]


def test_task_6_the_queue_is_bounded(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(seats=1, before_step=gate), max_queue=3)

    async def main() -> None:
        running, *waiting = await take(served, asks(4), asks(2), asks(2))
        late = begin(take(served, asks(2)))
        await asyncio.sleep(0)
        full = await refused(served, answer.QueueFull, "one runs and three wait, one of them on its way: the queue is full")
        assert isinstance(full.retry_after, int), "`retry_after` is a number of seconds, for the header"  # type: ignore[attr-defined]
        assert full.retry_after >= 1, "`retry_after` is at least a second"  # type: ignore[attr-defined]
        gate.open()
        for ticket in [running, *waiting, *await late]:
            deltas = await read(ticket)
            assert deltas[-1].finish_reason == "length", f"those who were taken are served: {deltas[-1]}"
        (again,) = await take(served, asks(2))
        assert text(await read(again)) == "ab", "when the queue is shorter, requests are taken again"

    run(main)


def test_task_6_a_crowd_that_comes_during_one_step(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(seats=2, before_step=gate), max_queue=5)

    async def main() -> None:
        first = await take(served, asks(3))
        await gate.reach()
        crowd = [begin(served.submit(asks(3))) for _ in range(40)]
        for _ in range(3):
            await asyncio.sleep(0)
        sent_away = [one for one in crowd if one.done()]
        assert len(sent_away) == 35, (
            f"5 may wait, and those on their way to the engine's thread wait, too: 35 of 40 are to be refused, at once, and"
            f" {len(sent_away)} were"
        )
        for one in sent_away:
            assert isinstance(one.exception(), answer.QueueFull), f"refused with {one.exception()!r}"
        gate.open()
        tickets = [*first, *[await within(one, "`submit` returns") for one in crowd if one not in sent_away]]
        for ticket in tickets:
            assert text(await read(ticket)) == "abc"

    run(main)


def test_task_6_whoever_runs_does_not_count(threads: Threads) -> None:
    gate = threads.gate()

    def unhurried(engine: ScriptedEngine) -> None:
        time.sleep(0.002)  # three who run without end leave the event loop no time otherwise
        gate(engine)

    served = threads.thread(lambda: ScriptedEngine(seats=4, before_step=unhurried), max_queue=1, max_unread=ENDLESS)

    async def main() -> None:
        for _ in range(3):  # one after the other
            await take(served, asks(ENDLESS))
        gate.close()
        await gate.reach()
        last = begin(take(served, asks(3)))
        await asyncio.sleep(0)
        await refused(served, answer.QueueFull, "one is on its way to the engine, and one may wait")
        gate.open()
        (ticket,) = await last
        assert text(await read(ticket)) == "abc", "three run, and the queue has room for one"

    run(main)


def test_task_6_a_cancel_makes_room(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(seats=1, before_step=gate), max_queue=2)

    async def main() -> None:
        running, waiting = await take(served, asks(ENDLESS), asks(2))
        late = begin(take(served, asks(2)))
        await asyncio.sleep(0)
        await refused(served, answer.QueueFull, "two wait")
        waiting.cancel()
        running.cancel()
        gate.open()
        await read_error(waiting, answer.Cancelled)
        assert text(await read(*await late)) == "ab"
        first, second = await take(served, asks(2), asks(2))
        assert text(await read(first)) + text(await read(second)) == "abab", "a request that was cancelled waits no more"

    run(main)


def test_task_6_a_refused_request_takes_no_place(threads: Threads) -> None:
    served = threads.thread(ScriptedEngine, max_queue=2)

    async def main() -> None:
        for _ in range(5):
            with refuses(ValueError, "the engine refuses an empty prompt"):
                await take(served, lambda: answer.Request([], 3))
        first, second = await take(served, asks(2), asks(2))
        assert text(await read(first)) + text(await read(second)) == "abab", "none waits, and two may"

    run(main)


@pytest.mark.parametrize(("seconds", "waiting"), [(1.0, 4), (1.0, 8), (3.0, 4), (0.01, 4), (200.0, 2)])
def test_task_6_retry_after_follows_the_pace(threads: Threads, seconds: float, waiting: int) -> None:
    clock, gate = FakeClock(), threads.gate(after=10)

    def step(engine: ScriptedEngine) -> None:
        if 1 < engine.steps <= 10:
            clock.pass_by(seconds)
        gate(engine)

    served = threads.thread(lambda: ScriptedEngine(seats=1, before_step=step), max_queue=waiting, step_limit=10**6, clock=clock)

    async def main() -> None:
        for _ in range(10):  # one per step, with a token each
            await read(*await take(served, asks(1)))
        crowd = [begin(served.submit(asks(1))) for _ in range(waiting + 3)]
        for _ in range(3):
            await asyncio.sleep(0)
        full = [one.exception() for one in crowd if one.done()]
        assert full, f"{waiting + 3} wait, and {waiting} may"
        pace = min(60, max(1, waiting * seconds))
        for error in full:
            assert isinstance(error, answer.QueueFull), f"refused with {error!r}"
            assert isinstance(error.retry_after, int), f"the header has whole seconds, and this is {error.retry_after!r}"
            assert 0.6 * pace <= error.retry_after <= 1.6 * pace + 1, (
                f"a request has ended every {seconds:g} s, and {waiting} wait: it takes about {pace:.0f} s to serve them (1 to"
                f" 60), and `retry_after` is {error.retry_after}"
            )
            if pace in (1, 60):
                assert error.retry_after == pace, (
                    f"`retry_after` is 1 … 60, and here it should be {pace}, not {error.retry_after}"
                )
        gate.open()

    run(main)


def test_task_6_the_pace_is_that_of_late(threads: Threads) -> None:
    clock, gate = FakeClock(), threads.gate(after=10)

    def step(engine: ScriptedEngine) -> None:
        clock.pass_by(0.1)
        gate(engine)

    served = threads.thread(lambda: ScriptedEngine(seats=1, before_step=step), max_queue=2, step_limit=10**6, clock=clock)

    async def main() -> None:
        for _ in range(10):
            await read(*await take(served, asks(1)))
        crowd = [begin(take(served, asks(1))) for _ in range(2)]
        await gate.reach()
        clock.pass_by(200.0)
        error: Any = await refused(served, answer.QueueFull, "two wait, and two may")
        assert 20 <= error.retry_after <= 60, (
            "ten have ended in the first second, and none in the 200 since: the pace counts until now, and two that wait take"
            f" about 40 s, not {error.retry_after}"
        )
        gate.open()
        for one in crowd:
            await read(*await one)

    run(main)


def test_task_6_retry_after_when_one_has_ended(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(before_step=gate), max_queue=1)

    async def main() -> None:
        await read(*await take(served, asks(1)))
        second = begin(take(served, asks(1)))
        await gate.reach()
        error: Any = await refused(served, answer.QueueFull, "one waits, and one may")
        assert 1 <= error.retry_after <= 60, f"one end is no pace yet, and still this is 1 … 60, not {error.retry_after}"
        gate.open()
        await read(*await second)

    run(main)


def test_task_6_retry_after_when_nothing_is_known(threads: Threads) -> None:
    gate = threads.gate(after=0)
    served = threads.thread(lambda: ScriptedEngine(before_step=gate), max_queue=1)

    async def main() -> None:
        first = begin(take(served, asks(1)))
        await gate.reach()
        error: Any = await refused(served, answer.QueueFull, "one waits, and one may")
        assert error.retry_after == 1, f"before any has ended there is no pace to go by: a second, not {error.retry_after}"
        gate.open()
        await read(*await first)

    run(main)


def test_task_6_drain_lets_everybody_end(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(seats=1, before_step=gate))

    async def main() -> None:
        tickets = await take(served, asks(8), asks(5), asks(3))
        draining = begin(served.drain(2 * PATIENCE))
        await happens(lambda: not served.healthy, "a server that is shutting down says so, so that no client is sent there")
        await refused(served, answer.Draining, "a server that is shutting down takes no new request")
        assert not draining.done(), "it waits for those that it has taken"
        gate.open()
        for ticket, length in zip(tickets, (8, 5, 3), strict=True):
            deltas = await read(ticket)
            assert len(text(deltas)) == length, (
                f"each request that was taken gets a whole answer, the waiting too: {deltas[-1]}"
            )
        assert await within(draining, "`drain` returns when the last answer has ended"), "all have ended by themselves"
        assert not threads.alive, "the thread has ended"
        assert not served.healthy, "a server that has stopped is not healthy"
        with refuses(answer.ServingError, "none is taken after the end"):
            await within(served.submit(asks(1)), "`submit` answers")

    run(main)


def test_task_6_drain_does_not_wait_for_who_was_refused(threads: Threads) -> None:
    served = threads.thread(ScriptedEngine)

    async def main() -> None:
        with refuses(ValueError, "the engine refuses an empty prompt"):
            await take(served, lambda: answer.Request([], 3))
        assert await within(served.drain(2 * PATIENCE), "no request is served, so `drain` returns at once"), (
            "a request that was refused has ended: its ticket is settled, and not open any more"
        )

    run(main)


def test_task_6_drain_with_nobody_there(threads: Threads) -> None:
    served = threads.thread(ScriptedEngine)

    async def main() -> None:
        assert await within(
            served.drain(2 * PATIENCE), "without a request `drain` is over at once: the thread sleeps, and must be woken"
        )
        assert not threads.alive, "the engine's thread ends when it has nothing left to do and takes nothing new"

    run(main)


def test_task_6_drain_counts_those_on_their_way(threads: Threads) -> None:
    gate = threads.gate(after=0)
    served = threads.thread(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        first = begin(take(served, asks(1)))
        await gate.reach()
        second = begin(take(served, asks(3)))
        await asyncio.sleep(0)
        draining = begin(served.drain(2 * PATIENCE))
        await happens(lambda: not served.healthy, "it is draining")
        gate.open()
        await read(*await first)
        assert text(await read(*await second)) == "abc", (
            "it was on its way to the thread before the drain began, so it is served"
        )
        assert await within(draining, "`drain` returns")

    run(main)


def test_task_6_drain_ends_the_rest_when_time_is_up(threads: Threads) -> None:
    requests: list[Any] = []

    def make() -> Any:
        requests.append(asks(ENDLESS)())
        return requests[-1]

    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(seats=1, before_step=gate))

    async def main() -> None:
        tickets = await take(served, make, make)
        draining = begin(served.drain(0.05))
        await asyncio.sleep(0.1)
        gate.open()
        assert not await within(draining, "`drain` ends when its time is up"), "two have not ended by themselves"
        for ticket in tickets:
            await read_error(ticket, answer.ServingError)
        assert not threads.alive, "the thread has ended"

    run(main)
    assert [one.finish_reason for one in requests] == ["cancelled"] * 2, "what they held is given back"


def test_task_6_drain_does_not_wait_for_a_step_that_hangs(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        (ticket,) = await take(served, asks(ENDLESS))
        await gate.reach()
        assert not await within(served.drain(0.02, grace=0.02), "`drain` returns, though the engine's step does not")
        await read_error(ticket, answer.ServingError)

    run(main)


def test_task_6_the_event_loop_goes_on_while_the_server_drains(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        (ticket,) = await take(served, asks(20))
        draining = begin(served.drain(2 * PATIENCE))
        await asyncio.sleep(0.01)
        gate.open()
        assert len(text(await read(ticket))) == 20, "answers are sent while the server drains"
        await within(draining, "`drain` returns")

    run(main)
