"""Simulators without a device, a heap or an engine's book."""

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

from tiny_llm_kit.course import task
from tiny_llm_kit.workloads.items import WorkItem

from ..event_log import EventKind, EventLog
from ..request import Request
from ..scheduling import Fifo, Strategy, plan_step
from ..slots import SlotManager
from .cost_model import Call, CostModel
from .simulated_time import Wanted


class _Door:
    """Lets requests in when their time has come."""

    def __init__(self, items: Iterable[WorkItem], wanted: Wanted | None, log: EventLog) -> None:
        self.items, self.wanted, self.log, self.latest = iter(items), wanted, log, 0.0
        self.item: WorkItem | None = None
        self.look()

    def look(self) -> None:
        self.item = next(self.items, None)
        if self.item is not None:
            if not self.latest <= self.item.arrival < inf:
                raise ValueError(f"arrival {self.item.arrival} comes after {self.latest}")
            self.latest = self.item.arrival

    @property
    def opens(self) -> float:
        return inf if self.item is None else self.item.arrival

    def enter(self, now: float) -> Iterator[Request]:
        while self.item is not None and self.item.arrival <= now:
            if not self.item.prompt:
                raise ValueError("an empty prompt")
            request = Request(self.item.prompt, self.item.max_tokens)
            if self.wanted:
                self.wanted(request.request_id, self.item.arrival)
            self.log.record(EventKind.ARRIVED, request.request_id, len(request.prompt))
            yield request
            self.look()


class _Time:
    now = 0.0
    busy_until = 0.0

    def work(self, seconds: float, waits: bool) -> float:
        self.busy_until = max(self.busy_until, self.now) + seconds
        if waits:
            self.now = self.busy_until
        return self.busy_until


@task(week=2, day=7, number=7)
def simulate_slots(
    arrivals: Iterable[WorkItem],
    cost: CostModel,
    max_batch_size: int,
    *,
    prefill_step: int = 128,
    strategy: Strategy | None = None,
    readers: Any = (),
    wanted: Wanted | None = None,
) -> None:
    if max_batch_size < 1 or prefill_step < 1:
        raise ValueError(f"{max_batch_size} slots and {prefill_step} prompt tokens per step: both must be at least 1")
    time, slots = _Time(), SlotManager(max_batch_size)
    log = EventLog(lambda: time.now)
    log.readers += readers
    door = _Door(arrivals, wanted, log)
    waiting: dict[int, Request] = {}
    running: dict[int, Request] = {}
    coming_back: tuple[float, list[Request]] = (0.0, [])
    while waiting or running or door.opens < inf:
        if not waiting and not running:
            time.now = max(time.now, door.opens)
        waiting.update((request.request_id, request) for request in door.enter(time.now))
        claims = []
        for request in running.values():
            if not request.all_launched:
                claims.append(request)
            elif request.request_id in slots.slot_of:
                slots.free_slot(request.request_id)
        slots.condense()
        plan = plan_step(waiting.values(), claims, max_batch_size, prefill_step, strategy or Fifo())
        calls, asked = [], sorted(plan.decode, key=lambda request: slots.slot_of[request.request_id])
        for request in plan.decode:
            request.offset += 1
        if plan.decode:
            keys = len(asked) * max(request.offset for request in asked)
            calls.append(Call(len(asked), len(asked), keys, keys))
        for chunk in plan.prefill:
            request, size = chunk.request, chunk.end - chunk.start
            if request.request_id in waiting:
                for other in waiting.values():
                    if other is request:
                        break
                    other.overtaken += 1
                running[request.request_id] = waiting.pop(request.request_id)
                log.record(EventKind.ADMITTED, request.request_id)
            log.record(EventKind.PREFILL_CHUNK, request.request_id, size, chunk.end)
            request.offset = chunk.end
            whole = chunk.end == len(request.prompt)
            calls.append(Call(size, int(whole), chunk.end, size * chunk.end))
            if whole:
                asked.append(request)
                if not request.all_launched:
                    slots.allocate_slot(request.request_id)
        (moment, landed), coming_back = coming_back, (0.0, asked)
        if calls:
            coming_back = (time.work(cost.seconds(calls), cost.launch_waits), asked)
        if landed:
            time.now = max(time.now, moment)
        queue = len(waiting)
        for request in landed:
            if request.accept(0) and len(request.generated_tokens) == 1:
                log.record(EventKind.FIRST_TOKEN, request.request_id)
            if request.finish_reason:
                del running[request.request_id]
                log.record(EventKind.FINISHED, request.request_id, len(request.generated_tokens))
        log.close_step(len(plan.decode) + len(plan.prefill), max_batch_size, queue, len(landed))


@task(week=2, day=7, number=7)
def simulate_groups(
    arrivals: Iterable[WorkItem],
    cost: CostModel,
    batch_size: int,
    max_wait: float = 0.0,
    *,
    prefill_step: int = 128,
    readers: Any = (),
    wanted: Wanted | None = None,
) -> None:
    if batch_size < 1 or prefill_step < 1 or not 0 <= max_wait < inf:
        raise ValueError(f"a batch of {batch_size}, {prefill_step} prompt tokens per call, a wait of {max_wait}")
    time = _Time()
    log = EventLog(lambda: time.now)
    log.readers += readers
    door = _Door(arrivals, wanted, log)
    waiting: list[tuple[float, Request]] = []

    def enter() -> None:
        waiting.extend((time.now, request) for request in door.enter(time.now))

    while waiting or door.opens < inf:
        enter()
        start = time.now
        if len(waiting) < batch_size:
            start = waiting[0][0] + max_wait if waiting else inf
        if start > time.now:
            time.now = min(start, door.opens)
            continue
        group = [request for _, request in waiting[:batch_size]]
        del waiting[:batch_size]
        calls = []
        for request in group:
            log.record(EventKind.ADMITTED, request.request_id)
            for begin in range(0, len(request.prompt), prefill_step):
                end = min(begin + prefill_step, len(request.prompt))
                log.record(EventKind.PREFILL_CHUNK, request.request_id, end - begin, end)
                calls.append(Call(end - begin, int(end == len(request.prompt)), end, (end - begin) * end))
        longest, most = max(len(request.prompt) for request in group), max(request.max_tokens for request in group)
        done = time.work(cost.seconds(calls), cost.launch_waits)
        for rank in range(1, most + 1):
            if rank > 1:
                enter()
            before = done
            if rank < most:
                keys = len(group) * (longest + rank)
                done = time.work(cost.seconds([Call(len(group), len(group), keys, keys)]), cost.launch_waits)
            time.now = max(time.now, before)
            active = [request for request in group if request.max_tokens >= rank]
            for request in active:
                if rank == 1:
                    log.record(EventKind.FIRST_TOKEN, request.request_id)
                if rank == request.max_tokens:
                    log.record(EventKind.FINISHED, request.request_id, rank)
            log.close_step(len(active), batch_size, len(waiting), len(active))
