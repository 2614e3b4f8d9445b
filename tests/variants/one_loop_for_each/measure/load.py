"""The open loop counts who is due; in the closed loop each client looks whether its request has ended."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import inf

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
    ordered = list(arrivals) == sorted(arrivals) and all(0 <= arrival < inf for arrival in arrivals)
    if not ordered or len(arrivals) != len(requests):
        raise ValueError(f"{len(requests)} requests need as many arrivals, from 0 s on and in order, not {list(arrivals)}")
    start, late = engine.clock(), list[float]()
    moments = [start + arrival for arrival in arrivals]
    while len(late) < len(moments) or engine.has_work:
        for place in range(len(late), bisect_right(moments, engine.clock())):
            late.append(engine.clock() - moments[place])
            if _taken(engine, requests[place]):
                recorder.wanted(requests[place].request_id, moments[place])
        coming, idle = moments[len(late) : len(late) + 1], engine.idle_until
        if engine.has_work and idle is None:
            engine.step()
            continue
        moment = min([*coming, *([] if idle is None else [idle])], default=-inf)
        if moment > (now := engine.clock()):
            sleep(moment - now)
    return late


@task(week=2, day=7, number=4)
def closed_loop(
    engine: RequestBook, requests: Sequence[Request], clients: int, sleep: Callable[[float], None] = time.sleep
) -> None:
    if not clients >= 1:
        raise ValueError(f"there have to be clients: {clients}")
    coming = iter(requests)
    asked: list[Request | None] = [next(coming, None) for _ in range(min(clients, len(requests)))]
    for client, request in enumerate(asked):
        while request is not None and not _taken(engine, request):
            request = next(coming, None)
        asked[client] = request
    while any(request is not None for request in asked):
        if (moment := engine.idle_until) is not None and (seconds := moment - engine.clock()) > 0:
            sleep(seconds)
        engine.step()
        for client, request in enumerate(asked):
            while request is not None and request.finish_reason is not None:
                request = next(coming, None)
                if request is not None:
                    _taken(engine, request)
            asked[client] = request


def _taken(engine: RequestBook, request: Request) -> bool:
    try:
        engine.submit(request)
    except ValueError as error:
        engine.end(request, "error", error)
    return request.error is None
