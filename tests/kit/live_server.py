"""A real server on a free port of this machine, in a thread of this process, with a tiny random model that babbles."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import uvicorn

import tiny_llm_ref as ref
from tiny_llm_kit.cli.server_process import take_port
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config

MODEL = "tiny"
PATIENCE = 20.0


class GatedModel:
    """Waits before each call while its gate is shut: an engine that hangs, for as long as a test wants.

    It says printable ASCII, and never an EOS, so that an answer is as long as it was asked to be.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        self.gate = threading.Event()
        self.gate.set()
        self.only_printable = mx.array([0.0 if 32 <= token < 127 else -1e9 for token in range(self.config.vocab_size)])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.gate.wait(PATIENCE)
        return self.model(*args, **kwargs) + self.only_printable


class LiveServer:
    """url: of the server. engine: for a look at what it holds. thread: its thread. model: has the gate."""

    url: str
    engine: Any
    thread: Any
    model: GatedModel

    def until(self, done: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"{what}: not after {seconds:.0f} s"
            time.sleep(0.01)

    def until_empty(self) -> None:
        """Wait until nobody waits or runs and all blocks are free or can be."""

        def empty() -> bool:
            pool = self.engine.pool
            lost = pool.num_blocks - pool.num_free - self.engine.prefix_cache.evictable
            return not self.engine.has_work and not lost

        self.until(empty, "the engine should be empty")


@contextmanager
def live_server(
    *, max_seq_len: int = 256, max_num_seqs: int = 8, step_limit: float = 30.0, max_queue: int = 64, **app: Any
) -> Iterator[LiveServer]:
    """The server, until the block ends."""
    live = LiveServer()
    config = tiny_config()
    weights = random_weights(config)
    mx.eval(list(weights.values()))

    def build() -> Any:
        live.model = GatedModel(ref.Model(config, weights))
        live.engine = ref.Engine(live.model, num_blocks=256, max_num_seqs=max_num_seqs, max_seq_len=max_seq_len)
        return live.engine

    live.thread = ref.EngineThread(build, step_limit=step_limit, max_queue=max_queue)
    live.thread.start()
    taken = take_port("127.0.0.1", 0)
    live.url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    server = uvicorn.Server(
        uvicorn.Config(
            ref.create_app(live.thread, MODEL, ByteTokenizer(), **app), log_level="critical", timeout_graceful_shutdown=1
        )
    )
    serving = threading.Thread(target=server.run, args=([taken],), daemon=True)
    serving.start()
    try:
        live.until(lambda: server.started, "the server should start")
        yield live
    finally:
        live.model.gate.set()
        server.should_exit = True
        serving.join(PATIENCE)
        live.thread.stop()
        taken.close()
