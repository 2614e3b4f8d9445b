"""Simulations by the names of the engines, over requests that come one by one; their costs and their results."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.sketch import RunSketch
from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.machine.published import Published
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.paged import PagedSizes

ENGINES = ("slots", "paged", "static", "dynamic", "sequential")
BYTES = 2.0
"""Per weight, and per number in the cache: half precision."""

MOST_WAITING = 200_000
"""Requests. When more wait, they come faster than they can be served, and the queue would fill the memory."""

MOST_TOKENS_WAITING = 50_000_000
"""Tokens of the prompts of the waiting requests, for the same reason."""

MOST_BLOCKS = 10_000_000

LATENCY_COLUMNS = ["", "mean", "p50", "p95", "p99"]
_TITLES = {
    "queue_time": "queue time",
    "ttft": "time to first token (TTFT)",
    "tpot": "time per output token (TPOT)",
    "latency": "latency",
}


@dataclass(frozen=True)
class Simulated:
    """Which engine is simulated.

    Args:
        slots: rows of the batch or of a group; the paged engine has the memory of as many, unless `sizes` says otherwise.
        strategy: of the slot engine, by name.
        max_wait: of `dynamic`, in seconds.
    """

    engine: str = "slots"
    slots: int = 64
    prefill_step: int = 128
    strategy: str = "fifo"
    max_wait: float = 0.0
    sizes: PagedSizes = field(default_factory=PagedSizes)

    @property
    def rows(self) -> int:
        """How many requests can run at a time."""
        return {"sequential": 1, "paged": self.sizes.max_num_seqs}.get(self.engine, self.slots)

    def run(self, answer: ModuleType, items: Iterable[WorkItem], sample: Sequence[WorkItem], cost: Any, **log: Any) -> None:
        """Simulate it.

        Args:
            sample: some of the items, for the memory of a paged engine whose size was not given.
            log: `readers` and `wanted`, see `simulate_slots`.
        """
        if self.engine == "paged":
            blocks = self.sizes.num_blocks or self.sizes.blocks(self.slots, sample)
            if blocks > MOST_BLOCKS:
                raise ValueError(f"{blocks:,} blocks are too many to simulate: give fewer --slots, or --num-blocks")
            answer.simulate_paged(items, cost, **self.sizes.of_schedule(blocks), **log)
        elif self.engine in ("static", "dynamic"):
            answer.simulate_groups(items, cost, self.slots, self.max_wait, prefill_step=self.prefill_step, **log)
        else:
            options = {"prefill_step": self.prefill_step, "strategy": answer.STRATEGIES[self.strategy]()}
            answer.simulate_slots(items, cost, self.rows, **options, **log)


def roofline(answer: ModuleType, machine: Published, shape: ModelConfig, bytes_per_weight: float) -> Any:
    """What calls cost on a machine that does what its maker says; launching does not wait."""
    return answer.roofline_of(shape, machine.flops, machine.bandwidth, bytes_per_weight, BYTES)


class Watch:
    """Says now and then how far a simulation is, and stops one whose queue grows for ever.

    Args:
        sketch: which reads the log before this does.
        report: is told the requests that have ended, the simulated seconds, and the steps.
        every: steps between two reports.
    """

    def __init__(self, sketch: RunSketch, report: Callable[[int, float, int], None], every: int = 4096) -> None:
        self.sketch = sketch
        self.report = report
        self.every = every

    def read(self, state: Any) -> None:
        """Take in one iteration."""
        if state.step % self.every == 0:
            self.report(self.sketch.finished, state.time, state.step)

    def coming(self, items: Iterable[WorkItem]) -> Iterator[WorkItem]:
        """The same items, one by one.

        Raises:
            ValueError: if more than `MOST_WAITING`, or than `MOST_TOKENS_WAITING` of their prompts, have come and not ended.
        """
        tokens = 0
        for come, item in enumerate(items, start=1):
            tokens += len(item.prompt)
            waiting = come - self.sketch.finished
            if waiting > MOST_WAITING or tokens - self.sketch.prompt_tokens > MOST_TOKENS_WAITING:
                raise ValueError(
                    f"after {item.arrival:,.4g} simulated seconds {waiting - 1:,} requests wait, and {self.sketch.finished:,}"
                    " have been served: they come faster than that, and would fill the memory. Lower --rate, or give the engine"
                    " more room"
                )
            yield item


def latency_rows(summary: Any) -> list[list[str]]:
    """Every latency of a summary that simulations know."""
    spreads = {title: getattr(summary, name) for name, title in _TITLES.items()}
    return [[title, *(_short(value) for value in (s.mean, s.p50, s.p95, s.p99))] for title, s in spreads.items()]


def figure_rows(summary: Any, sketch: RunSketch) -> list[list[str]]:
    """The other figures, by name."""
    rows = [
        ["requests", f"{summary.requests:,}"],
        ["simulated time", _short(summary.seconds) if summary.seconds < 10 else f"{summary.seconds:,.1f} s"],
        ["tokens per second", f"{summary.tokens_per_second:,.1f}"],
        ["requests per second", _rate(summary.requests_per_second)],
        ["slots in use, over all steps", f"{summary.slot_utilization:.0%}"],
    ]
    if summary.goodput is not None:
        share = sketch.good / max(summary.requests, 1)
        rows.append(["goodput (requests per second within the SLO)", f"{_rate(summary.goodput)} ({share:.0%})"])
    if sketch.preemptions:
        rows.append(["preemptions", f"{sketch.preemptions:,}"])
    return rows


def _short(seconds: float) -> str:
    """As `duration`, with parts of a millisecond where there is no more."""
    return f"{seconds * 1e3:.2g} ms" if 0 < seconds < 0.01 else duration(seconds)


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"
