"""What the tests of the engine's thread (week 3 day 6) share: an engine that does as it is told, and no thread leaks."""

import asyncio
import ctypes
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest

from answer import answer
from patience import PATIENCE
from tiny_llm_kit.models.tiny_random import ByteTokenizer

T = TypeVar("T")


ENDLESS = 10**6
"""Tokens of an answer that does not end within a test."""


class ScriptedEngine(answer.RequestBook):
    """An engine without a model: each request that runs gets a token per step, "a", "b", "c" and so on.

    Args:
        seats: how many run at once.
        before_step: called at the beginning of each step, with the engine; it may wait, or raise.
    """

    def __init__(self, seats: int = 4, before_step: "Callable[[ScriptedEngine], None]" = lambda engine: None) -> None:
        super().__init__(10 * ENDLESS, ByteTokenizer.vocab_size)
        self.seats = seats
        self.before_step = before_step
        self.steps = 0

    def step(self) -> list[Any]:
        self.steps += 1
        with self.iteration():
            self.before_step(self)
            for request in list(self.waiting.values())[: self.seats - len(self.running)]:
                self.admit(request)
            new_tokens = sum(self.take(request, letter(request)) for request in list(self.running.values()))
        return self.close_iteration(len(self.running), self.seats, len(self.waiting), new_tokens)


def letter(request: Any) -> int:
    """The next token of a request in a `ScriptedEngine`."""
    return ord("a") + len(request.generated_tokens) % 26


def asks(max_tokens: int, prompt: str = "hello", **options: Any) -> Callable[[], Any]:
    """What `submit` is given."""
    tokenizer = ByteTokenizer()
    return lambda: answer.Request(tokenizer.encode(prompt), max_tokens, **{"detokenizer": tokenizer.detokenizer(), **options})


class Gate:
    """Lets steps wait until the test opens it; at the end of the test it is open in any case.

    Args:
        after: how many steps it lets through first; None: all, until it is closed.
    """

    def __init__(self, after: int | None = None) -> None:
        self.reached = threading.Event()
        self._after = after
        self._open = threading.Event()

    def __call__(self, engine: Any) -> None:
        if self._after is not None and engine.steps > self._after:
            self.reached.set()
            self._open.wait(60)

    def close(self) -> None:
        self.reached.clear()
        self._open.clear()
        self._after = 0

    def open(self) -> None:
        self._after = None
        self._open.set()

    async def reach(self) -> None:
        """Until a step waits at the gate."""
        await happens(self.reached.is_set, "the engine is stepped: there is work, and the thread should begin a step")


def gated(engine: Any, gate: Gate) -> Any:
    """Any engine, whose steps wait at a gate."""
    step, engine.steps = engine.step, 0

    def wait_and_step() -> list[Any]:
        engine.steps += 1
        gate(engine)
        ended: list[Any] = step()
        return ended

    engine.step = wait_and_step
    return engine


class Threads:
    """Starts engines in threads, and ends them."""

    def __init__(self) -> None:
        self.before = set(threading.enumerate())
        self.started: list[Any] = []
        self.gates: list[Gate] = []

    def loop(self, build: Callable[[], Any], **options: Any) -> Any:
        return self._start(answer.EngineLoop(build, **options))

    def thread(self, build: Callable[[], Any], **options: Any) -> Any:
        return self._start(answer.EngineThread(build, **options))

    def gate(self, after: int | None = None) -> Gate:
        self.gates.append(Gate(after))
        return self.gates[-1]

    def _start(self, served: Any) -> Any:
        self.started.append(served)
        start(served)
        return served

    @property
    def alive(self) -> list[threading.Thread]:
        """Threads that were not there before the test."""
        return [thread for thread in threading.enumerate() if thread not in self.before and thread.name == "engine"]

    def end(self) -> None:
        for gate in self.gates:
            gate.open()
        problem = None
        for served in self.started:
            try:
                served.stop(PATIENCE)
            except NotImplementedError:  # a stub's: the test has failed of the same
                pass
            except Exception as error:
                problem = error
        for thread in self.alive:
            kill(thread)
            thread.join(0.5)
        if problem is not None:
            raise problem


