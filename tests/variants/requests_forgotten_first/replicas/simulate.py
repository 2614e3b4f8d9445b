from math import inf

from tiny_llm_kit.course import task

from .fleet_report import FleetReport


class _Fleet:
    @task(week=3, day=7, number=4)
    def run(self) -> FleetReport:
        while True:
            working = [replica for replica in self.replicas if replica.engine.has_work]
            if not working and self.coming.time == inf:
                break
            moment = min(self.coming.time, self.next_look)
            earliest = min(working, key=lambda replica: replica.now, default=None)
            if earliest is not None and earliest.now < moment:
                earliest.engine.iterate()
                continue
            self._hear_until(moment)
            self.now = moment
            if self.coming.time <= moment:
                self.coming.submit_until(moment, self)
            else:
                self._look()
                self.next_look += self.autoscaler.interval
        self._hear_until(inf)
        ends = [times.ended for report in self.reports for times in report.requests.values() if times.ended is not None]
        return FleetReport(self.reports, max(ends, default=0.0))

    @task(week=3, day=7, number=6)
    def _look(self) -> None:
        assert self.autoscaler is not None
        staying = [replica for replica in self.replicas if not replica.draining]
        count = self.autoscaler.decide(self.now, len(self.open), len(staying))
        for _ in range(count - len(staying)):
            self.add(self.now + self.autoscaler.cold_start)
        for replica in staying[count:]:
            replica.draining = True
        for replica in list(self.replicas):
            if replica.draining and not self._busy(replica):
                self._retire(replica)
