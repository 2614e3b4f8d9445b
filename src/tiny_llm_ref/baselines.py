"""What continuous batching is measured against: one request at a time, and static batches.

Both use the same model, caches and sampling, so that only the schedule differs.
"""

import time
from collections.abc import Callable, Sequence

from tiny_llm_kit.course import task

from .engine import ContinuousBatchScheduler
from .launch import Launch
from .metrics import BatchingMetrics, BatchState, Event, EventKind
from .model import Model
from .model_runner import ModelRunner
from .prefill import chunk_bounds
from .request import Request


@task(week=2, day=6, number=9)
def run_sequential(
    model: Model, requests: Sequence[Request], max_seq_len: int = 512, prefill_step: int = 128
) -> BatchingMetrics:
    """Serve requests one after another: a batch of one slot."""
    return run_continuous(model, requests, 1, max_seq_len, prefill_step)


@task(week=2, day=6, number=9)
def run_continuous(
    model: Model, requests: Sequence[Request], batch_size: int, max_seq_len: int = 512, prefill_step: int = 128
) -> BatchingMetrics:
    """Serve requests, all there from the start, through a continuous batch."""
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
    """Serve requests in fixed groups: a group starts together, and nobody joins before its longest answer is done.

    The rows of answers that are done run on with the batch, and what they compute is thrown away: that is the cost which
    continuous batching does away with. Utilization counts the rows that still had something to say.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: a batch needs at least 1 slot")
    metrics = BatchingMetrics()
    events = [Event(clock(), EventKind.ARRIVED, request.request_id) for request in requests]
    for first in range(0, len(requests), batch_size):
        group = requests[first : first + batch_size]
        waiting = len(requests) - first - len(group)
        longest = max(len(request.prompt) for request in group) + max(request.max_tokens for request in group)
        runner = ModelRunner(model, batch_size, longest)
        launch = _start_group(runner, group, prefill_step)
        events += [Event(clock(), EventKind.ADMITTED, request.request_id) for request in group]
        while any(request.state != "finished" for request in group):
            active = [request for request in group if request.state != "finished"]
            following = Launch()
            if not all(request.all_launched for request in active):
                following.add(group, runner.decode(group))
                following.start()
            new_tokens = _hand_out(launch, events, clock)
            metrics.update(BatchState(clock(), len(active), batch_size, waiting, new_tokens, events=events))
            events, launch = [], following
    return metrics


def _start_group(runner: ModelRunner, group: Sequence[Request], prefill_step: int) -> Launch:
    launch = Launch()
    for slot, request in enumerate(group):
        for start, end in chunk_bounds(len(request.prompt), prefill_step):
            first_token = runner.prefill(request, start, end)
            if first_token is not None:
                launch.add([request], first_token)
                runner.join(request, slot, first_token)
    launch.start()
    return launch


def _hand_out(launch: Launch, events: list[Event], clock: Callable[[], float]) -> int:
    taken = 0
    for request, token in launch.read():
        if request.state == "finished":
            continue
        if not request.generated_tokens:
            events.append(Event(clock(), EventKind.FIRST_TOKEN, request.request_id))
        taken += request.accept(token)
        if request.state == "finished":
            events.append(Event(clock(), EventKind.FINISHED, request.request_id, len(request.generated_tokens)))
    return taken