def start(served: Any) -> None:
    """`served.start()`, which is not waited for if the thread never says that its engine is built."""
    result: Future[None] = Future()

    def starts() -> None:
        try:
            result.set_result(served.start())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=starts, daemon=True).start()
    try:
        result.result(PATIENCE)
    except TimeoutError:
        raise AssertionError(
            f"`start` still waits after {PATIENCE:g} s: `_run` sets `_built` when the engine is there, and before it serves"
        ) from None


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Threads]:
    """Nothing prints a traceback in these threads: two threads that do so at once can crash Python 3.11 (gh-106905)."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    caplog.set_level(logging.CRITICAL + 1)
    threads = Threads()
    try:
        yield threads
    finally:
        threads.end()


def kill(thread: threading.Thread) -> None:
    """Raise SystemExit in a thread, at whatever line of Python it is."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def at_once(*clients: Callable[[], None]) -> None:
    """Run each of these in a thread of its own, to the end; raise the first error of them."""
    __tracebackhide__ = True
    errors: list[BaseException] = []

    def keep(client: Callable[[], None]) -> None:
        try:
            client()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=keep, args=(client,), daemon=True) for client in clients]
    for one in running:
        one.start()
    for one in running:
        one.join(4 * PATIENCE)
    if errors:
        raise errors[0]


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run this in an event loop of its own."""
    __tracebackhide__ = True

    _begun.clear()

    async def limited() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # a test that fails leaves tasks behind
        return await within(main(), "this test is over", 4 * PATIENCE)

    return asyncio.run(limited())


async def within(awaitable: Awaitable[T], what: str, seconds: float = PATIENCE) -> T:
    """Await this; AssertionError if it takes too long: `what` did not happen."""
    __tracebackhide__ = True
    try:
        return await asyncio.wait_for(awaitable, seconds)
    except TimeoutError:
        raise AssertionError(f"{what}: it did not happen in {seconds:g} s. Does it wait for what never comes?") from None


async def happens(condition: Callable[[], Any], what: str) -> None:
    """Wait until this is true."""
    __tracebackhide__ = True

    async def look() -> None:
        while not condition():
            for one in _begun:
                if one.done() and not one.cancelled():
                    _expect_no_stub(one.exception())
            await asyncio.sleep(0.001)

    await within(look(), what)


_begun: list[Any] = []
"""What goes on alongside the test."""


def begin(awaitable: Awaitable[T]) -> "asyncio.Future[T]":
    """Let this go on alongside the test."""
    _begun.append(asyncio.ensure_future(awaitable))
    return _begun[-1]


async def take(served: Any, *makes: Callable[[], Any], **options: Any) -> list[Any]:
    """Submit these; their tickets. They come in between the same two steps: the thread is held up until all are there."""
    __tracebackhide__ = True
    all_there = threading.Event()
    if len(makes) > 1:
        served.post(lambda engine: all_there.wait(PATIENCE))
    submitting = asyncio.gather(*(served.submit(make, **options) for make in makes))
    await asyncio.sleep(0)
    all_there.set()
    try:
        return await within(submitting, "`submit` returns: the engine's thread accepts the request, and tells the ticket")
    except answer.ServingError as error:
        _expect_no_stub(error)
        raise


async def read(ticket: Any) -> list[Any]:
    """All deltas of a ticket, to its end."""
    __tracebackhide__ = True

    async def to_the_end() -> list[Any]:
        return [delta async for delta in ticket]

    deltas = await within(to_the_end(), "the ticket ends: every request ends with a delta that has a finish_reason or an error")
    for delta in deltas:
        _expect_no_stub(delta.error)
    assert deltas, "the ticket ended without any delta: the last one says how the request has ended"
    assert [delta.is_last for delta in deltas] == [False] * (len(deltas) - 1) + [True], (
        "only the last delta has a finish_reason or an error"
    )
    return deltas


async def read_error(ticket: Any, kind: type[BaseException]) -> list[Any]:
    """The deltas of a ticket that has to end with such an error."""
    __tracebackhide__ = True
    deltas = await read(ticket)
    last = deltas[-1]
    assert isinstance(last.error, kind), f"the ticket should end with {kind.__name__}, and its last delta is {last}"
    assert last.finish_reason is None, f"an answer that failed has no finish_reason, and this one has {last.finish_reason!r}"
    return deltas


def _expect_no_stub(error: BaseException | None) -> None:
    """If a thread has died of a stub, that is what to look at."""
    __tracebackhide__ = True
    while error is not None:
        if isinstance(error, NotImplementedError):
            raise error
        error = error.__cause__


def text(deltas: list[Any]) -> str:
    return "".join(delta.text for delta in deltas)


def tokens(deltas: list[Any]) -> list[int]:
    return [token for delta in deltas for token in delta.tokens]
