"""What a server costs: the same requests handed to an engine, and sent over HTTP to a server around an engine like it.

Both ways have the same weights in the same process. The client is a separate process (`stream_client`): in the server's process
it would hold the interpreter lock. Each run has a new engine, which has served one request to warm up.
"""

import json
import subprocess
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil

from tiny_llm_kit.bench.engines import RequestFailed
from tiny_llm_kit.bench.live_server import LoopProbe, live_server
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import plain_prompt

GENERATE, SERVER = "generate", "server"
WAYS = (GENERATE, SERVER)
WARM_UP = WorkItem(tuple(plain_prompt(8)), max_tokens=2)
_DAY = 86400.0

Answer = tuple[list[int], str]
"""Tokens and text."""


@dataclass(frozen=True)
class Streams:
    """What a run of the server also tells, in seconds.

    lags: of the server's event loop, see `LoopProbe`.
    firsts, pieces: from the end of the step that brought a text to when the client had it: the first text of each answer, and
        every one.
    """

    lags: Sequence[float]
    firsts: Sequence[float]
    pieces: Sequence[float]


@dataclass(frozen=True)
class CostRun:
    """All requests served once. seconds: from the first to the end of the last. steps: seconds of each step of the engine."""

    way: str
    answers: list[Answer]
    seconds: float
    steps: Sequence[float]
    meter: LoadMeter
    noisy: bool
    streams: Streams | None = None

    @property
    def tokens_per_second(self) -> float:
        return sum(len(tokens) for tokens, _ in self.answers) / self.seconds

    @property
    def step(self) -> float:
        """Seconds of the median step."""
        return float(np.median(self.steps))


@dataclass
class Watch:
    """Reads an engine's log: when each step ended, which requests were served, and how many letters each had by then."""

    engine: Any
    kinds: Any
    ends: list[float] = field(default_factory=list)
    requests: dict[int, Any] = field(default_factory=dict)
    letters: dict[int, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))

    def read(self, state: Any) -> None:
        self.ends.append(state.time)
        for event in state.events:
            if event.kind is self.kinds.ARRIVED:
                found = self.engine.running.get(event.request_id) or self.engine.waiting[event.request_id]
                self.requests[event.request_id] = found
            elif event.kind in (self.kinds.FIRST_TOKEN, self.kinds.TOKEN):
                request = self.requests[event.request_id]
                self.letters[event.request_id].append((len(request.text), state.time))

    def forget(self) -> None:
        """Start over, after the warm-up."""
        self.ends.clear()
        self.requests.clear()
        self.letters.clear()

    @property
    def steps(self) -> list[float]:
        return [float(step) for step in np.diff(self.ends)]

    def delays(self, request_id: int, texts: Sequence[str], times: Sequence[float]) -> list[float]:
        """Seconds from the end of the step that brought each of the texts to the time when the client had it."""
        known, length, delays = self.letters[request_id], 0, []
        for text, time_there in zip(texts, times, strict=True):
            length += len(text)
            place = bisect_left(known, (length, 0.0))
            if place == len(known):
                raise RequestFailed(f"a client got {length} letters of an answer, and the engine made {known[-1][0]}")
            delays.append(time_there - known[place][1])
        return delays


