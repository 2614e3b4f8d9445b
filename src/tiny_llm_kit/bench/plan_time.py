"""How long the paged engine's scheduler takes to plan a step, compared with the time of a step; see `decisions`."""

from collections.abc import Mapping
from types import ModuleType

from tiny_llm_kit.bench.decisions import Decision, PagedDecisions, Requests
from tiny_llm_kit.bench.report import Target

MANY = (256, 10_000)
FEW = (8, 10_000)
"""Requests that run, and that wait."""
USERS = 10

COLUMNS = ["running", "waiting", "no seat free", "a seat free", "leaving and joining the queue"]


def measure_plan_time(answer: ModuleType, running: int, waiting: int) -> Decision:
    """Plan steps in which that many run and wait."""
    return PagedDecisions(answer, Requests(answer, waiting), waiting, USERS, running).measure(running)


def rows(times: Mapping[tuple[int, int], Decision]) -> list[list[str]]:
    return [
        [str(time.running), str(time.waiting), *(f"{value:.0f} µs" for value in (time.full, time.plan, time.queue))]
        for time in times.values()
    ]


def targets(times: Mapping[tuple[int, int], Decision], step_seconds: float) -> list[Target]:
    """step_seconds: a decode step of the real model, with as many rows as in `FEW`."""
    many, few = times[MANY], times[FEW]
    share = few.plan * 1e-6 / step_seconds
    return [
        Target(f"a plan, {many.running} running and {many.waiting} waiting", many.plan, 200, False, "{:.0f} µs".format),
        Target(f"a plan's share of a step of {few.running} rows", share, 0.02, False, "{:.2%}".format),
    ]
