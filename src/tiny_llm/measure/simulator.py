"""A discrete-event simulation of the slot engine: its own plan, strategy and slots decide, and a cost model computes.

As in the engine, an iteration is launched before the tokens of the one before are read, so an end is seen one iteration late.
Nothing waits for a launch that brings no token, such as the beginning of a long prompt. The log gets what the engine would
write to it, except for the tokens after the first, of which only the number is kept.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import islice
from math import inf

from tiny_llm_kit.course import task
from tiny_llm_kit.workloads.items import WorkItem

from ..event_log import BatchState
from ..prefill import chunk_bounds
from ..request import Request
from ..request_book import RequestBook
from ..scheduling import Fifo, PrefillChunk, Strategy, plan_step
from ..slots import SlotManager
from .cost_model import Call, CostModel
from .simulated_time import Arrivals, Launch, SimulatedDevice, Wanted
from .step_work import chunk_call, decode_call

Readers = Sequence[Callable[[BatchState], None]]


@task(week=2, day=7, number=7)
def simulate_slots(
    arrivals: Iterable[WorkItem],
    cost: CostModel,
    max_batch_size: int,
    *,
    prefill_step: int = 128,
    strategy: Strategy | None = None,
    readers: Readers = (),
    wanted: Wanted | None = None,
) -> None:
    """Simulate `ContinuousBatchScheduler` under an open loop, from second 0 until all have ended.

    Args:
        arrivals: by `arrival`; taken one by one, so there may be any number. Every answer goes on to its `max_tokens`.
        cost: asked once for each iteration that launches anything, for all its calls.
        readers: of the log.
        wanted: told of each request when its client wanted it; the engine hears of it only between two iterations.
    Raises:
        ValueError: if a size is less than 1, arrivals do not ascend, or a prompt is empty.
    """
    raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=7)
def simulate_groups(
    arrivals: Iterable[WorkItem],
    cost: CostModel,
    batch_size: int,
    max_wait: float = 0.0,
    *,
    prefill_step: int = 128,
    readers: Readers = (),
    wanted: Wanted | None = None,
) -> None:
    """Simulate `DynamicBatcher`; with `max_wait` 0, static batching.

    The prompts of a group are one launch, and each step after them is another, in which all rows take part. The iteration that
    starts a group launches both its prompts and its first step, and reads what the prompts brought.

    Args and Raises: see `simulate_slots`. A `max_wait` that is negative or infinite is a ValueError, too.
    """
    raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")


def _checked(name: str, size: int) -> int:
    if size < 1:
        raise ValueError(f"{name} is {size}: it must be at least 1")
    return size


class _Slots(RequestBook):
    """The engine without its model. `running` are the requests that have or need a slot: they leave when their last token is
    launched."""

    def __init__(
        self, device: SimulatedDevice, max_slots: int, prefill_step: int, strategy: Strategy, readers: Readers
    ) -> None:
        super().__init__(sys.maxsize, sys.maxsize, device.clock)
        self.event_log.readers.extend(readers)
        self.device = device
        self.prefill_step = prefill_step
        self.strategy = strategy
        self.slots = SlotManager(max_slots)
        self.longest = 0  # tokens of the longest row
        self.last_steps: list[tuple[int, int]] = []  # a heap: when the last token of each row is launched, and its request
        self.leaving: list[int] = []  # rows whose last token was launched in the iteration before
        self.in_flight = Launch()

    @property
    def has_work(self) -> bool:
        """Whether any request waits, runs, or has a token on its way."""
        return bool(self.waiting or self.running or self.in_flight.tokens)

    @task(week=2, day=7, number=7)
    def iterate(self) -> None:
        """Make room, plan, launch, and read what the iteration before launched."""
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=7)
    def _make_room(self) -> None:
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=7)
    def _decode(self, rows: Sequence[Request], launched: Launch) -> Call:
        """Launch a token for each row; all are padded to the longest."""
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=7)
    def _prefill(self, chunk: PrefillChunk, launched: Launch) -> Call:
        """Launch a chunk of a prompt. The end of the prompt brings the first token, and a slot if the request wants more."""
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=7)
    def _join(self, request: Request) -> None:
        """Give a prefilled request its row. It decodes in every iteration from now on, so its end is known."""
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")


class _Groups(RequestBook):
    """The batcher without its model. `running` are the rows of the group, including those whose answers are done."""

    def __init__(self, device: SimulatedDevice, batch_size: int, max_wait: float, prefill_step: int, readers: Readers) -> None:
        super().__init__(sys.maxsize, sys.maxsize, device.clock)
        self.event_log.readers.extend(readers)
        self.device = device
        self.batch_size = batch_size
        self.max_wait = max_wait
        self.prefill_step = prefill_step
        self.came: deque[float] = deque()  # when each waiting request came
        self.longest = 0  # tokens of the longest row
        self.rank = 0  # which token of the answers was launched last, counted from 1
        self.ends: dict[int, list[Request]] = {}  # by the rank of their last token
        self.unfinished = 0  # rows that want another token
        self.in_flight = Launch()

    @property
    def has_work(self) -> bool:
        """Whether any request waits, or has a token on its way."""
        return bool(self.waiting or self.in_flight.tokens)

    @task(week=2, day=7, number=7)
    def submit(self, request: Request) -> Request:
        """Queue a new request; it waits for its group from now on."""
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")

    @property
    @task(week=2, day=7, number=7)
    def starts_at(self) -> float:
        """When there is something to do if no other request comes."""
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=7)
    def iterate(self) -> None:
        """Start a group if none runs, launch a token for each row, and read what was launched before."""
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=7)
    def _start_group(self) -> None:
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=7)
    def _decode(self) -> Launch:
        """Launch the next token of each row, unless no request wants one. Those of finished answers are thrown away."""
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator. Read book/src/week2-07-measuring.md")
