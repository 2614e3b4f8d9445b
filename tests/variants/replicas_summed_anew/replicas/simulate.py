from collections.abc import Iterable
from dataclasses import asdict
from math import inf

from tiny_llm_kit.course import task
from tiny_llm_kit.workloads.items import WorkItem

from ..event_log import BatchState, EventKind
from ..measure.cost_model import CostModel
from ..measure.simulated_time import SimulatedDevice
from ..paged.block_pool import BlockPool
from ..paged.scheduler import Scheduler
from ..paged.simulator import SimulatedEngine
from ..request import Request
from .autoscaler import Autoscaler
from .fleet_report import FleetReport, ReplicaReport
from .routers import RoutedRequest, Router

ARRIVAL, LOOK, ITERATION = range(3)  # which comes first of those that happen at one time


@task(week=3, day=7, number=4)
def simulate_replicas(
    items: Iterable[WorkItem],
    router: Router,
    replicas: int,
    cost: CostModel,
    sizes: EngineSizes,
    autoscaler: Autoscaler | None = None,
) -> FleetReport:
    if replicas <= 0:
        raise ValueError(f"nobody can serve with {replicas} replicas")
    fleet = _Fleet(items, router, cost, sizes, autoscaler)
    while len(fleet.replicas) < replicas:
        fleet.add(0.0)
    return fleet.run()


class _Fleet:
    @task(week=3, day=7, number=4)
    def run(self) -> FleetReport:
        while self.coming.time < inf or any(replica.engine.has_work for replica in self.replicas):
            events = [(self.coming.time, ARRIVAL, -1), (self.next_look, LOOK, -1)]
            events += [(one.now, ITERATION, at) for at, one in enumerate(self.replicas) if one.engine.has_work]
            time, kind, at = min(events)
            if kind == ITERATION:
                self.replicas[at].engine.iterate()
                continue
            self._hear_until(time)
            if kind == ARRIVAL:
                self.coming.submit_until(time, self)
            else:
                self._look()
        self._hear_until(inf)
        return FleetReport(self.reports, max(report.recorder.ended for report in self.reports))

    @task(week=3, day=7, number=4)
    def submit(self, request: Request) -> Request:
        routed = RoutedRequest(f"request {request.request_id}", tuple(request.prompt), request.max_tokens)
        ready = [replica for replica in self.replicas if not replica.draining and replica.ready <= self.now]
        names = [replica.report.name for replica in ready]
        ranking = self.router.choose(routed, names)
        if len(ranking) == 0:
            raise ValueError(f"nobody of {names} was ranked, so nobody can serve request {request.request_id}")
        chosen = ready[names.index(ranking[0])]
        self.open[request.request_id] = (routed, chosen)
        chosen.engine.device.wait_until(self.now)
        chosen.engine.submit(request)
        self.router.started(routed, chosen.report.name)
        return request

    @task(week=3, day=7, number=4)
    def add(self, ready: float) -> None:
        report = ReplicaReport(f"replica {len(self.reports)}", self.now)

        def read(state: BatchState) -> None:
            report.read(state)
            self._note(report.name, state)

        sizes = asdict(self.sizes)
        pool = BlockPool(sizes.pop("num_blocks"), sizes.pop("block_size"))
        caching = sizes.pop("prefix_caching")
        engine = SimulatedEngine(SimulatedDevice(self.cost), Scheduler(**sizes), pool, caching, readers=[read])
        self.replicas.append(_Replica(engine, report, ready))
        self.reports.append(report)

    @task(week=3, day=7, number=4)
    def _hear_until(self, moment: float) -> None:
        due = sorted(news for news in self.news if news.time <= moment)
        self.news = [news for news in self.news if news.time > moment]
        for news in due:
            routed = self.open[news.request_id][0]
            if news.kind is EventKind.FINISHED:
                self.open.pop(news.request_id)
                self.router.finished(routed, news.replica)
            else:
                self.router.progressed(routed, news.replica, 1)
        self.now = moment

    @task(week=3, day=7, number=4)
    def _note(self, replica: str, state: BatchState) -> None:
        for event in state.events:
            match event.kind:
                case EventKind.FIRST_TOKEN | EventKind.FINISHED:
                    self.news.append(_News(event.time, next(self._order), event.kind, event.request_id, replica))

    @task(week=3, day=7, number=4)
    def _wanted(self, request_id: int, time: float) -> None:
        _, replica = self.open[request_id]
        replica.report.recorder.wanted(request_id, time)

    @task(week=3, day=7, number=6)
    def _look(self) -> None:
        owners = [owner for _, owner in self.open.values()]
        gone = [one for one in self.replicas if one.draining and one not in owners]
        self.replicas = [one for one in self.replicas if one not in gone]
        for one in gone:
            one.report.stopped = self.now
            self.router.died(one.report.name)
        staying = [one for one in self.replicas if not one.draining]
        change = self.autoscaler.decide(self.now, len(self.open), len(staying)) - len(staying)
        while change > 0:
            self.add(self.now + self.autoscaler.cold_start)
            change -= 1
        while change < 0:
            staying.pop().draining = True
            change += 1
        self.next_look = self.now + self.autoscaler.interval
