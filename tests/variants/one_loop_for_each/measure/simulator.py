"""Slots are a book and who has its last token launched; a group is a generator of launches."""

import sys
from collections.abc import Iterable, Iterator
from math import inf

from tiny_llm_kit.course import task
from tiny_llm_kit.workloads.items import WorkItem

from ..request import Request
from ..request_book import RequestBook
from ..scheduling import Fifo, Strategy, plan_step
from .cost_model import CostModel
from .simulated_time import Arrivals, Launch, SimulatedDevice, Wanted
from .step_work import chunk_call, decode_call


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
    device, book, coming = _begin(arrivals, cost, readers, wanted, slots=max_batch_size, prompt_tokens=prefill_step)
    flying, strategy = Launch(), strategy or Fifo()
    while True:
        if not (book.waiting or book.running or flying.tokens):
            if coming.time == inf:
                return
            device.wait_until(coming.time)
        coming.submit_until(device.now, book)
        plan = plan_step(book.waiting.values(), list(book.running.values()), max_batch_size, prefill_step, strategy)
        landing, flying, calls, asking = flying, Launch(), [], list(plan.decode)
        if asking:
            for request in asking:
                request.offset += 1
            calls.append(decode_call(len(asking), max(request.offset for request in asking)))
        for chunk in plan.prefill:
            request = chunk.request
            if request.request_id not in book.running:
                book.admit(request)
            book.log_chunk(request, chunk.start, chunk.end)
            request.offset = chunk.end
            if whole := chunk.end == len(request.prompt):
                flying.first_token(request)
                asking.append(request)
            calls.append(chunk_call(chunk.start, chunk.end, whole))
        flying.tokens = len(asking)
        for request in asking:
            if request.all_launched:
                flying.last_token(book.running.pop(request.request_id))
        device.launch(flying, calls)
        device.read(landing, book.event_log)
        active = len(plan.decode) + len(plan.prefill)
        book.event_log.close_step(active, max_batch_size, len(book.waiting), landing.tokens)


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
    if not 0 <= max_wait < inf:
        raise ValueError(f"nobody waits for {max_wait} s")
    device, book, coming = _begin(arrivals, cost, readers, wanted, rows=batch_size, prompt_tokens=prefill_step)
    came: dict[int, float] = {}
    while book.waiting or coming.time < inf:
        coming.submit_until(device.now, book)
        for request_id in reversed(book.waiting):
            if request_id in came:
                break
            came[request_id] = device.now
        if len(book.waiting) < batch_size:
            start = came[next(iter(book.waiting))] + max_wait if book.waiting else inf
            if start > device.now:
                device.wait_until(min(start, coming.time))
                continue
        members = list(book.waiting.values())[:batch_size]
        for request in members:
            del came[request.request_id]
        launches = _group(members, device, book, prefill_step)
        landing = next(launches)
        while landing.tokens:
            flying = next(launches, Launch())
            device.read(landing, book.event_log)
            book.event_log.close_step(landing.tokens, batch_size, len(book.waiting), landing.tokens)
            landing = flying
            if landing.tokens:
                before = len(book.waiting)
                coming.submit_until(device.now, book)
                came.update((request_id, device.now) for request_id in list(book.waiting)[before:])
        book.running.clear()


def _group(members: list[Request], device: SimulatedDevice, book: RequestBook, prefill_step: int) -> Iterator[Launch]:
    """The launches of a group, each when it is asked for: its prompts, then step after step."""
    calls = []
    for request in members:
        book.admit(request)
        length = len(request.prompt)
        for start in range(0, length, prefill_step):
            end = min(length, start + prefill_step)
            book.log_chunk(request, start, end)
            calls.append(chunk_call(start, end, end == length))
    longest = max(len(request.prompt) for request in members)
    for token in range(max(request.max_tokens for request in members)):
        launch = Launch(sum(request.max_tokens > token for request in members))
        for request in members:
            if token == 0:
                launch.first_token(request)
            if token == request.max_tokens - 1:
                launch.last_token(request)
        device.launch(launch, calls if token == 0 else [decode_call(len(members), longest + token)])
        yield launch


def _begin(
    arrivals: Iterable[WorkItem], cost: CostModel, readers: Readers, wanted: Wanted | None, **sizes: int
) -> tuple[SimulatedDevice, RequestBook, Arrivals]:
    if wrong := {name: size for name, size in sizes.items() if size < 1}:
        raise ValueError(f"at least 1 is needed: {wrong}")
    device = SimulatedDevice(cost)
    book = RequestBook(sys.maxsize, sys.maxsize, device.clock)
    book.event_log.readers += readers
    return device, book, Arrivals(arrivals, wanted)
