"""Endless requests, one after another: they feed simulations without keeping a million of them in memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count, islice
from types import ModuleType

from tiny_llm_kit.workloads.items import WorkItem

AT_ONCE = 1000
"""How many requests are made at a time."""


def unlike(number: int, length: int) -> tuple[int, ...]:
    """A prompt in which only the length matters, and whose beginning differs from that of every other number's."""
    return (number, *(0,) * (length - 1))


def endless(make: Callable[..., list[WorkItem]], seed: int, at_once: int = AT_ONCE) -> Iterator[WorkItem]:
    """This many requests of a random workload with this seed, then as many with the next one, and so on.

    Args:
        make: called with `seed` and `count`.
    """
    for one in count(seed):
        yield from make(seed=one, count=at_once)


def arriving(answer: ModuleType, items: Iterable[WorkItem], rate: float, burstiness: float, seed: int) -> Iterator[WorkItem]:
    """The same requests, arriving at random at a mean rate; see `arrival_times`."""
    items, start = iter(items), 0.0
    for one in count(seed):
        batch = list(islice(items, AT_ONCE))
        if not batch:
            return
        times = answer.arrival_times(len(batch), rate, burstiness, seed=one)
        yield from (replace(item, arrival=start + time) for item, time in zip(batch, times, strict=True))
        start += times[-1]
