"""A schedule under load: requests that come at a rate that does not depend on how busy the server is, or from a number of
clients.

A run gives a `Point`. `climb` raises the rate until the service level objective breaks.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.engines import RequestFailed
from tiny_llm_kit.bench.run import MAX_TRIES
from tiny_llm_kit.bench.serving import SIMULATED, ServingOptions, build, simulate
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.requests import make_requests

KEPT = 0.9
"""The share of the requests that have to meet the SLO; with fewer it is broken (DistServe, OSDI 2024, section 6.1)."""
FIRST_SHARE, GROWTH, MOST_RATES, FEWEST_RATES = 0.4, 1.5, 5, 2
"""The first rate is this share of the capacity, and the last one about twice the capacity."""

Reader = Callable[[Any], None]


@dataclass(frozen=True)
class Lateness:
    """How many seconds late the generator submitted requests.

    It shares a thread with the engine, so a request that comes in the middle of a step waits for the step's end: `within`. What
    comes on top of that is `beyond`: the generator's own delay.
    """

    within_p95: float
    within_most: float
    beyond_p95: float
    beyond_most: float


@dataclass(frozen=True)
class Point:
    """A run under load.

    rate: requests per second that were offered; None in a closed loop.
    clients: of a closed loop, else None.
    summary: a `Summary` of the answer package's.
    kept: share of the requests that met the SLO.
    lateness: None if no request can be late: in a closed loop, and in a simulation.
    others: share of the CPU that other programs had; None in a simulation. noisy: whether that was too much.
    """

    schedule: str
    rate: float | None
    clients: int | None
    summary: Any
    kept: float
    lateness: Lateness | None = None
    others: float | None = None
    noisy: bool = False

    def as_json(self) -> dict[str, Any]:
        summary = asdict(self.summary)
        if self.schedule.endswith(SIMULATED):
            summary["inter_token"] = None  # a simulation has none
        return {**asdict(self), "summary": summary}


class Steps:
    """Reads the log: when each step ended, and how many requests have ended."""

    def __init__(self, answer: ModuleType, on_end: Callable[[int], None]) -> None:
        self.ends: list[float] = []
        self.done = 0
        self._kinds = {answer.EventKind.FINISHED, answer.EventKind.CANCELLED, answer.EventKind.FAILED}
        self._on_end = on_end

    def read(self, state: Any) -> None:
        self.ends.append(state.time)
        if ended := sum(event.kind in self._kinds for event in state.events):
            self.done += ended
            self._on_end(self.done)


@dataclass
class LoadTest:
    """Runs of an answer package's schedules, all with the same requests and the same pattern of arrivals.

    slo: an `Slo` of the answer package's. burstiness, seed: see `arrival_times`.
    noise: share of the CPU that others may have; a run with more is tried again.
    on_end: told after each request how many have ended.
    """

    answer: ModuleType
    model: Any
    items: Sequence[WorkItem]
    options: ServingOptions
    slo: Any
    burstiness: float
    seed: int
    noise: float
    on_end: Callable[[int], None] = lambda done: None

    def capacity(self) -> float:
        """Requests per second of `continuous` when all are there from the start, after one that warms up."""

        def serve(engine: Any, requests: Sequence[Any], _: Any) -> None:
            for request in requests:
                engine.submit(request)
            engine.run()

        replace(self, items=self.items[:1], noise=1.0)._serve("continuous", serve)
        recorder, *_ = self._serve("continuous", serve)
        return float(self.answer.summarize(recorder).requests_per_second)

    def open_loop(self, schedule: str, rate: float, readers: Callable[[], Sequence[Reader]] = tuple) -> Point:
        """Requests come at this rate. `readers` makes further readers of the log, for each try."""
        arrivals = self._arrivals(rate)

        def serve(engine: Any, requests: Sequence[Any], recorder: Any) -> Any:
            return self.answer.open_loop(engine, requests, arrivals, recorder)

        recorder, steps, late, meter = self._serve(schedule, serve, readers)
        wanted = [times.arrived for times in recorder.requests.values()]
        return self._point(schedule, rate, None, recorder, self._lateness(wanted, late, steps.ends), meter)

    def closed_loop(self, schedule: str, clients: int) -> Point:
        """This many clients, each of which waits for an answer before the next question."""

        def serve(engine: Any, requests: Sequence[Any], _: Any) -> Any:
            return self.answer.closed_loop(engine, requests, clients)

        recorder, _, _, meter = self._serve(schedule, serve)
        return self._point(schedule, None, clients, recorder, None, meter)

    def simulated(self, schedule: str, rate: float, cost: Any, readers: Sequence[Reader] = ()) -> Point:
        """What `open_loop` would give, with a cost in the model's place."""
        arriving = [replace(item, arrival=time) for item, time in zip(self.items, self._arrivals(rate), strict=True)]
        recorder = simulate(self.answer, cost, schedule, arriving, self.options, readers)
        return self._point(schedule + SIMULATED, rate, None, recorder, None, None)

    def _arrivals(self, rate: float) -> list[float]:
        return list(self.answer.arrival_times(len(self.items), rate, self.burstiness, self.seed))

    def _serve(
        self,
        schedule: str,
        serve: Callable[[Any, Sequence[Any], Any], Any],
        readers: Callable[[], Sequence[Reader]] = tuple,
    ) -> tuple[Any, Steps, Any, LoadMeter]:
        """An undisturbed run, if there is one in `MAX_TRIES`; otherwise the last."""
        for _ in range(MAX_TRIES):
            engine = build(self.answer, self.model, schedule, self.items, self.options)
            requests = make_requests(self.answer, self.items, paged=schedule == "paged")
            recorder, steps = self.answer.RunRecorder(), Steps(self.answer, self.on_end)
            engine.event_log.readers += [recorder.read, steps.read, *readers()]
            with LoadMeter() as meter:
                result = serve(engine, requests, recorder)
            if failed := next((request for request in requests if request.finish_reason == "error"), None):
                raise RequestFailed(f"a request failed with {schedule}: {failed.error!r}") from failed.error
            if not meter.noisy(self.noise):
                break
        return recorder, steps, result, meter

    def _point(
        self,
        schedule: str,
        rate: float | None,
        clients: int | None,
        recorder: Any,
        lateness: Lateness | None,
        meter: LoadMeter | None,
    ) -> Point:
        kept = sum(self.slo.met_by(times) for times in recorder.requests.values()) / len(recorder.requests)
        summary = self.answer.summarize(recorder, self.slo)
        if meter is None:
            return Point(schedule, rate, clients, summary, kept)
        return Point(schedule, rate, clients, summary, kept, lateness, meter.others, meter.noisy(self.noise))

    def _lateness(self, wanted: Sequence[float], late: Sequence[float], ends: Sequence[float]) -> Lateness:
        """See `Lateness`; `wanted` and `ends`, of the steps, are times on the engine's clock."""
        parts = [split_lateness(time, seconds, ends) for time, seconds in zip(wanted, late, strict=True)]
        within, beyond = zip(*parts, strict=True)
        percentile = self.answer.percentile
        return Lateness(percentile(within, 95), max(within), percentile(beyond, 95), max(beyond))


