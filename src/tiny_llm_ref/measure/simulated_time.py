"""What simulators share: a device that takes time without computing anything, and the requests that are still to come."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from tiny_llm_kit.workloads.items import WorkItem

from ..event_log import EventKind, EventLog
from ..request import Request
from .cost_model import Call, CostModel

Wanted = Callable[[int, float], None]
"""Is told of each request when its client wanted it: `RunRecorder.wanted`."""


@dataclass(slots=True)
class Launch:
    """What an iteration asked of the device.

    Args:
        tokens: how many will be part of an answer. If there are none, nothing waits for the launch.
        done: when it has been computed.
        news: what goes to the log when the tokens are read.
    """

    tokens: int = 0
    done: float = 0.0
    news: list[tuple[EventKind, Request]] = field(default_factory=list)

    def first_token(self, request: Request) -> None:
        """One of the tokens is the first token of a request."""
        self.news.append((EventKind.FIRST_TOKEN, request))

    def last_token(self, request: Request) -> None:
        """One of the tokens is the last token of a request."""
        self.news.append((EventKind.FINISHED, request))


class SimulatedDevice:
    """A clock, and a device that computes one launch after another while the engine plans. Only waiting moves the clock.

    Args:
        cost: how long a launch takes.
    """

    def __init__(self, cost: CostModel) -> None:
        self.cost = cost
        self.now = 0.0
        self._done = 0.0  # when everything launched so far has been computed

    def clock(self) -> float:
        """Seconds since the start."""
        return self.now

    def launch(self, launch: Launch, calls: Sequence[Call]) -> None:
        """Launch work on it, if there is any; see `CostModel.launch_waits`."""
        if calls:
            self._done = launch.done = max(self._done, self.now) + self.cost.seconds(calls)
            if self.cost.launch_waits:
                self.wait_until(launch.done)

    def read(self, launch: Launch, log: EventLog) -> None:
        """Wait for tokens, and log those that are the first or last of a request."""
        if launch.tokens:
            self.wait_until(launch.done)
        for kind, request in launch.news:
            log.record(kind, request.request_id, request.max_tokens if kind is EventKind.FINISHED else 0)

    def wait_until(self, moment: float) -> None:
        """Move the clock forward, unless it is already later."""
        self.now = max(self.now, moment)


class Server(Protocol):
    """What requests are submitted to: a `RequestBook`, or a router in front of several."""

    def submit(self, request: Request) -> Request:
        """Queue a new request."""


class Arrivals:
    """The requests that are still to come. Only the next one is looked at, so there may be any number.

    Args:
        items: by `arrival`.
        wanted: see `Wanted`.
        kind: turns an item into the request that is submitted.
    Raises:
        ValueError: if one arrives earlier than the one listed before it, or its time is not a finite number.
    """

    def __init__(self, items: Iterable[WorkItem], wanted: Wanted | None = None, kind: type[Request] = Request) -> None:
        self._items = iter(items)
        self._wanted = wanted
        self._kind = kind
        self._next: WorkItem | None = None
        self.time = 0.0  # when the next one comes; infinity if there is none
        self._look_ahead()

    def submit_until(self, now: float, server: Server) -> None:
        """Submit the requests that have come by `now`."""
        while self._next is not None and self.time <= now:
            request = server.submit(self._kind(self._next.prompt, self._next.max_tokens))
            if self._wanted is not None:
                self._wanted(request.request_id, self.time)
            self._look_ahead()

    def _look_ahead(self) -> None:
        before, self._next = self.time, next(self._items, None)
        self.time = inf if self._next is None else self._next.arrival
        if self._next is not None and not before <= self.time < inf:
            raise ValueError(f"an arrival at {self.time} s follows one at {before} s: they must ascend, from 0 on")
