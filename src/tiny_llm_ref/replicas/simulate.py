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
    if replicas < 1:
        raise ValueError(f"replicas is {replicas}: at least 1 must be there to serve")
    fleet = _Fleet(items, router, cost, sizes, autoscaler)
    for _ in range(replicas):
        fleet.add(ready=0.0)
    return fleet.run()


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
        while True:
            busy = [replica for replica in self.replicas if replica.engine.has_work]
            if not busy and self.coming.time == inf:
                break
            moment = min(self.coming.time, self.next_look)
            earliest = min(busy, key=lambda replica: replica.now, default=None)
            if earliest is not None and earliest.now < moment:
                earliest.engine.iterate()
                continue
            self._hear_until(moment)
            if self.coming.time <= self.next_look:
                self.coming.submit_until(moment, self)
            else:
                self._look()
        self._hear_until(inf)
        return FleetReport(self.reports, max([report.recorder.ended for report in self.reports]))

    @task(week=3, day=7, number=4)
    def submit(self, request: Request) -> Request:
        """Route a request that arrives now."""
        routed = RoutedRequest(str(request.request_id), request.prompt, request.max_tokens)
        serving = {one.report.name: one for one in self.replicas if one.ready <= self.now and not one.draining}
        ranked = self.router.choose(routed, list(serving))
        if not ranked:
            raise ValueError(
                f"the router ranks none of {list(serving)}: `choose` must return all that live, the best one first"
            )
        replica = serving[ranked[0]]
        replica.engine.device.wait_until(self.now)
        replica.engine.submit(request)
        self.open[request.request_id] = routed, replica
        self.router.started(routed, ranked[0])
        return request

    @task(week=3, day=7, number=4)
    def add(self, ready: float) -> None:
        """Start another replica, which can serve from then on."""
        report = ReplicaReport(f"replica {len(self.reports)}", started=self.now)
        sizes = self.sizes
        engine = SimulatedEngine(
            SimulatedDevice(self.cost),
            Scheduler(sizes.max_num_seqs, sizes.max_num_batched_tokens, sizes.watermark),
            BlockPool(sizes.num_blocks, sizes.block_size),
            sizes.prefix_caching,
            readers=[report.read, partial(self._note, report.name)],
        )
        self.reports.append(report)
        self.replicas.append(_Replica(engine, report, ready))

    @task(week=3, day=7, number=4)
    def _hear_until(self, moment: float) -> None:
        """Tell the router everything that has happened by then."""
        self.now = moment
        while self.news and self.news[0].time <= moment:
            news = heappop(self.news)
            routed, _ = self.open[news.request_id]
            if news.kind is EventKind.FIRST_TOKEN:
                self.router.progressed(routed, news.replica, 1)
            else:
                self.router.finished(routed, news.replica)
                del self.open[news.request_id]

    @task(week=3, day=7, number=4)
    def _note(self, replica: str, state: BatchState) -> None:
        """Keep what a replica has to report until its time comes: its clock may be ahead of others."""
        for event in state.events:
            if event.kind in (EventKind.FIRST_TOKEN, EventKind.FINISHED):
                heappush(self.news, _News(event.time, next(self._order), event.kind, event.request_id, replica))

    @task(week=3, day=7, number=4)
    def _wanted(self, request_id: int, time: float) -> None:
        self.open[request_id][1].report.recorder.wanted(request_id, time)

    @task(week=3, day=7, number=6)
    def _look(self) -> None:
        """Ask the autoscaler. New replicas are cold; the youngest go first, once they have served what they have."""
        assert self.autoscaler is not None
        self.next_look += self.autoscaler.interval
        for replica in [one for one in self.replicas if one.draining and not self._busy(one)]:
            self._retire(replica)
        staying = [replica for replica in self.replicas if not replica.draining]
        wanted = self.autoscaler.decide(self.now, len(self.open), len(staying))
        for _ in range(wanted - len(staying)):
            self.add(ready=self.now + self.autoscaler.cold_start)
        for replica in staying[wanted:]:
            replica.draining = True

    @task(week=3, day=7, number=6)
    def _retire(self, replica: _Replica) -> None:
        replica.report.stopped = self.now
        self.replicas.remove(replica)
        self.router.died(replica.report.name)

    def _busy(self, replica: _Replica) -> bool:
        return any(owner is replica for _, owner in self.open.values())
