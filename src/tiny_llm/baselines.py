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
    raise NotImplementedError("Week 2 Day 6, task 9: testing and benchmarking. Read book/src/week2-06-continuous-batching.md")


@task(week=2, day=6, number=9)
def run_continuous(
    model: Model, requests: Sequence[Request], batch_size: int, max_seq_len: int = 512, prefill_step: int = 128
) -> BatchingMetrics:
    """Serve requests that are all there from the start through a continuous batch."""
    raise NotImplementedError("Week 2 Day 6, task 9: testing and benchmarking. Read book/src/week2-06-continuous-batching.md")


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
    raise NotImplementedError("Week 2 Day 6, task 9: testing and benchmarking. Read book/src/week2-06-continuous-batching.md")


@task(week=2, day=6, number=9)
def _start_group(runner: ModelRunner, book: RequestBook, group: Sequence[Request], prefill_step: int) -> InFlight:
    """Admit a group, prefill its requests and let them join, in their order; return their first tokens, in flight."""
    raise NotImplementedError("Week 2 Day 6, task 9: testing and benchmarking. Read book/src/week2-06-continuous-batching.md")
