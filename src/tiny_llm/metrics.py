"""Metrics: every figure is computed from the event log. Nothing here uses request objects or arrays."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from tiny_llm_kit.course import task

from .event_log import ENDS, BatchState, Event, EventKind

KEPT = 10_000


@dataclass
class Timeline:
    """When a request reached each stage, in seconds on the scheduler's clock; None until then."""

    arrived: float
    admitted: float | None = None
    first_token: float | None = None
    finished: float | None = None
    tokens: int = 0


@dataclass
class BatchingMetrics:
    """Figures of a run, kept up to date by `update`.

    Counts and means are over everything. What is kept per request, and so `values` and `percentiles`, covers the `KEPT`
    requests that ended last: the memory of a server that runs for weeks is bounded.

    Args:
        total_requests: how many have arrived.
        finished_requests: how many have ended, however they ended.
        active_requests, queue_size: of the latest iteration.
        total_tokens: tokens that became part of an answer, in all iterations.
        steps: iterations.
        open: timelines of requests that have arrived and not ended, by request id.
        finished: timelines of those that ended last.
        started: when the first request arrived.
        ended: when the latest iteration ended.
    """

    total_requests: int = 0
    finished_requests: int = 0
    active_requests: int = 0
    queue_size: int = 0
    total_tokens: int = 0
    steps: int = 0
    open: dict[int, Timeline] = field(default_factory=dict)
    finished: deque[Timeline] = field(default_factory=lambda: deque(maxlen=KEPT))
    started: float | None = None
    ended: float = 0.0
    _latency: float = 0.0
    _utilization: float = 0.0
    _crowded_steps: int = 0
    _crowded_utilization: float = 0.0

    @task(week=2, day=6, number=7)
    def update(self, batch_state: BatchState) -> None:
        """Take in one iteration."""
        raise NotImplementedError("Week 2 Day 6, task 7: metrics. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=7)
    def _record(self, event: Event) -> None:
        """Take in one event: it opens a request's timeline, adds to it, or closes it."""
        raise NotImplementedError("Week 2 Day 6, task 7: metrics. Read book/src/week2-06-continuous-batching.md")

    @property
    @task(week=2, day=6, number=7)
    def throughput_tokens_per_sec(self) -> float:
        """Generated tokens per second from the first arrival to the last iteration; 0 before any time has passed."""
        raise NotImplementedError("Week 2 Day 6, task 7: metrics. Read book/src/week2-06-continuous-batching.md")

    @property
    @task(week=2, day=6, number=7)
    def slot_utilization(self) -> float:
        """Mean share of slots in use over all iterations, 0 … 1, including those that only read tokens."""
        raise NotImplementedError("Week 2 Day 6, task 7: metrics. Read book/src/week2-06-continuous-batching.md")

    @property
    @task(week=2, day=6, number=7)
    def slot_utilization_while_waiting(self) -> float:
        """The same over iterations that left requests waiting: below 1, a slot was free that a request wanted.

        1 if there was no such iteration.
        """
        raise NotImplementedError("Week 2 Day 6, task 7: metrics. Read book/src/week2-06-continuous-batching.md")

    @property
    @task(week=2, day=6, number=7)
    def average_latency(self) -> float:
        """Mean seconds from arrival to finish over the finished requests, however they ended; 0 if there are none."""
        raise NotImplementedError("Week 2 Day 6, task 7: metrics. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=7)
    def values(self, name: str) -> list[float]:
        """One figure of every request that has it, in seconds.

        Args:
            name: "queue_time" (arrived to admitted), "ttft" (arrived to first token), "tpot" (time per output token after
                the first, for requests of two tokens or more), or "latency" (arrived to finished).
        Raises:
            ValueError: for any other name.
        """
        raise NotImplementedError("Week 2 Day 6, task 7: metrics. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=7)
    def percentiles(self, name: str) -> dict[str, float]:
        """p50, p95 and p99 of a figure (linear interpolation), in seconds; all 0 if no request has it.

        Raises:
            ValueError: for a name that `values` does not know.
        """
        raise NotImplementedError("Week 2 Day 6, task 7: metrics. Read book/src/week2-06-continuous-batching.md")
