"""Loops that ask what comes next."""

import time
from collections.abc import Callable, Sequence
from math import isfinite

from tiny_llm_kit.course import task

from ..request import Request
from ..request_book import RequestBook
from .request_times import RunRecorder


@task(week=2, day=7, number=4)
def open_loop(
    engine: RequestBook,
    requests: Sequence[Request],
    arrivals: Sequence[float],
    recorder: RunRecorder,
    sleep: Callable[[float], None] = time.sleep,
) -> list[float]:
    if len(requests) != len(arrivals):
        raise ValueError(f"{len(requests)} requests and {len(arrivals)} arrivals")
    for place, arrival in enumerate(arrivals):
        if not isfinite(arrival) or arrival < (arrivals[place - 1] if place else 0):
            raise ValueError(f"arrival {place} is {arrival}, which does not ascend")
    began = engine.clock()
    late: list[float] = []
    while len(late) < len(requests) or engine.has_work:
        now = engine.clock()
        place = len(late)
        if place < len(requests) and began + arrivals[place] <= now:
            request = requests[place]
            recorder.wanted(request.request_id, began + arrivals[place])
            try:
                engine.submit(request)
            except ValueError as error:
                engine.end(request, "error", error)
            late.append(engine.clock() - (began + arrivals[place]))
            continue
        events = [] if place == len(requests) else [began + arrivals[place]]
        if engine.has_work:
            until = engine.idle_until
            if until is None:
                engine.step()
                continue
            events.append(until)
        wait = min(events) - engine.clock()
        if wait > 0:
            sleep(wait)
    return late


@task(week=2, day=7, number=4)
def closed_loop(
    engine: RequestBook, requests: Sequence[Request], clients: int, sleep: Callable[[float], None] = time.sleep
) -> None:
    if clients < 1:
        raise ValueError(f"{clients} clients ask for nothing")
    free, remaining = clients, list(requests)[::-1]
    while True:
        while free and remaining:
            request = remaining.pop()
            try:
                engine.submit(request)
                free -= 1
            except ValueError as error:
                engine.end(request, "error", error)
        if free == clients:
            return
        until = engine.idle_until
        if until is not None and until > engine.clock():
            sleep(until - engine.clock())
        free += len(engine.step())
