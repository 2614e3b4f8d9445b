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
    device = SimulatedDevice(cost)
    coming = Arrivals(arrivals, wanted)
    engine = _Slots(device, max_batch_size, _checked("prefill_step", prefill_step), strategy or Fifo(), readers)
    while engine.has_work or coming.time < inf:
        if not engine.has_work:
            device.wait_until(coming.time)
        coming.submit_until(device.now, engine)
        engine.iterate()


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
    if not 0 <= max_wait < inf:
        raise ValueError(f"max_wait is {max_wait}: it must be 0 seconds or more, and not infinite")
    device = SimulatedDevice(cost)
    coming = Arrivals(arrivals, wanted)
    engine = _Groups(device, _checked("batch_size", batch_size), max_wait, _checked("prefill_step", prefill_step), readers)
    while engine.has_work or coming.time < inf:
        coming.submit_until(device.now, engine)
        if device.now < (moment := min(engine.starts_at, coming.time)):
            device.wait_until(moment)
        else:
            engine.iterate()


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
        self._make_room()
        running = list(self.running.values())
        plan = plan_step(self.waiting.values(), running, self.slots.max_slots, self.prefill_step, self.strategy)
        launched = Launch()
        calls = [self._decode(plan.decode, launched)] if plan.decode else []
        calls += [self._prefill(chunk, launched) for chunk in plan.prefill]
        self.device.launch(launched, calls)
        landed, self.in_flight = self.in_flight, launched
        self.device.read(landed, self.event_log)
        active = len(plan.decode) + len(plan.prefill)
        self.event_log.close_step(active, self.slots.max_slots, len(self.waiting), landed.tokens)

    @task(week=2, day=7, number=7)
    def _make_room(self) -> None:
        if self.leaving:
            for request_id in self.leaving:
                self.slots.free_slot(request_id)
            self.slots.condense()
            self.longest = max([self.running[owner].offset for owner in self.slots.slot_of], default=0)
            self.leaving = []

    @task(week=2, day=7, number=7)
    def _decode(self, rows: Sequence[Request], launched: Launch) -> Call:
        """Launch a token for each row; all are padded to the longest."""
        for request in rows:
            request.offset += 1
        self.longest += 1
        while self.last_steps and self.last_steps[0][0] == self.event_log.step:
            self.leaving.append(heappop(self.last_steps)[1])
        self.leaving.sort(key=self.slots.slot_of.__getitem__)
        launched.tokens += len(rows)
        for request_id in self.leaving:
            launched.last_token(self.running.pop(request_id))
        return decode_call(len(rows), self.longest)

    @task(week=2, day=7, number=7)
    def _prefill(self, chunk: PrefillChunk, launched: Launch) -> Call:
        """Launch a chunk of a prompt. The end of the prompt brings the first token, and a slot if the request wants more."""
        request = chunk.request
        if request.request_id in self.waiting:
            self.admit(request)
        self.log_chunk(request, chunk.start, chunk.end)
        request.offset = chunk.end
        if chunk.end == len(request.prompt):
            launched.tokens += 1
            launched.first_token(request)
            if request.all_launched:
                launched.last_token(self.running.pop(request.request_id))
            else:
                self._join(request)
        return chunk_call(chunk.start, chunk.end, chunk.end == len(request.prompt))

    @task(week=2, day=7, number=7)
    def _join(self, request: Request) -> None:
        """Give a prefilled request its row. It decodes in every iteration from now on, so its end is known."""
        self.slots.allocate_slot(request.request_id)
        self.longest = max(self.longest, request.offset)
        heappush(self.last_steps, (self.event_log.step + request.max_tokens - 1, request.request_id))


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
        self.came.append(self.device.now)
        return super().submit(request)

    @property
    @task(week=2, day=7, number=7)
    def starts_at(self) -> float:
        """When there is something to do if no other request comes."""
        if self.in_flight.tokens or len(self.waiting) >= self.batch_size:
            return self.device.now
        return self.came[0] + self.max_wait if self.waiting else inf

    @task(week=2, day=7, number=7)
    def iterate(self) -> None:
        """Start a group if none runs, launch a token for each row, and read what was launched before."""
        if not self.in_flight.tokens:
            self._start_group()
        landed, self.in_flight = self.in_flight, self._decode()
        self.device.read(landed, self.event_log)
        self.event_log.close_step(landed.tokens, self.batch_size, len(self.waiting), landed.tokens)

    @task(week=2, day=7, number=7)
    def _start_group(self) -> None:
        self.running.clear()
        self.ends, self.rank, calls = {}, 1, []
        for request in list(islice(self.waiting.values(), self.batch_size)):
            self.came.popleft()
            self.admit(request)
            for start, end in chunk_bounds(len(request.prompt), self.prefill_step):
                self.log_chunk(request, start, end)
                calls.append(chunk_call(start, end, end == len(request.prompt)))
            self.in_flight.first_token(request)
            if request.max_tokens > 1:
                self.ends.setdefault(request.max_tokens, []).append(request)
            else:
                self.in_flight.last_token(request)
        self.longest = max(len(request.prompt) for request in self.running.values())
        self.in_flight.tokens = len(self.running)
        self.unfinished = sum(map(len, self.ends.values()))
        self.device.launch(self.in_flight, calls)

    @task(week=2, day=7, number=7)
    def _decode(self) -> Launch:
        """Launch the next token of each row, unless no request wants one. Those of finished answers are thrown away."""
        launched = Launch()
        if self.unfinished:
            self.rank += 1
            self.longest += 1
            launched.tokens = self.unfinished
            for request in self.ends.get(self.rank, ()):
                launched.last_token(request)
                self.unfinished -= 1
            self.device.launch(launched, [decode_call(len(self.running), self.longest)])
        return launched
