"""Schedules in an answer package's simulators: what they make of a list of requests on a machine, and what the law says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from types import ModuleType
from typing import Any

from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import FIRST_PLAIN_TOKEN

KINDS = ("sequential", "static", "leaving", "continuous", "paged")
BLOCK_SIZE = 16

SEARCH_STEPS = 10
"""Halvings of the interval in which a request rate is sought: to a thousandth of it."""


@dataclass(frozen=True)
class UnitCost:
    """Every iteration takes a second, whatever it computes: seconds are steps."""

    launch_waits: bool = False

    def seconds(self, calls: Sequence[Any]) -> float:
        return 1.0 if calls else 0.0


class Watcher:
    """Reads the log of a simulation.

    seconds: from second 0 to the end of the last iteration.
    per_token: of each request that finished, its seconds from arrival to end over its tokens (Orca's normalized latency).
    """

    def __init__(self, answer: ModuleType) -> None:
        self._finished = answer.EventKind.FINISHED
        self._wanted: dict[int, float] = {}
        self._before = 0.0
        self.seconds = 0.0
        self.tokens = 0
        self.per_token: list[float] = []
        self._used = self._offered = 0

    def begin_again(self) -> None:
        """What comes is another simulation, which begins when this one is over."""
        self._before = self.seconds

    def wanted(self, request_id: int, time: float) -> None:
        self._wanted[request_id] = time

    def read(self, state: Any) -> None:
        self.seconds = self._before + state.time
        self.tokens += state.new_tokens
        if state.new_tokens:
            self._used += state.active_requests
            self._offered += state.max_slots
        for event in state.events:
            if event.kind is self._finished:
                self.per_token.append((event.time - self._wanted.pop(event.request_id)) / event.tokens)

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    @property
    def utilization(self) -> float:
        """The share of the slots in use, over the iterations in which tokens came back."""
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
        answers are done: a continuous batch for each group, which nobody joins.
    rows: most requests at a time.
    """

    kind: str
    rows: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no schedule is called {self.kind!r}; there are: {', '.join(KINDS)}")
        if self.rows < 1:
            raise ValueError(f"a schedule of {self.rows} rows serves nobody: give at least 1")

    def simulate(self, answer: ModuleType, items: Sequence[WorkItem], cost: Any, prefill_step: int) -> Watcher:
        watcher = Watcher(answer)
        options = {"prefill_step": prefill_step, "readers": (watcher.read,), "wanted": watcher.wanted}
        if self.kind == "static":
            answer.simulate_groups(items, cost, self.rows, **options)
        elif self.kind == "paged":
            longest = max(len(item.prompt) + item.max_tokens for item in items)
            answer.simulate_paged(
                items,
                cost,
                num_blocks=2 * self.rows * answer.blocks_for(longest, BLOCK_SIZE),  # so that memory is never what is lacking
                block_size=BLOCK_SIZE,
                max_num_seqs=self.rows,
                max_num_batched_tokens=prefill_step + self.rows,
                prefix_caching=False,  # all prompts begin alike
                readers=(watcher.read,),
                wanted=watcher.wanted,
            )
        elif self.kind == "leaving":
            for start in range(0, len(items), self.rows):
                watcher.begin_again()
                answer.simulate_slots(items[start : start + self.rows], cost, self.rows, **options)
        else:
            answer.simulate_slots(items, cost, self.rows, **options)
        return watcher

    def tokens_per_step(self, answer: ModuleType, lengths: Sequence[int]) -> float:
        """What the law says of a queue that is never empty: a static batch needs E[longest of B] / mean times the steps."""
        waits = self.kind in ("static", "leaving")
        return self.rows / (answer.predicted_ratio(lengths, self.rows) if waits else 1)


def predicted_gain(answer: ModuleType, lengths: Sequence[int], baseline: Schedule, ours: Schedule) -> float:
    """How many times the throughput of `baseline` it is, if a step takes the same time in both."""
    return ours.tokens_per_step(answer, lengths) / baseline.tokens_per_step(answer, lengths)


def plain_items(prompts: Sequence[int], lengths: Sequence[int]) -> list[WorkItem]:
    """Requests of which only the lengths matter, all there from the start."""
    return [WorkItem(_prompt(prompt), length) for prompt, length in zip(prompts, lengths, strict=True)]


@cache
def _prompt(length: int) -> tuple[int, ...]:
    return (FIRST_PLAIN_TOKEN,) * length


def at_rate(answer: ModuleType, items: Sequence[WorkItem], rate: float, seed: int) -> list[WorkItem]:
    """The same requests, arriving as a Poisson process of so many per second."""
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
