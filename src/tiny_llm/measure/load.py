"""Clients: an open loop, whose requests arrive whatever the server does, and a closed loop, whose clients wait for an answer.

In a closed loop a slow server gets fewer requests, so its queue is never longer than the number of clients. In an open loop the
queue grows when the server is too slow, as it does in front of real servers.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
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
    """Submit each request when its time has come, and step the engine until all have ended.

    A request whose time comes in the middle of a step is submitted after the step. To its client that is waiting time like any
    other, so the recorder is told when each request that the engine takes was wanted. Leaving that out is "coordinated
    omission" (Gil Tene): a server that stalls would hide its own stall. It never sleeps between steps while there is work that
    can be done. A request that the engine refuses ends with that error.

    Args:
        engine: has no work yet; times are on its clock. Its `idle_until` is respected.
        arrivals: seconds after the start, ascending, one for each request.
        recorder: already one of the readers of the engine's log.
        sleep: waits for this many seconds on the engine's clock.
    Returns:
        For each request, by how many seconds it was submitted late.
    Raises:
        ValueError: if there are not as many arrivals as requests, or they do not ascend from 0 on.
    """
    raise NotImplementedError("Week 2 Day 7, task 4: open and closed loops. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=4)
def closed_loop(
    engine: RequestBook, requests: Sequence[Request], clients: int, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Serve the requests for this many clients, each of which sends the next one as soon as its last one has ended.

    Requests are sent in order. A request that the engine refuses ends with that error, and its client goes on.

    Args:
        engine, sleep: see `open_loop`.
    Raises:
        ValueError: if `clients` is less than 1.
    """
    raise NotImplementedError("Week 2 Day 7, task 4: open and closed loops. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=4)
def _submit(engine: RequestBook, request: Request) -> bool:
    """Submit a request; one that the engine refuses ends with that error. Returns whether it was taken."""
    raise NotImplementedError("Week 2 Day 7, task 4: open and closed loops. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=4)
def _sleep_until(moment: float, engine: RequestBook, sleep: Callable[[float], None]) -> None:
    """Sleep until this moment on the engine's clock, if it is still to come."""
    raise NotImplementedError("Week 2 Day 7, task 4: open and closed loops. Read book/src/week2-07-measuring.md")


def _check_arrivals(requests: Sequence[Request], arrivals: Sequence[float]) -> None:
    if len(arrivals) != len(requests):
        raise ValueError(f"there are {len(arrivals)} arrivals for {len(requests)} requests: each request needs one")
    for before, arrival in pairwise([0.0, *arrivals]):
        if not before <= arrival < inf:
            raise ValueError(f"an arrival at {arrival} s follows one at {before} s: they must ascend, from 0 on")
