"""What an iteration costs besides the model: scheduling, bookkeeping, masks, sampling, joins and moves.

Two measurements. With a model that costs nothing, the whole step is overhead. With the real model, every call is fenced:
what was launched before it is finished first, and the call is finished before the clock goes on.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx

from tiny_llm_kit.models.tiny_random import tiny_config
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.requests import make_requests

FAKE_VOCABULARY = 16


class FakeModel:
    """No layers, and the same logits for every row."""

    config = SimpleNamespace(**{**asdict(tiny_config(vocab_size=FAKE_VOCABULARY)), "num_layers": 0})

    def __init__(self, most_rows: int) -> None:
        self.logits = {rows: mx.zeros((rows, 1, FAKE_VOCABULARY)) for rows in range(1, most_rows + 1)}
        mx.eval(list(self.logits.values()))

    def __call__(self, tokens: mx.array, *_: Any, **__: Any) -> mx.array:
        return self.logits[tokens.shape[0]]


def host_microseconds(answer: ModuleType, slots: int = 64, steps: int = 400) -> float:
    """Median time of a full decode step at `slots` rows with the fake model, in microseconds."""
    scheduler = answer.ContinuousBatchScheduler(FakeModel(slots), slots, max_seq_len=steps + 8, prefill_step=4 * slots)
    for _ in range(slots):
        scheduler.submit(answer.Request([1, 2, 3, 4], steps))
    scheduler.step()
    times = []
    for _ in range(steps - 2):
        started = time.perf_counter()
        scheduler.step()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2] * 1e6


class FencedModel:
    """Runs the model to its end in every call, and counts the `seconds` spent in it.

    Finding the arrays that have to be finished takes time, too, which only this meter causes: `metering`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        self.seconds = 0.0
        self.metering = 0.0

    def __call__(self, *arguments: Any, **options: Any) -> mx.array:
        mx.eval(self._arrays(arguments, options))
        started = time.perf_counter()
        logits = self.model(*arguments, **options)
        mx.eval(logits)
        self.seconds += time.perf_counter() - started
        kept = self._arrays(arguments, options)
        started = time.perf_counter()
        mx.eval(kept)
        self.seconds += time.perf_counter() - started
        return logits

    def _arrays(self, *held: Any) -> list[mx.array]:
        started = time.perf_counter()
        arrays = list(arrays_in(held))
        self.metering += time.perf_counter() - started
        return arrays


def arrays_in(held: Any, seen: set[int] | None = None) -> Iterator[mx.array]:
    """All arrays in arguments of a model's call: caches may keep theirs under any name, and share what holds them."""
    seen = set() if seen is None else seen
    if id(held) in seen:
        return
    seen.add(id(held))
    if isinstance(held, mx.array):
        yield held
    elif isinstance(held, Mapping):
        for value in held.values():
            yield from arrays_in(value, seen)
    elif isinstance(held, list | tuple):
        for value in held:
            yield from arrays_in(value, seen)
    elif hasattr(held, "__dict__") and not isinstance(held, type):
        yield from arrays_in(vars(held), seen)


def share_outside_model(answer: ModuleType, model: Any, items: Sequence[WorkItem], batch_size: int, prefill_step: int) -> float:
    """Share of a run's time, 0 … 1, that is not spent in the model's calls."""
    fenced = FencedModel(model)
    requests = make_requests(answer, items)
    started = time.perf_counter()
    answer.run_continuous(fenced, requests, batch_size, needed_seq_len(items), prefill_step)
    return 1 - fenced.seconds / (time.perf_counter() - started - fenced.metering)