@dataclass(frozen=True)
class ServerCost:
    """Both ways to serve these items, with the engine and the server of an answer package.

    build: makes an engine, with `time.monotonic` as its clock; it is called in the engine's thread.
    noise: share of the CPU that others may have; the client is none of them.
    """

    answer: ModuleType
    loaded: LoadedModel
    items: Sequence[WorkItem]
    build: Callable[[], Any]
    noise: float

    def run(self, way: str) -> CostRun:
        """Serve all items once in one of the `WAYS`. RequestFailed if one of them is not answered."""
        return self.generate() if way == GENERATE else self.server()

    def generate(self) -> CostRun:
        """All are submitted to the engine, which is stepped until they have ended. As the server does, it makes text, too."""
        watch = self._watched(self.build())
        self._finish(watch, [WARM_UP])
        watch.forget()
        with LoadMeter() as meter:
            requests = self._finish(watch, self.items)
        for number, request in enumerate(requests, start=1):
            if request.finish_reason == "error":
                raise RequestFailed(f"request {number} of {len(requests)} failed: {request.error!r}") from request.error
        answers = [(request.generated_tokens, request.text) for request in requests]
        return CostRun(GENERATE, answers, meter.wall, watch.steps, meter, meter.noisy(self.noise))

    def server(self) -> CostRun:
        """Each request is a stream; all are asked for at once."""
        watches: list[Watch] = []

        def build() -> Any:
            watches.append(self._watched(self.build()))
            return watches[0].engine

        thread, probe = self.answer.EngineThread(build), LoopProbe()
        thread.start()
        try:
            app = self.answer.create_app(thread, self.loaded.name, self.loaded.tokenizer, request_timeout=_DAY)
            with live_server(app, probe) as url, _client(url, self.items) as client:
                watches[0].forget()
                probe.lags.clear()
                with LoadMeter([psutil.Process(client.pid)]) as meter:
                    started = time.monotonic()
                    got = _talk(client, "go")
                lags = list(probe.lags)
        finally:
            thread.stop()
        return self._streamed(got["answers"], started, watches[0], lags, meter)

    def _streamed(
        self, got: Sequence[dict[str, Any]], started: float, watch: Watch, lags: Sequence[float], meter: LoadMeter
    ) -> CostRun:
        answers, delays = [], []
        for one in got:
            request_id = int(one["id"].split("-")[1])
            answers.append((watch.requests[request_id].generated_tokens, "".join(one["texts"])))
            delays.append(watch.delays(request_id, one["texts"], one["times"]))
        streams = Streams(lags, [own[0] for own in delays if own], [delay for own in delays for delay in own])
        seconds = max(one["ended"] for one in got) - started
        return CostRun(SERVER, answers, seconds, watch.steps, meter, meter.noisy(self.noise), streams)

    def _watched(self, engine: Any) -> Watch:
        watch = Watch(engine, self.answer.EventKind)
        engine.event_log.readers.append(watch.read)
        return watch

    def _finish(self, watch: Watch, items: Sequence[WorkItem]) -> list[Any]:
        tokenizer = self.loaded.tokenizer
        requests = [
            self.answer.PagedRequest(list(item.prompt), item.max_tokens, detokenizer=tokenizer.detokenizer()) for item in items
        ]
        for request in requests:
            watch.engine.submit(request)
        watch.engine.run()
        return requests


@contextmanager
def _client(url: str, items: Sequence[WorkItem]) -> Iterator["subprocess.Popen[str]"]:
    """A client that has warmed up and waits for "go"."""
    # -P: the program's folder has modules of ours, which must not hide Python's own from it.
    command = [sys.executable, "-P", str(Path(__file__).with_name("stream_client.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii") as client:
        try:
            job = {"url": url, "warm_up": _body(WARM_UP), "bodies": [_body(item) for item in items]}
            _talk(client, json.dumps(job))
            yield client
        finally:
            client.kill()


def _body(item: WorkItem) -> dict[str, Any]:
    """What `/v1/completions` is sent. `ignore_eos`: an answer has all its `max_tokens`, as with `generate`."""
    return {
        "prompt": list(item.prompt),
        "max_tokens": item.max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }


def _talk(client: "subprocess.Popen[str]", line: str) -> dict[str, Any]:
    """Say a line, and wait for one. RequestFailed if it brings no good news, or the client has ended."""
    assert client.stdin is not None
    assert client.stdout is not None
    with suppress(BrokenPipeError):  # then it has nothing to say either
        client.stdin.write(f"{line}\n")
        client.stdin.flush()
    heard = client.stdout.readline()
    if not heard:
        raise RequestFailed(f"the client has ended with status {client.wait()}")
    found: dict[str, Any] = {} if heard == "ready\n" else json.loads(heard)
    if "error" in found:
        raise RequestFailed(found["error"])
    return found
