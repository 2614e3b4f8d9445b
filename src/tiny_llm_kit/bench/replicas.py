"""Routers compared in simulation: the same requests, the same replicas, and only the assignment of requests to replicas
differs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.over_seeds import over_seeds
from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.workloads.items import WorkItem

BASELINE = "round robin"
PREFIX_AWARE = "prefix-aware"
COLUMNS = ["router", "computed", "÷ round robin", "hit rate", "max/mean load", "TTFT p50", "TTFT p95"]
KEYS = 20_000

MOST_COMPUTED, MOST_IMBALANCE, MOST_MOVED = 0.6, 1.5, 1.05


@dataclass(frozen=True)
class Routed:
    """One router with one list of requests.

    computed: prompt tokens that were computed.
    relative: the same, over those of round robin with the same list.
    imbalance: the work of the busiest replica over the mean.
    ttft_p50, ttft_p95, seconds: in simulated seconds.
    """

    router: str
    seed: int
    computed: int
    relative: float
    hit_rate: float
    imbalance: float
    ttft_p50: float
    ttft_p95: float
    seconds: float


def routers(answer: ModuleType, block_size: int, num_blocks: int, seed: int) -> dict[str, Any]:
    """A new router of each kind; the first is the one that others are compared with."""
    return {
        BASELINE: answer.RoundRobin(),
        "two choices": answer.PowerOfTwoChoices(seed),
        "least tokens": answer.LeastTokens(),
        "consistent hash": answer.ConsistentHash(),
        PREFIX_AWARE: answer.PrefixAware(block_size=block_size, max_blocks=num_blocks),
    }


def sustainable(answer: ModuleType, items: Sequence[WorkItem], replicas: int, cost: Any, sizes: Any) -> float:
    """Requests per second that replicas behind round robin get through if all are there from the beginning."""
    at_once = [replace(item, arrival=0.0) for item in items]
    return len(items) / float(answer.simulate_replicas(at_once, answer.RoundRobin(), replicas, cost, sizes).seconds)


def compare(
    answer: ModuleType,
    lists: Mapping[int, Sequence[WorkItem]],
    replicas: int,
    cost: Any,
    sizes: Any,
    done: Callable[[str, int], None],
) -> list[Routed]:
    """Every router with every list, by seed; `done` is called after each."""
    found: list[Routed] = []
    for seed, items in lists.items():
        baseline = 0
        for name, router in routers(answer, sizes.block_size, sizes.num_blocks, seed).items():
            report = answer.simulate_replicas(items, router, replicas, cost, sizes)
            baseline = baseline or report.computed_tokens
            p50, p95 = (answer.percentile(report.ttfts, percent) for percent in (50, 95))
            relative = report.computed_tokens / baseline
            found.append(
                Routed(
                    name, seed, report.computed_tokens, relative, report.hit_rate, report.imbalance, p50, p95, report.seconds
                )
            )
            done(name, seed)
    return found


def moved_keys(answer: ModuleType, replicas: int) -> list[float]:
    """For each of this many replicas: the share of keys that another one owns when it has gone, times the number of
    replicas."""
    names = [f"replica {number}" for number in range(replicas)]
    keys = [f"key {number}".encode() for number in range(KEYS)]
    ring = answer.HashRing()
    for name in names:
        ring.add(name)
    before = [ring.owner(key) for key in keys]
    moved = []
    for name in names:
        ring.remove(name)
        moved.append(replicas * sum(ring.owner(key) != owner for key, owner in zip(keys, before, strict=True)) / KEYS)
        ring.add(name)
    return moved


def rows(found: Sequence[Routed]) -> list[list[str]]:
    """A row per router: means over the lists; where others are compared with round robin, also the least and the most."""
    shown: list[tuple[str, Callable[[float], str]]] = [
        ("computed", "{:,.0f}".format),
        ("relative", "{:.2f}".format),
        ("hit_rate", "{:.0%}".format),
        ("imbalance", "{:.2f}".format),
        ("ttft_p50", duration),
        ("ttft_p95", duration),
    ]
    spread = ("relative", "imbalance")
    table = []
    for name in dict.fromkeys(one.router for one in found):
        figures = {figure: over_seeds(_figures(found, name, figure)) for figure, _ in shown}
        cells = [figures[figure].shown(form) if figure in spread else form(figures[figure].mean) for figure, form in shown]
        table.append([name, *cells])
    return table


def targets(found: Sequence[Routed], moved: Sequence[float]) -> list[Target]:
    """What prefix-aware routing and the ring promise."""
    relative, imbalance = (over_seeds(_figures(found, PREFIX_AWARE, figure)) for figure in ("relative", "imbalance"))
    keys = over_seeds(moved)
    two = "{:.2f}".format
    return [
        Target("prefix-aware: prompt tokens computed ÷ round robin", relative.mean, MOST_COMPUTED, False, two, relative),
        Target("prefix-aware: max/mean load, the worst list", imbalance.most, MOST_IMBALANCE, False, two),
        Target("hash ring: keys that move if 1 of N goes, × N", keys.mean, MOST_MOVED, False, two, keys),
    ]


def _figures(found: Sequence[Routed], router: str, figure: str) -> list[float]:
    return [getattr(one, figure) for one in found if one.router == router]
