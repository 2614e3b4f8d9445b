"""What tests of the server share: the toy model behind an app, and a gate at which its engine waits when a test wants it to."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from answer import answer
from asgi_client import PATIENCE
from engine_threads import start
from support import ToyModel, alone
from tiny_llm_kit.models.tiny_random import ByteTokenizer

MODEL = "toy"
TOKENIZER = ByteTokenizer()


class GatedModel:
    """Waits before each call while its gate is shut. The gate shuts by itself after `shut_after` calls, if that is set: then a
    test finds the engine where it wants it, however slow the test's own thread is.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        self.gate = threading.Event()
        self.gate.set()
        self.shut_after = 0
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.gate.wait(PATIENCE)
        self.calls += 1
        if self.calls == self.shut_after:
            self.gate.clear()
        return self.model(*args, **kwargs)


class LoopWithQueue(answer.EngineLoop):  # type: ignore[name-defined, misc]
    """The engine's thread of task 3, with a bounded queue. That is all that task 5 may need: `EngineThread` is of task 6."""

    def __init__(self, build: Callable[[], Any], max_queue: int) -> None:
        super().__init__(build)
        self.max_queue = max_queue

    def check_open(self) -> None:
        super().check_open()
        if self.num_waiting >= self.max_queue:
            raise answer.QueueFull(f"{self.num_waiting} requests wait already", 1)


class Served:
    """An app, and the engine behind it for a look at what it holds.

    steps: how many requests each step served.
    """

    def __init__(self, model: Any, app_options: dict[str, Any], max_queue: int, **engine_options: Any) -> None:
        self.model = GatedModel(model)
        self.steps: list[int] = []
        sizes = {"num_blocks": 64, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 64, "max_seq_len": 128}
        self.sizes = {**sizes, **engine_options}
        self.thread = LoopWithQueue(self._build, max_queue)
        start(self.thread)
        self.app = answer.create_app(self.thread, MODEL, TOKENIZER, **app_options)
        self.thread.post(self._only_our_reader)

    def _only_our_reader(self, engine: Any) -> None:
        """The app has put its metrics among the readers of the event log, which are of task 7."""
        engine.event_log.readers[:] = engine.event_log.readers[:1]

    def _build(self) -> Any:
        self.engine = answer.Engine(self.model, **self.sizes)
        self.engine.event_log.readers.append(lambda state: self.steps.append(state.active_requests))
        return self.engine

    async def until(self, done: Callable[[], bool], what: str) -> None:
        """Wait until `done()`, which takes a few steps; AssertionError that says `what` should have come."""
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not after {PATIENCE:.0f} s; {self.describe()}")
            await asyncio.sleep(0.002)

    async def until_empty(self, why: str) -> None:
        """Wait until no request waits or runs and all blocks are free or can be."""
        await self.until(lambda: not self.engine.has_work and self._lost() == 0, why)

    def describe(self) -> str:
        return f"{len(self.engine.running)} requests run, {len(self.engine.waiting)} wait, {self._lost()} blocks are held"

    def _lost(self) -> int:
        pool = self.engine.pool
        return int(pool.num_blocks - pool.num_free - self.engine.prefix_cache.evictable)


@contextmanager
def served(model: Any, *, max_queue: int = 16, app: dict[str, Any] | None = None, **engine_options: Any) -> Iterator[Served]:
    """The model behind an app; the engine's thread ends with the block. `app`: options of `create_app`."""
    serving = Served(model, app or {}, max_queue, **engine_options)
    try:
        yield serving
    finally:
        serving.model.gate.set()
        serving.thread.stop()


def text_alone(toy: ToyModel, prompt: str | list[int], max_tokens: int) -> str:
    """The greedy answer to a prompt, as text, when there is no other request."""
    tokens = TOKENIZER.encode(prompt) if isinstance(prompt, str) else prompt
    return TOKENIZER.decode(alone(toy, tokens, max_tokens))
