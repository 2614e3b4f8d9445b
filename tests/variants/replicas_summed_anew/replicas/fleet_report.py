from statistics import fmean

from tiny_llm_kit.course import task

from ..event_log import BatchState, EventKind


class ReplicaReport:
    @task(week=3, day=7, number=4)
    def read(self, state: BatchState) -> None:
        tokens = dict.fromkeys(EventKind, 0)
        for event in state.events:
            tokens[event.kind] += event.tokens
            if event.kind is EventKind.PREFILL_CHUNK and event.request_id not in self._begun:
                self.cached_tokens += event.position - event.tokens
                self._begun |= {event.request_id}
        self.prompt_tokens += tokens[EventKind.ARRIVED]
        self.computed_tokens += tokens[EventKind.PREFILL_CHUNK]
        self.generated_tokens += tokens[EventKind.FINISHED]
        self.recorder.read(state)


class FleetReport:
    @property
    @task(week=3, day=7, number=4)
    def hit_rate(self) -> float:
        if self.prompt_tokens == 0:
            return 0.0
        return sum(report.cached_tokens for report in self.replicas) / self.prompt_tokens

    @property
    @task(week=3, day=7, number=4)
    def imbalance(self) -> float:
        mean = fmean(report.work for report in self.replicas)
        return 1.0 if mean == 0 else max(report.work for report in self.replicas) / mean

    @property
    @task(week=3, day=7, number=4)
    def ttfts(self) -> list[float]:
        found: list[float] = []
        for report in reversed(self.replicas):
            found += (times.ttft for times in report.requests.values() if times.ttft is not None)
        return sorted(found)

    @property
    @task(week=3, day=7, number=6)
    def replica_seconds(self) -> float:
        seconds = 0.0
        for report in self.replicas:
            end = report.stopped if report.stopped < self.seconds else self.seconds
            if end > report.started:
                seconds += end - report.started
        return seconds
