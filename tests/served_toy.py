"""What tests of the server share: the toy model behind an app, and a gate at which its engine waits when a test wants it to."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from answer import answer
from asgi_client import PATIENCE
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


class Served:
    """An app, and the engine behind it for a look at what it holds.

    steps: how many requests each step served.
    """

    def __init__(self, model: Any, app_options: dict[str, Any], max_queue: int, **engine_options: Any) -> None:
        self.model = GatedModel(model)
        self.steps: list[int] = []
        sizes = {"num_blocks": 64, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 64, "max_seq_len": 128}
        self.sizes = {**sizes, **engine_options}
        self.thread = answer.EngineThread(self._build, max_queue=max_queue)
        self.thread.start()
        self.app = answer.create_app(self.thread, MODEL, TOKENIZER, **app_options)

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
        """Wait until nobody waits or runs and all blocks are free or can be."""
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
    """The greedy answer to a prompt, as text, when nobody else is there."""
    tokens = TOKENIZER.encode(prompt) if isinstance(prompt, str) else prompt
    return TOKENIZER.decode(alone(toy, tokens, max_tokens))
