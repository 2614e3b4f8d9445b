"""Week 3 Day 6, task 6: an engine that is dead, that hangs, or that only fails is noticed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from answer import answer
from engine_threads import (
    ENDLESS,
    ScriptedEngine,
    Threads,
    asks,
    begin,
    happens,
    kill,
    letter,
    read,
    read_error,
    run,
    take,
    text,
    within,
)
from engine_threads import threads as threads
from fake_clock import FakeClock
from patience import PATIENCE
from support import refuses

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def healthy(served: Any, why: str) -> None:
    __tracebackhide__ = True
    assert served.healthy, f"{why}: it should be healthy, and is not because {served.reason}"
    assert served.reason is None, f"{why}: a healthy server gives no reason, and this one says {served.reason}"


def ill(served: Any, why: str) -> None:
    __tracebackhide__ = True
    assert not served.healthy, f"{why}: `healthy` should be false"
    assert served.reason, f"{why}: `reason` says what is wrong"


class Failing(ScriptedEngine):
    """Prompts that begin with "!" fail, with "~" they are late, with "?" they only take their time. One joins per step."""

    def step(self) -> list[Any]:
        self.steps += 1
        with self.iteration():
            self.before_step(self)
            for request in list(self.waiting.values())[:1]:
                self.admit(request)
            for request in list(self.running.values()):
                begins = chr(request.prompt[0])
                if begins == "!":
                    self.end(request, "error", RuntimeError("the model failed"))
                elif begins == "~":
                    self.end(request, "error", TimeoutError("too late"))
                elif begins != "?":
                    self.take(request, letter(request))
        return self.close_iteration(len(self.running), 4, 0, 0)


@pytest.mark.parametrize("step_limit", [5, 0.25])
def test_task_6_healthy_from_the_start_and_when_idle(threads: Threads, step_limit: float) -> None:
    clock = FakeClock()
    served = threads.thread(ScriptedEngine, step_limit=step_limit, clock=clock)

    async def main() -> None:
        healthy(served, "it has just been started")
        await read(*await take(served, asks(3)))
        await happens(lambda: served.turn_began is None, "the thread goes to sleep")
        clock.pass_by(10_000)
        healthy(served, "it has had nothing to do for hours, which is no illness")
        await read(*await take(served, asks(3)))
        healthy(served, "it has served a request")

    run(main)


def test_task_6_a_step_that_hangs(threads: Threads) -> None:
    clock, gate = FakeClock(), threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(before_step=gate), step_limit=5, clock=clock)

    async def main() -> None:
        (ticket,) = await take(served, asks(4))
        await gate.reach()
        clock.pass_by(4.5)
        healthy(served, "a step takes 4.5 s, and 5 are allowed")
        clock.pass_by(1.0)
        ill(served, "a step has taken 5.5 s, and 5 are allowed")
        assert "5" in str(served.reason), f"the reason says how long the step has taken: {served.reason}"
        with refuses(answer.EngineDead, "a server whose engine hangs takes no request: it would wait for ever"):
            await within(served.submit(asks(3)), "`submit` answers, though the engine does not")
        gate.open()
        assert text(await read(ticket)) == "abcd", "the step has ended after all"
        healthy(served, "the engine goes on")
        assert text(await read(*await take(served, asks(2)))) == "ab"

    run(main)


def test_task_6_hanging_in_make_is_hanging(threads: Threads) -> None:
    clock, gate = FakeClock(), threads.gate(after=0)
    served = threads.thread(ScriptedEngine, step_limit=5, clock=clock)

    class AtOnce:
        steps = 1

    def make() -> Any:
        gate(AtOnce)
        return asks(1)()

    async def main() -> None:
        submitting = begin(served.submit(make))
        await gate.reach()
        clock.pass_by(6)
        ill(served, "the thread has been busy for 6 s with a command, and no other request gets on")
        gate.open()
        await read(await within(submitting, "`submit` returns"))

    run(main)


def test_task_6_many_short_steps_are_no_hang(threads: Threads) -> None:
    clock = FakeClock()
    seen: list[str | None] = []

    def step(engine: ScriptedEngine) -> None:
        clock.pass_by(3)
        seen.append(served.reason)

    served = threads.thread(lambda: ScriptedEngine(before_step=step), step_limit=5, clock=clock)

    async def main() -> None:
        assert len(text(await read(*await take(served, asks(30))))) == 30
        assert not any(seen), f"30 steps of 3 s each, one after the other; 5 s are allowed for each: {set(seen)}"

    run(main)


def test_task_6_health_never_waits(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        await take(served, asks(ENDLESS))
        await gate.reach()

        async def look() -> None:
            await asyncio.to_thread(lambda: (served.healthy, served.reason, served.stats()))

        await within(
            look(), "`healthy`, `reason` and `stats` answer while a step goes on: they must not ask the engine's thread"
        )

    run(main)


def test_task_6_a_killed_thread_is_noticed(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.thread(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        (ticket,) = await take(served, asks(ENDLESS))
        await gate.reach()
        kill(threads.alive[0])
        gate.open()
        await read_error(ticket, answer.EngineDead)
        ill(served, "its thread is dead")
        with refuses(answer.EngineDead, "it would not be served"):
            await within(served.submit(asks(3)), "`submit` answers")

    run(main)


def test_task_6_not_started_is_not_healthy() -> None:
    served = answer.EngineThread(ScriptedEngine)
    ill(served, "it has not been started")


def raising(*numbers: int) -> Callable[[ScriptedEngine], None]:
    """Steps with these numbers raise."""

    def before_step(engine: ScriptedEngine) -> None:
        if engine.steps in numbers:
            raise RuntimeError(f"step {engine.steps} failed")

    return before_step


def test_task_6_one_step_that_raises_is_not_the_end(threads: Threads) -> None:
    served = threads.thread(lambda: ScriptedEngine(seats=1, before_step=raising(3)))

    async def main() -> None:
        running, waiting = await take(served, asks(10), asks(4))
        deltas = await read_error(running, RuntimeError)
        assert "step 3" in str(deltas[-1].error), f"who ran ends with the error of the step: {deltas[-1].error!r}"
        assert text(deltas) == "ab", "it had two tokens"
        assert text(await read(waiting)) == "abcd", "who waited is served"
        healthy(served, "one step failed, and the next ones succeeded")

    run(main)


@pytest.mark.parametrize("most", [2, 4])
def test_task_6_steps_that_keep_raising_end_the_thread(threads: Threads, most: int) -> None:
    engines: list[ScriptedEngine] = []

    def build() -> ScriptedEngine:
        engines.append(ScriptedEngine(seats=1, before_step=raising(*range(2, 1000))))
        return engines[0]

    served = threads.thread(build, max_failed_steps=most)

    async def main() -> None:
        running, *waiting = await take(served, asks(10), asks(4), asks(4))
        await read_error(running, Exception)
        for ticket in waiting:
            await read_error(ticket, Exception)
        await happens(lambda: not threads.alive, "an engine that can only raise is given up, instead of stepped for ever")
        ill(served, f"its last {most} steps raised")
        assert engines[0].steps == 1 + most, (
            f"{most} steps may fail in a row, and it was stepped {engines[0].steps - 1} times more"
        )

    run(main)


def test_task_6_failures_must_be_in_a_row(threads: Threads) -> None:
    served = threads.thread(lambda: ScriptedEngine(seats=1, before_step=raising(2, 3, 6, 7, 10, 11)), max_failed_steps=3)

    async def main() -> None:
        for _ in range(3):
            ticket, *_ = await take(served, asks(2))
            await read(ticket)
            ticket, *_ = await take(served, asks(2))
            await read(ticket)
        assert served.healthy, f"never more than two steps failed in a row, and three may not: {served.reason}"

    run(main)


def test_task_6_an_engine_that_only_fails_is_ill(threads: Threads) -> None:
    served = threads.thread(Failing, max_failed_steps=3)

    async def fail() -> None:
        await read_error(*await take(served, asks(3, "!")), RuntimeError)

    async def main() -> None:
        for _ in range(2):
            await fail()
        healthy(served, "two steps failed, and three in a row are too many")
        await fail()
        ill(served, "all that the last three steps brought was errors: HTTP would go on answering, with nothing but those")
        assert "failed" in str(served.reason), f"the reason says what the last error was: {served.reason}"
        assert text(await read(*await take(served, asks(2)))) == "ab", (
            "a request that comes all the same is served: it may be over"
        )
        healthy(served, "a request has got a token")
        for _ in range(2):
            await fail()
        healthy(served, "the count has started over")

    run(main)


def test_task_6_failures_beside_tokens_are_no_illness(threads: Threads) -> None:
    seen: list[str | None] = []
    served = threads.thread(lambda: Failing(before_step=lambda engine: seen.append(served.reason)), max_failed_steps=2)

    async def main() -> None:
        good, *failing = await take(served, asks(40), *[asks(3, "!") for _ in range(6)])
        for ticket in failing:
            await read_error(ticket, RuntimeError)
        assert len(text(await read(good))) == 40
        assert not any(seen), f"requests failed, step after step, but another one got its token in each of them: {set(seen)}"

    run(main)


def test_task_6_a_step_that_brings_nothing_counts_neither_way(threads: Threads) -> None:
    served = threads.thread(Failing, max_failed_steps=3)

    async def main() -> None:
        for _ in range(3):
            slow = await served.submit(asks(1, "?"))  # steps without a token, and without an error
            await within(read_cancelled(slow), "a request can be cancelled")
            await read_error(*await take(served, asks(3, "!")), RuntimeError)
        ill(served, "three steps failed, and between them no request got a token")

    async def read_cancelled(ticket: Any) -> None:
        ticket.cancel()
        async for _ in ticket:
            pass

    run(main)


def test_task_6_late_requests_are_no_failures(threads: Threads) -> None:
    served = threads.thread(Failing, max_failed_steps=2)

    async def main() -> None:
        for _ in range(5):
            await read_error(*await take(served, asks(3, "~")), TimeoutError)
        healthy(served, "requests that ran out of time say nothing about the engine")

    run(main)
