"""Many replicas in one simulated time: each is a simulated paged engine with a device of its own, behind one router.

The earliest event happens first. So a request is routed by the loads that are known when it comes: the router hears of a token
at the time at which it came back, even if another device's clock is a little further on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

from tiny_llm_kit.course import task
from tiny_llm_kit.workloads.items import WorkItem

from ..event_log import BatchState, EventKind
from ..measure.cost_model import CostModel
from ..measure.simulated_time import Arrivals, SimulatedDevice
from ..paged.block_pool import BlockPool
from ..paged.scheduler import Scheduler
from ..paged.simulated_request import SimulatedRequest
from ..paged.simulator import SimulatedEngine
from ..request import Request
from .autoscaler import Autoscaler
from .fleet_report import FleetReport, ReplicaReport
from .routers import RoutedRequest, Router


@dataclass(frozen=True)
class EngineSizes:
    """The arguments of each replica's engine; see `Engine`."""

    num_blocks: int
    block_size: int = 16
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 192
    watermark: float = 0.01
    prefix_caching: bool = True


@task(week=3, day=7, number=4)
def simulate_replicas(
    items: Iterable[WorkItem],
    router: Router,
    replicas: int,
    cost: CostModel,
    sizes: EngineSizes,
    autoscaler: Autoscaler | None = None,
) -> FleetReport:
    """Simulate this many replicas under an open loop, from second 0 until all requests have ended.

    Args:
        items: by `arrival`, taken one by one; each goes to the replica that the router ranks first when it arrives.
        replicas: how many are ready at second 0; their names are "replica 0", "replica 1", ….
        cost: of each replica's device.
        autoscaler: changes the number of replicas; None: it stays.
    Raises:
        ValueError: if there is no replica, arrivals do not ascend, a request needs more blocks than a replica has, or the
            router ranks no replica.
    """
    raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")


@dataclass(eq=False)
class _Replica:
    """An engine, and what is told of it.

    Args:
        ready: the time from which it can serve.
        draining: whether it gets no more requests, and goes when those that it has have ended.
    """

    engine: SimulatedEngine
    report: ReplicaReport
    ready: float
    draining: bool = False

    @property
    def now(self) -> float:
        """The time up to which it has been simulated."""
        return self.engine.device.now


class _News(NamedTuple):
    """What a replica has to tell the router."""

    time: float
    order: int
    kind: EventKind
    request_id: int
    replica: str


class _Fleet:
    """All replicas of a simulation. To a client it looks like one engine."""

    def __init__(
        self, items: Iterable[WorkItem], router: Router, cost: CostModel, sizes: EngineSizes, autoscaler: Autoscaler | None
    ) -> None:
        self.coming = Arrivals(items, self._wanted, SimulatedRequest)
        self.router = router
        self.cost = cost
        self.sizes = sizes
        self.autoscaler = autoscaler
        self.next_look = autoscaler.interval if autoscaler else inf
        self.now = 0.0
        self.replicas: list[_Replica] = []
        self.reports: list[ReplicaReport] = []
        self.open: dict[int, tuple[RoutedRequest, _Replica]] = {}  # requests whose end the router has not heard of
        self.news: list[_News] = []  # a heap
        self._order = count()

    @task(week=3, day=7, number=4)
    def run(self) -> FleetReport:
        """Repeat the earliest next event: an iteration of a replica, an arrival, or a look at the load."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=4)
    def submit(self, request: Request) -> Request:
        """Route a request that arrives now."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=4)
    def add(self, ready: float) -> None:
        """Start another replica, which can serve from then on."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=4)
    def _hear_until(self, moment: float) -> None:
        """Tell the router everything that has happened by then."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=4)
    def _note(self, replica: str, state: BatchState) -> None:
        """Keep what a replica has to report until its time comes: its clock may be ahead of others."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=4)
    def _wanted(self, request_id: int, time: float) -> None:
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=6)
    def _look(self) -> None:
        """Ask the autoscaler. New replicas are cold; the youngest go first, once they have served what they have."""
        raise NotImplementedError("Week 3 Day 7, task 6: autoscaling. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=6)
    def _retire(self, replica: _Replica) -> None:
        raise NotImplementedError("Week 3 Day 7, task 6: autoscaling. Read book/src/week3-07-replicas.md")

    def _busy(self, replica: _Replica) -> bool:
        return any(owner is replica for _, owner in self.open.values())
