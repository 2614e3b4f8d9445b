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
        for event in batch_state.events:
            if event.kind is not EventKind.TOKEN:  # no figure needs it, and there is one for every row
                self._record(event)
        self.steps += 1
        self.ended = batch_state.time
        self.active_requests = batch_state.active_requests
        self.queue_size = batch_state.queue_size
        self.total_tokens += batch_state.new_tokens
        utilization = batch_state.active_requests / batch_state.max_slots
        self._utilization += utilization
        if batch_state.queue_size:
            self._crowded_steps += 1
            self._crowded_utilization += utilization

    @task(week=2, day=6, number=7)
    def _record(self, event: Event) -> None:
        """Take in one event: it opens a request's timeline, adds to it, or closes it."""
        if event.kind is EventKind.ARRIVED:
            self.total_requests += 1
            self.open[event.request_id] = Timeline(event.time)
            self.started = event.time if self.started is None else min(self.started, event.time)
            return
        timeline = self.open.get(event.request_id)
        if timeline is None:  # its arrival was lost with an iteration that was interrupted
            return
        if event.kind is EventKind.ADMITTED:
            timeline.admitted = event.time
        elif event.kind is EventKind.FIRST_TOKEN:
            timeline.first_token = event.time
        elif event.kind in ENDS:
            timeline.finished, timeline.tokens = event.time, event.tokens
            self.finished_requests += 1
            self._latency += event.time - timeline.arrived
            self.finished.append(self.open.pop(event.request_id))

    @property
    @task(week=2, day=6, number=7)
    def throughput_tokens_per_sec(self) -> float:
        """Generated tokens per second from the first arrival to the last iteration; 0 before any time has passed."""
        seconds = self.ended - (self.started or 0.0)
        return self.total_tokens / seconds if seconds > 0 else 0.0

    @property
    @task(week=2, day=6, number=7)
    def slot_utilization(self) -> float:
        """Mean share of slots in use over all iterations, 0 … 1, including those that only read tokens."""
        return self._utilization / self.steps if self.steps else 0.0

    @property
    @task(week=2, day=6, number=7)
    def slot_utilization_while_waiting(self) -> float:
        """The same over iterations that left requests waiting: below 1, a slot was free that a request wanted.

        1 if there was no such iteration.
        """
        return self._crowded_utilization / self._crowded_steps if self._crowded_steps else 1.0

    @property
    @task(week=2, day=6, number=7)
    def average_latency(self) -> float:
        """Mean seconds from arrival to finish over the finished requests, however they ended; 0 if there are none."""
        return self._latency / self.finished_requests if self.finished_requests else 0.0

    @task(week=2, day=6, number=7)
    def values(self, name: str) -> list[float]:
        """One figure of every request that has it, in seconds.

        Args:
            name: "queue_time" (arrived to admitted), "ttft" (arrived to first token), "tpot" (time per output token after
                the first, for requests of two tokens or more), or "latency" (arrived to finished).
        Raises:
            ValueError: for any other name.
        """
        spans = {
            "queue_time": lambda t: (t.arrived, t.admitted, 1),
            "ttft": lambda t: (t.arrived, t.first_token, 1),
            "tpot": lambda t: (t.first_token, t.finished, t.tokens - 1),
            "latency": lambda t: (t.arrived, t.finished, 1),
        }
        if name not in spans:
            raise ValueError(f"unknown figure {name!r}: choose one of {', '.join(spans)}")
        found = [spans[name](timeline) for timeline in (*self.finished, *self.open.values())]
        return [(end - start) / count for start, end, count in found if start is not None and end is not None and count > 0]

    @task(week=2, day=6, number=7)
    def percentiles(self, name: str) -> dict[str, float]:
        """p50, p95 and p99 of a figure (linear interpolation), in seconds; all 0 if no request has it.

        Raises:
            ValueError: for a name that `values` does not know.
        """
        values = self.values(name) or [0.0]
        return {f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)}
