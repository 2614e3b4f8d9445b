"""Week 3 Day 6, task 3: the engine's thread dies, and no client waits for it."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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
    happens,
    kill,
    read,
    read_error,
    run,
    take,
    text,
    within,
)
from engine_threads import threads as threads
from patience import PATIENCE
from support import refuses

pytestmark = pytest.mark.timeout(3 * PATIENCE)

DEATHS: dict[str, Callable[[], BaseException]] = {
    "an exception": lambda: RuntimeError("the device is lost"),
    "no memory": lambda: MemoryError("none left"),
    "an exit": lambda: SystemExit("sys.exit was called"),
    "Ctrl-C": lambda: KeyboardInterrupt(),
}


def dying(death: Callable[[], BaseException], alive: int) -> Callable[[], Any]:
    """An engine for one request at a time whose step raises when it has made this many."""

    def die(engine: ScriptedEngine) -> None:
        if engine.steps > alive:
            raise death()

    return lambda: ScriptedEngine(seats=1, before_step=die)


@pytest.mark.parametrize("death", DEATHS)
def test_task_3_death_ends_every_ticket(threads: Threads, death: str) -> None:
    served = threads.loop(dying(DEATHS[death], alive=3))

    async def main() -> None:
        running, *waiting = await take(served, *[asks(100) for _ in range(4)])
        deltas = await read_error(running, answer.EngineDead)
        assert "abc".startswith(text(deltas)), f"what it got before is the beginning of its answer, not {text(deltas)!r}"
        for ticket in waiting:
            await read_error(ticket, answer.EngineDead)
        with refuses(answer.EngineDead, "no request is taken any more: none would be served"):
            await within(served.submit(asks(1)), "`submit` answers after the death of the thread")

    run(main)
    assert not served.healthy, "a server whose engine is dead is not healthy"
    assert type(DEATHS[death]()).__name__ in str(served.reason), (
        f"the reason names what the thread has died of, and it says: {served.reason}"
    )


def test_task_3_death_from_outside(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.loop(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        tickets = await take(served, asks(200), asks(200), asks(200))
        await gate.reach()
        (thread,) = threads.alive
        kill(thread)
        gate.open()
        for ticket in tickets:
            await read_error(ticket, answer.EngineDead)
        await happens(lambda: not served.healthy, "the server notices that its thread has been killed")

    run(main)


def test_task_3_death_while_somebody_submits(threads: Threads) -> None:
    gate = threads.gate()
    served = threads.loop(lambda: ScriptedEngine(before_step=gate))

    async def main() -> None:
        gate.close()
        submitting = [begin(served.submit(asks(5)))]
        await gate.reach()
        submitting += [begin(served.submit(asks(5))) for _ in range(3)]
        await asyncio.sleep(0)
        kill(threads.alive[0])
        gate.open()
        for one in submitting[1:]:
            with refuses(answer.EngineDead, "a command that the thread did not get to carry out is answered, too"):
                await within(one, "`submit` ends when the thread dies before it has taken the request")
        with suppress(answer.EngineDead):  # it may not have heard yet that it was taken
            await read_error(await within(submitting[0], "`submit` ends"), answer.EngineDead)

    run(main)


def test_task_3_death_while_the_thread_sleeps(threads: Threads) -> None:
    served = threads.loop(ScriptedEngine)

    async def main() -> None:
        await read(*await take(served, asks(2)))
        kill(threads.alive[0])  # it notices when it wakes up
        with refuses(answer.EngineDead, "the command that wakes the thread up is the one that it dies with"):
            ticket = await within(served.submit(asks(3)), "`submit` ends")
            await read_error(ticket, answer.EngineDead)
            raise answer.EngineDead

    run(main)


def test_task_3_death_in_a_command(threads: Threads) -> None:
    gate = threads.gate(after=1)
    served = threads.loop(lambda: ScriptedEngine(before_step=gate))

    def die(engine: Any) -> None:
        raise SystemExit

    async def main() -> None:
        (ticket,) = await take(served, asks(200))
        served.post(die)
        gate.open()
        await read_error(ticket, answer.EngineDead)

    run(main)


def test_task_3_death_is_told_to_every_event_loop(threads: Threads) -> None:
    gate = threads.gate()

    def slowly(engine: ScriptedEngine) -> None:
        time.sleep(0.001)
        gate(engine)

    served = threads.loop(lambda: ScriptedEngine(before_step=slowly), max_unread=ENDLESS)
    told = []

    async def leave() -> None:
        await take(served, asks(ENDLESS))

    def client() -> None:
        async def main() -> None:
            (ticket,) = await take(served, asks(ENDLESS))
            taken.release()
            await read_error(ticket, answer.EngineDead)
            told.append(threading.get_ident())

        run(main)

    run(leave)  # this loop is closed, and can't be told anything
    taken = threading.Semaphore(0)

    def killer() -> None:
        for _ in range(3):
            assert taken.acquire(timeout=PATIENCE), "each client is taken"
        gate.close()
        assert gate.reached.wait(5), "the engine is stepped while a request is served"
        kill(threads.alive[0])
        gate.open()

    at_once(client, client, client, killer)
    assert len(told) == 3, f"three event loops have clients, and {len(told)} heard of the thread's death"


def test_task_3_death_leaves_an_empty_snapshot(threads: Threads) -> None:
    served = threads.loop(dying(DEATHS["an exception"], alive=3))

    async def main() -> None:
        for ticket in await take(served, asks(100), asks(100)):
            await read_error(ticket, answer.EngineDead)
        stats = served.stats()
        assert (stats.num_requests_running, stats.num_requests_waiting) == (0, 0), (
            f"no request runs or waits in an engine that is dead: {stats}"
        )

    run(main)


def test_task_3_an_answer_that_is_complete_stays_so(threads: Threads) -> None:
    def die(engine: ScriptedEngine) -> None:
        if engine.steps > 6:
            raise RuntimeError("the device is lost")

    served = threads.loop(lambda: ScriptedEngine(before_step=die))

    async def main() -> None:
        short, long = await take(served, asks(3), asks(200))
        await read_error(long, answer.EngineDead)
        deltas = [delta async for delta in short]
        assert (text(deltas), deltas[-1].finish_reason) == ("abc", "length"), (
            f"it had ended before the thread died, and is read afterwards: {deltas}"
        )

    run(main)


def test_task_3_the_first_death_counts(threads: Threads) -> None:
    served = threads.loop(dying(DEATHS["an exception"], alive=1))

    async def main() -> None:
        (ticket,) = await take(served, asks(100))
        deltas = await read_error(ticket, answer.EngineDead)
        cause = deltas[-1].error.__cause__
        assert isinstance(cause, RuntimeError), (
            f"what the thread has died of is the `__cause__` of EngineDead, and not {cause!r}"
        )

    run(main)
    served.stop(PATIENCE)
    assert "the device is lost" in str(served.reason), (
        f"it had died of something before it was stopped, and the reason should still name that: {served.reason}"
    )
