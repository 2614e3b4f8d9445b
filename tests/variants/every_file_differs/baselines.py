"""Baselines that look at each token as soon as it is there."""

import time
from collections.abc import Callable, Sequence

from tiny_llm_kit.course import task

from .engine import ContinuousBatchScheduler
from .metrics import BatchingMetrics
from .model import Model
from .model_runner import ModelRunner
from .request import Request
from .request_book import RequestBook


@task(week=2, day=6, number=9)
def run_sequential(
    model: Model, requests: Sequence[Request], max_seq_len: int = 512, prefill_step: int = 128
) -> BatchingMetrics:
    return _serve(ContinuousBatchScheduler(model, 1, max_seq_len=max_seq_len, prefill_step=prefill_step), requests)


@task(week=2, day=6, number=9)
def run_continuous(
    model: Model, requests: Sequence[Request], batch_size: int, max_seq_len: int = 512, prefill_step: int = 128
) -> BatchingMetrics:
    return _serve(ContinuousBatchScheduler(model, batch_size, max_seq_len=max_seq_len, prefill_step=prefill_step), requests)


def _serve(engine: ContinuousBatchScheduler, requests: Sequence[Request]) -> BatchingMetrics:
    for request in requests:
        engine.submit(request)
    while engine.has_work:
        engine.step()
    return engine.metrics


@task(week=2, day=6, number=9)
def run_static(
    model: Model,
    requests: Sequence[Request],
    batch_size: int,
    prefill_step: int = 128,
    clock: Callable[[], float] = time.perf_counter,
) -> BatchingMetrics:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be 1 or more")
    longest = max([1, *(len(request.prompt) + request.max_tokens for request in requests)])
    book = RequestBook(longest, model.config.vocab_size, clock)
    for request in requests:
        book.submit(request)
    for first in range(0, len(requests), batch_size):
        group = requests[first : first + batch_size]
        room = max(len(request.prompt) for request in group) + max(request.max_tokens for request in group)
        runner = ModelRunner(model, batch_size, room)
        drawn = []
        for slot, request in enumerate(group):
            book.admit(request)
            token, length = None, len(request.prompt)
            for start in range(0, length, prefill_step):
                end = min(start + prefill_step, length)
                token = runner.prefill(request, start, end)
                book.log_chunk(request, start, end)
            runner.join(request, slot, token)
            drawn += token.tokens.tolist()
        while True:
            active = len(book.running)
            kept = sum(book.take(request, token) for request, token in zip(group, drawn, strict=True))
            book.close_iteration(active, batch_size, len(book.waiting), kept)
            if not book.running:
                break
            drawn = runner.decode(group).tokens.tolist()
    return book.metrics
