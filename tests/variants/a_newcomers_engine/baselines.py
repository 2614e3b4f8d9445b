import time
from collections.abc import Callable, Sequence
from itertools import islice

from tiny_llm_kit.course import task

from .engine import ContinuousBatchScheduler
from .in_flight import InFlight
from .metrics import BatchingMetrics
from .model import Model
from .model_runner import ModelRunner
from .prefill import chunk_bounds
from .request import Request
from .request_book import RequestBook


@task(week=2, day=6, number=9)
def run_continuous(
    model: Model, requests: Sequence[Request], batch_size: int, max_seq_len: int = 512, prefill_step: int = 128
) -> BatchingMetrics:
    engine = ContinuousBatchScheduler(model, batch_size, max_seq_len=max_seq_len, prefill_step=prefill_step)
    for request in requests:
        engine.submit(request)
    engine.run()
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
        raise ValueError(f"batch_size is {batch_size}: a group has at least 1 row")
    room = max((len(request.prompt) + request.max_tokens for request in requests), default=0)
    book = RequestBook(room, model.config.vocab_size, clock)
    for request in requests:
        book.submit(request)
    while book.waiting:
        group = list(islice(book.waiting.values(), batch_size))
        longest = max(request.max_tokens for request in group)
        runner = ModelRunner(model, len(group), max(len(request.prompt) for request in group) + longest)
        landing = _start_group(runner, book, group, prefill_step)
        for count in range(1, longest + 1):
            active = sum(request.finish_reason is None for request in group)
            ahead = InFlight()
            if count < longest:
                ahead.add(group, runner.decode(group))
                ahead.start()
            new_tokens = 0
            for request, token, sound in landing.read():
                if sound:
                    new_tokens += book.take(request, token)
                elif request.finish_reason is None:
                    book.end(request, "error", ArithmeticError("the model's logits are NaN or infinite"))
            book.close_iteration(active, batch_size, len(book.waiting), new_tokens)
            landing = ahead
            if all(request.finish_reason is not None for request in group):
                break
    return book.metrics


@task(week=2, day=6, number=9)
def _start_group(runner: ModelRunner, book: RequestBook, group: Sequence[Request], prefill_step: int) -> InFlight:
    flight = InFlight()
    for slot, request in enumerate(group):
        book.admit(request)
        for start, end in chunk_bounds(len(request.prompt), prefill_step):
            first_token = runner.prefill(request, start, end)
            book.log_chunk(request, start, end)
            if first_token is not None:
                runner.join(request, slot, first_token)
                flight.add([request], first_token)
    flight.start()
    return flight
