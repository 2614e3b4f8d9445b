"""What `bench-scheduler` shows: times of a step over the requests that wait, the goals, a chart."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiny_llm_kit.bench.decisions import Decision
from tiny_llm_kit.bench.report import Target

PASS_TOLERANCE = 0.15
"""The tolerance of a slope: requests that no longer fit into a cache cost more each, which no scheduler can help."""
BEYOND_CACHES = 10
"""The slope is taken from this part of the most that wait."""


def label(decision: Decision) -> str:
    """Which engine decides, and for how many users."""
    if not decision.users:
        return f"{decision.engine}, {decision.strategy}"
    whose = "each their own user" if decision.users >= decision.waiting else f"{decision.users} users"
    return f"{decision.engine}, {whose if decision.users > 1 else '1 user'}"


def series(decisions: Iterable[Decision]) -> dict[tuple[str, int], list[Decision]]:
    """By who decides and how many run; each over the number that wait."""
    found: dict[tuple[str, int, int], list[Decision]] = {}
    for one in decisions:
        found.setdefault((one.strategy, one.users, one.running), []).append(one)
    sorted_ones = [sorted(those, key=lambda one: one.waiting) for those in found.values()]
    return {(label(those[-1]), those[-1].running): those for those in sorted_ones}


def columns(decisions: Sequence[Decision]) -> list[str]:
    """A column for each number of requests that wait."""
    return ["", "running", *(f"{waiting:,}" for waiting in sorted({one.waiting for one in decisions}))]


def rows(decisions: Sequence[Decision], figure: Callable[[Decision], float]) -> list[list[str]]:
    """A row per series, with a figure over the number that wait."""
    return [
        [name, f"{running:,}", *(microseconds(figure(one)) for one in those)]
        for (name, running), those in series(decisions).items()
    ]


def microseconds(value: float) -> str:
    return f"{value:,.1f} µs" if value < 100 else f"{value:,.0f} µs"


def targets(decisions: Sequence[Decision]) -> list[Target]:
    """The paged engine takes turns in O(log n), so its cost may grow as the logarithm does; a strategy of Day 6 looks at every
    waiting request once, so its cost may grow as their number does."""
    goals = []
    by_name: dict[str, list[list[Decision]]] = {}
    for (name, _), those in series(decisions).items():
        by_name.setdefault(name, []).append(those)
    for name, over_waiting in by_name.items():
        least, most = over_waiting[0][0].waiting, over_waiting[0][-1].waiting
        if least == most:
            continue
        if over_waiting[0][0].engine == "paged":
            growth = max(those[-1].step / those[0].step for those in over_waiting)
            logarithm = math.log(most) / math.log(least) if least > 1 else math.inf
            goals.append(Target(f"{name}: a step, {most:,} waiting / {least:,}", growth, logarithm, False, "{:.1f} ×".format))
        else:
            goals.append(Target(f"{name}: slope", max(map(slope, over_waiting)), 1 + PASS_TOLERANCE, False, "{:.2f}".format))
    return goals


def slope(over_waiting: Sequence[Decision]) -> float:
    """The slope of the time over the number that wait, both as logarithms: 1 if one is proportional to the other."""
    last = over_waiting[-1]
    first = next(one for one in over_waiting if one.waiting * BEYOND_CACHES >= last.waiting)
    if first is last:
        first = over_waiting[0]
    return math.log(last.step / first.step) / math.log(last.waiting / first.waiting)


def as_json(decisions: Sequence[Decision], goals: Sequence[Target], about: dict[str, Any]) -> dict[str, Any]:
    return {
        **about,
        "targets": [goal.as_json() for goal in goals],
        "microseconds": [{**asdict(one), "step": one.step} for one in decisions],
    }


def draw(decisions: Sequence[Decision], path: Path) -> None:
    """A step over the waiting requests, while the fewest run; and over the running ones, while the fewest wait."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    few_run, few_wait = min(one.running for one in decisions), min(one.waiting for one in decisions)
    found = series(decisions)
    for (name, running), those in found.items():
        if running == few_run:
            left.plot([one.waiting for one in those], [one.step for one in those], marker="o", label=name)
    for name in dict.fromkeys(name for name, _ in found):
        over_running = sorted((running, those[0].step) for (other, running), those in found.items() if other == name)
        right.plot(*zip(*over_running, strict=True), marker="o", label=name)
    left.set_xlabel(f"requests that wait, while {few_run} run")
    right.set_xlabel(f"requests that run, while {few_wait} wait")
    left.set_ylabel("processor time of a step's decision, µs")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    left.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