def split_lateness(wanted: float, late: float, ends: Sequence[float]) -> tuple[float, float]:
    """Seconds that a request waited for the end of the step in which it came, and seconds after that until it was submitted.

    ends: of all steps, ascending. Between two steps in a row there is hardly any time.
    """
    place = bisect_left(ends, wanted)
    within = ends[place] - wanted if place < len(ends) and ends[place] <= wanted + late else 0.0
    return within, late - within


def climbing_rates(capacity: float) -> list[float]:
    """Requests per second, from a rate that is easy to twice what can be served."""
    return [capacity * FIRST_SHARE * GROWTH**number for number in range(MOST_RATES)]


def climb(points: Iterable[Point], fewest: int = FEWEST_RATES) -> Iterator[Point]:
    """Points of rising rates up to the first that breaks the SLO, which is the last one; but at least this many."""
    broken = False
    for number, point in enumerate(points, start=1):
        yield point
        broken = broken or point.kept < KEPT
        if broken and number >= fewest:
            return


def highest_rate(points: Sequence[Point]) -> float | None:
    """The highest rate up to which the SLO was kept at every rate; None if it was broken at the first."""
    kept = None
    for point in sorted((point for point in points if point.rate is not None), key=lambda point: point.rate or 0.0):
        if point.kept < KEPT:
            break
        kept = point.rate
    return kept
