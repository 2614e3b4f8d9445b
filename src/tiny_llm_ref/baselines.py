"""What continuous batching is measured against: one request at a time, and static batches.

Both use the same model, caches and sampling, so that only the schedule differs.
"""

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
def run_sequential(
    model: Model, requests: Sequence[Request], max_seq_len: int = 512, prefill_step: int = 128
) -> BatchingMetrics:
    """Serve requests that are all there from the start, one after another: a batch of one slot."""
    return run_continuous(model, requests, 1, max_seq_len, prefill_step)


@task(week=2, day=6, number=9)
def run_continuous(
    model: Model, requests: Sequence[Request], batch_size: int, max_seq_len: int = 512, prefill_step: int = 128
) -> BatchingMetrics:
    """Serve requests that are all there from the start through a continuous batch."""
    scheduler = ContinuousBatchScheduler(model, batch_size, max_seq_len=max_seq_len, prefill_step=prefill_step)
    for request in requests:
        scheduler.submit(request)
    scheduler.run()
    return scheduler.metrics


@task(week=2, day=6, number=9)
def run_static(
    model: Model,
    requests: Sequence[Request],
    batch_size: int,
    prefill_step: int = 128,
    clock: Callable[[], float] = time.perf_counter,
) -> BatchingMetrics:
    """Serve requests in fixed groups: a group starts together, and no request joins before its longest answer is done.

    The rows of finished answers keep running with the batch, and what they compute is thrown away: continuous batching removes
    that cost. A group is over when the last of its answers is done, which may be noticed one step late, as in the engine.

    All requests arrive at the start. There is an iteration for each token of a group's longest answer; the active requests are
    those of the group that have not ended yet, out of `batch_size`, and those of later groups are in the queue. So utilization
    counts the rows whose answers were still going on. Each chunk of a prompt is logged when it is launched.

    Raises:
        ValueError: if `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: a batch needs at least 1 slot")
    longest = max((len(request.prompt) + request.max_tokens for request in requests), default=1)
    book = RequestBook(longest, model.config.vocab_size, clock)
    for request in requests:
        book.submit(request)
    while book.waiting:
        group = list(islice(book.waiting.values(), batch_size))
        runner = ModelRunner(model, batch_size, max(len(r.prompt) for r in group) + max(r.max_tokens for r in group))
        in_flight = _start_group(runner, book, group, prefill_step)
        while book.running:
            active = len(book.running)
            following = InFlight()
            if not all(request.all_launched for request in book.running.values()):
                following.add(group, runner.decode(group))
                following.start()
            new_tokens = sum(book.take(request, token) for request, token, _ in in_flight.read())
            book.close_iteration(active, batch_size, len(book.waiting), new_tokens)
            in_flight = following
    return book.metrics


@task(week=2, day=6, number=9)
def _start_group(runner: ModelRunner, book: RequestBook, group: Sequence[Request], prefill_step: int) -> InFlight:
    """Admit a group, prefill its requests and let them join, in their order; return their first tokens, in flight."""
    in_flight = InFlight()
    for slot, request in enumerate(group):
        book.admit(request)
        for start, end in chunk_bounds(len(request.prompt), prefill_step):
            first_token = runner.prefill(request, start, end)
            book.log_chunk(request, start, end)
            if first_token is not None:
                in_flight.add([request], first_token)
                runner.join(request, slot, first_token)
    in_flight.start()
    return in_flight
