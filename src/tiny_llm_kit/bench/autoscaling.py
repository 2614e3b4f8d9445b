"""A number of replicas that follows a wave of requests, next to one that is always small and one that is always large."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import ModuleType
from typing import Any

from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.streams import arriving

PARTS = ((20.0, 0.5), (20.0, 3.0), (20.0, 0.5))
"""The parts of the wave: seconds, and requests per second as a multiple of what one replica gets through."""

LEAST, MOST = 100, 100_000
"""Requests of a wave."""

COLUMNS = ["replicas", "replica seconds", "most at a time", "TTFT p50", "TTFT p95", "TTFT p99"]


@dataclass(frozen=True)
class Scaled:
    """One fleet in the wave. replica_seconds: what has to be paid for. most: replicas at a time, starting ones included."""

    fleet: str
    replica_seconds: float
    most: int
    ttft_p50: float
    ttft_p95: float
    ttft_p99: float


def describe_wave() -> str:
    """For a table's title."""
    parts = ", ".join(f"{seconds:.0f} s at {times:g} ×" for seconds, times in PARTS)
    return f"{parts} what one replica gets through"


def wave_size(capacity: float) -> int:
    """How many requests the wave has, if one replica gets through this many per second.

    Raises:
        ValueError: if these are too few to be a wave, or too many to keep.
    """
    size = round(sum(seconds * times for seconds, times in PARTS) * capacity)
    if not LEAST <= size <= MOST:
        raise ValueError(
            f"one replica gets through {capacity:,.3g} requests per second, and a wave would have {size:,}, where {LEAST} to"
            f" {MOST:,} make sense: leave --autoscale out, or take another machine or model"
        )
    return size


def wave(answer: ModuleType, items: Sequence[WorkItem], capacity: float, seed: int) -> list[WorkItem]:
    """The items, as many as `wave_size` says, arriving as the wave does."""
    parts, start, first = [], 0.0, 0
    for number, (seconds, times) in enumerate(PARTS):
        last = len(items) if number == len(PARTS) - 1 else first + round(seconds * times * capacity)
        part = arriving(answer, items[first:last], times * capacity, 1.0, seed + number)
        parts.append([replace(item, arrival=start + item.arrival) for item in part])
        start, first = max(start + seconds, parts[-1][-1].arrival), last
    return list(chain.from_iterable(parts))


def autoscaler(answer: ModuleType, most: int, max_num_seqs: int) -> Any:
    """Between 1 and `most` replicas, with a quarter of the requests that one could run at a time for a target."""
    return answer.Autoscaler(max_num_seqs / 4, least=1, most=most, up_delay=1.0, down_delay=5.0, cold_start=5.0, interval=0.5)


def compare(
    answer: ModuleType, items: Sequence[WorkItem], most: int, cost: Any, sizes: Any, done: Callable[[str], None]
) -> list[Scaled]:
    """Always 1 replica, always `most`, and a number between them that follows the load."""
    scaled = autoscaler(answer, most, sizes.max_num_seqs)
    found = []
    for fleet, replicas, scaler in (("always 1", 1, None), (f"always {most}", most, None), (f"1 to {most}", 1, scaled)):
        router = answer.PrefixAware(block_size=sizes.block_size, max_blocks=sizes.num_blocks)
        report = answer.simulate_replicas(items, router, replicas, cost, sizes, scaler)
        p50, p95, p99 = (answer.percentile(report.ttfts, percent) for percent in (50, 95, 99))
        found.append(Scaled(fleet, report.replica_seconds, most_at_a_time(report), p50, p95, p99))
        done(fleet)
    return found


def most_at_a_time(report: Any) -> int:
    """The most replicas of a `FleetReport` that were there, or starting, at the same time."""
    starts = [one.started for one in report.replicas]
    return max(sum(one.started <= moment < one.stopped for one in report.replicas) for moment in starts)


def rows(found: Sequence[Scaled]) -> list[list[str]]:
    """A row per fleet."""
    return [
        [
            one.fleet,
            f"{one.replica_seconds:.0f} s",
            str(one.most),
            *(duration(ttft) for ttft in (one.ttft_p50, one.ttft_p95, one.ttft_p99)),
        ]
        for one in found
    ]
