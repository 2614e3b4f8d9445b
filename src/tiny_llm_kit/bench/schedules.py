"""Schedules in an answer package's simulators: how they serve a list of requests on a machine, and what the law says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.serving import ServingOptions, simulate
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.paged import PagedSizes

KINDS = ("sequential", "static", "leaving", "continuous", "paged")

SEARCH_STEPS = 10
"""Halvings of the interval in which a request rate is sought: to a thousandth of it."""


@dataclass(frozen=True)
class UnitCost:
    """Every iteration takes a second, whatever it computes: seconds are steps."""

    launch_waits: bool = False

    def seconds(self, calls: Sequence[Any]) -> float:
        return 1.0 if calls else 0.0


class Outcome:
    """The results of simulated requests.

    seconds: from second 0 to the end of the last iteration.
    per_token: of each request, its seconds from arrival to end over its tokens (Orca's normalized latency).
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tokens = 0
        self.per_token: list[float] = []
        self._used = self._offered = 0

    def read(self, state: Any) -> None:
        """Take in an iteration of the log; one in which no token came back offers no slots."""
        if state.new_tokens:
            self._used += state.active_requests
            self._offered += state.max_slots

    def add(self, recorder: Any) -> None:
        """A simulation is over; another one may follow."""
        self.seconds += recorder.ended
        self.tokens += recorder.tokens
        self.per_token += [(one.ended - one.arrived) / one.generated for one in recorder.requests.values()]

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    @property
    def utilization(self) -> float:
        """The share of the slots in use."""
        return self._used / self._offered

    @property
    def latency(self) -> float:
        """The median of `per_token`."""
        return median(self.per_token)


@dataclass(frozen=True)
class Schedule:
    """How requests are served.

    kind: one of `KINDS`. "continuous" is the engine of slots, where each prompt has a call of its own. "paged" is continuous,
        too; prompts share the call of the others. "leaving" is static batching whose rows are no longer computed when their
        answers are done: a continuous batch for each group, which no request joins.
    rows: most requests at a time.
    """

    kind: str
    rows: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no schedule is called {self.kind!r}; there are: {', '.join(KINDS)}")
        if self.rows < 1:
            raise ValueError(f"a schedule of {self.rows} rows serves no request: give at least 1")

    def simulate(self, answer: ModuleType, items: Sequence[WorkItem], cost: Any, prefill_step: int) -> Outcome:
        """Serve the items, which come at their `arrival`; groups that no request joins come one after another."""
        outcome = Outcome()
        leaving = self.kind == "leaving"
        size = self.rows if leaving else len(items)
        for start in range(0, len(items), size):
            group = items[start : start + size]
            options = self._options(group, prefill_step)
            outcome.add(simulate(answer, cost, "continuous" if leaving else self.kind, group, options, [outcome.read]))
        return outcome

    def _options(self, items: Sequence[WorkItem], prefill_step: int) -> ServingOptions:
        """With as much memory in blocks as twice the rows could need, so memory is never short."""
        num_blocks = PagedSizes().blocks(2 * self.rows, items)
        sizes = PagedSizes(num_blocks=num_blocks, max_num_seqs=self.rows, max_num_batched_tokens=prefill_step + self.rows)
        return ServingOptions(self.rows, prefill_step, sizes=sizes)

    def tokens_per_step(self, answer: ModuleType, lengths: Sequence[int]) -> float:
        """What the law says of a queue that is never empty: a static batch needs E[longest of B] / mean times the steps."""
        waits = self.kind in ("static", "leaving")
        return self.rows / (answer.predicted_ratio(lengths, self.rows) if waits else 1)


def predicted_gain(answer: ModuleType, lengths: Sequence[int], baseline: Schedule, ours: Schedule) -> float:
    """How many times the throughput of `baseline` it is, if a step takes the same time in both."""
    return ours.tokens_per_step(answer, lengths) / baseline.tokens_per_step(answer, lengths)


def plain_items(prompts: Sequence[int], lengths: Sequence[int]) -> list[WorkItem]:
    """Requests of which only the lengths matter, all there from the start. No two prompts begin alike."""
    pairs = enumerate(zip(prompts, lengths, strict=True))
    return [WorkItem((place, *[0] * (prompt - 1)), length) for place, (prompt, length) in pairs]


def at_rate(answer: ModuleType, items: Sequence[WorkItem], rate: float, seed: int) -> list[WorkItem]:
    """The same requests, arriving as a Poisson process of this many per second."""
    times = answer.arrival_times(len(items), rate, seed=seed)
    return [replace(item, arrival=time) for item, time in zip(items, times, strict=True)]


def highest_rate(latency_at: Callable[[float], float], most: float, limit: float) -> float:
    """Requests per second, up to `most`, at which the latency just keeps to `limit`; it grows with the rate."""
    least = 0.0
    for _ in range(SEARCH_STEPS):
        middle = (least + most) / 2
        if latency_at(middle) <= limit:
            least = middle
        else:
            most = middle
    return (least + most) / 2
