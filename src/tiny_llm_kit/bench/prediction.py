"""Predicted runs next to measured ones: a cost model is fitted to one run, and a simulator says how others will go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.clocks import Clock
from tiny_llm_kit.bench.engines import RequestFailed
from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.lists import heavy_tail
from tiny_llm_kit.workloads.paged import PagedSizes, paged_engine
from tiny_llm_kit.workloads.requests import make_requests

SLOTS = 8
OTHER_SEED = 7
PREFILL_STEP = 128
WARM_UP_TOKENS = 4
LOAD = 0.5
"""Requests that arrive per second, as a share of those that the recorded run served: well below what would fill the slots."""

OTHERS = 7
"""How many cases are measured besides the recorded run."""

GOALS = {"tokens/s": 0.10, "TTFT p50": 0.20, "TTFT p95": 0.20, "latency p50": 0.20, "latency p95": 0.20}
"""The figures that are predicted, and the largest error of each that is good enough."""

COLUMNS = ["case", *GOALS, "goals"]


@dataclass(frozen=True, eq=False)
class Case:
    """A run that can be measured and simulated: these items, as they arrive, on an engine of this size.

    slots: of the slot engine; of the paged one, how many slots' memory it has.
    """

    name: str
    items: Sequence[WorkItem]
    slots: int = SLOTS
    paged: bool = False


@dataclass(frozen=True)
class Compared:
    """The figures of a case, as predicted from the record of another run and as measured, by the names of `GOALS`."""

    case: Case
    fitted_to: Case
    predicted: dict[str, float]
    measured: dict[str, float]

    @property
    def errors(self) -> dict[str, float]:
        """By how much each prediction is too high, as a share of what was measured."""
        return {name: self.predicted[name] / measured - 1 for name, measured in self.measured.items()}

    @property
    def good(self) -> bool:
        """Whether every error is within its goal."""
        return all(abs(self.errors[name]) <= goal for name, goal in GOALS.items())

    def as_json(self) -> dict[str, Any]:
        """For a JSON file; times in seconds."""
        about = {"name": self.case.name, "slots": self.case.slots, "paged": self.case.paged, "fitted_to": self.fitted_to.name}
        return {**about, "predicted": self.predicted, "measured": self.measured, "errors": self.errors, "good": self.good}


def recorded_case(vocab_size: int, requests: int) -> Case:
    """The run that the cost model is fitted to."""
    return Case(f"heavy-tail, {SLOTS} slots", heavy_tail(vocab_size, count=requests))


def other_cases(answer: ModuleType, vocab_size: int, requests: int, requests_per_second: float) -> list[Case]:
    """Those that are predicted: another list of requests, other sizes, arrivals at that rate, and the same on the paged engine.

    The first of the paged ones has the requests of the recorded run.
    """
    items = heavy_tail(vocab_size, count=requests)
    other = heavy_tail(vocab_size, seed=OTHER_SEED, count=requests)
    times = answer.arrival_times(requests, requests_per_second, seed=OTHER_SEED)
    arriving = [replace(item, arrival=time) for item, time in zip(other, times, strict=True)]
    rate = f"{requests_per_second:.2g} requests/s"
    return [
        Case(f"another list (seed {OTHER_SEED})", other),
        Case("4 slots", items, 4),
        Case("16 slots", items, 16),
        Case(f"arrivals, {rate}", arriving),
        Case(f"paged, memory of {SLOTS} slots", items, paged=True),
        Case(f"paged, another list (seed {OTHER_SEED})", other, paged=True),
        Case(f"paged, arrivals, {rate}", arriving, paged=True),
    ]


def warm_up(case: Case) -> Case:
    """A few of the items, shortened: after it, kernels are compiled and memory is there."""
    return Case("warm-up", [replace(item, max_tokens=WARM_UP_TOKENS) for item in case.items[: case.slots]], case.slots)


def rehearse(answer: ModuleType, config: ModelConfig, case: Case) -> None:
    """Simulate the beginning of a case in both engines: then a stub is met now and not after minutes of measuring."""
    roofline = answer.roofline_of(config, 1e12, 1e11, 4, 4)
    for paged in (False, True):
        predict(answer, replace(warm_up(case), paged=paged), roofline)


def step_works(answer: ModuleType, case: Case) -> list[Any]:
    """Readers of a case's log that a cost can be fitted to: the log does not tell whether launching waits, so one for each."""
    block_size = PagedSizes().block_size if case.paged else None
    return [answer.StepWork(block_size, launch_waits=waits) for waits in (False, True)]


def served(case: Case, figures: Mapping[str, float]) -> float:
    """Requests per second of a run in which none failed."""
    return figures["tokens/s"] * len(case.items) / sum(item.max_tokens for item in case.items)


def measure(
    answer: ModuleType, model: Any, case: Case, clock: Clock, kernels: str | None = None, works: Sequence[Any] = ()
) -> dict[str, float]:
    """Run a case, with these `StepWork`s as readers of its log; its figures.

    Raises:
        RequestFailed: if a request did.
    """
    if case.paged:
        engine = paged_engine(answer, model, case.items, case.slots, PagedSizes(), kernels, clock)
    else:
        engine = answer.ContinuousBatchScheduler(
            model, case.slots, max_seq_len=needed_seq_len(case.items), prefill_step=PREFILL_STEP, clock=clock
        )
    recorder = answer.RunRecorder()
    engine.event_log.readers += [recorder.read, *(work.read for work in works)]
    requests = make_requests(answer, case.items, paged=case.paged)
    answer.open_loop(engine, requests, [item.arrival for item in case.items], recorder, clock.sleep)
    for number, request in enumerate(requests, start=1):
        if request.finish_reason == "error":
            raise RequestFailed(f"request {number} of {len(requests)} failed: {request.error!r}") from request.error
    return _figures(answer, recorder)


def predict(answer: ModuleType, case: Case, cost: Any) -> dict[str, float]:
    """Simulate a case; its figures."""
    recorder = answer.RunRecorder()
    common = {"readers": [recorder.read], "wanted": recorder.wanted}
    if case.paged:
        sizes = PagedSizes()
        answer.simulate_paged(
            case.items,
            cost,
            **sizes.of_schedule(sizes.blocks(case.slots, case.items)),
            **common,
        )
    else:
        answer.simulate_slots(case.items, cost, case.slots, prefill_step=PREFILL_STEP, **common)
    return _figures(answer, recorder)


def _figures(answer: ModuleType, recorder: Any) -> dict[str, float]:
    summary = answer.summarize(recorder)
    values = [summary.tokens_per_second, summary.ttft.p50, summary.ttft.p95, summary.latency.p50, summary.latency.p95]
    return dict(zip(GOALS, values, strict=True))


def rows(compared: Sequence[Compared]) -> list[list[str]]:
    """Three lines per case: predicted, measured, and the error."""
    lines = []
    for one in compared:
        verdict = "met" if one.good else "MISSED"
        source = " from a paged run" if one.fitted_to.paged else ""
        lines += [
            [f"{one.case.name}: predicted{source}", *_cells(one.predicted), ""],
            ["    measured", *_cells(one.measured), ""],
            ["    error", *(f"{error:+.1%}" for error in one.errors.values()), verdict],
        ]
    return lines


def _cells(figures: dict[str, float]) -> list[str]:
    return [f"{value:.1f}" if name == "tokens/s" else duration(value) for name, value in figures.items()]
