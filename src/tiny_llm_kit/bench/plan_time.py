"""How long the paged engine's scheduler takes to plan a step, with a model that costs nothing."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, median
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx

from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.models.tiny_random import tiny_config

MANY = (256, 10_000)
FEW = (8, 10_000)
"""Requests that run, and that wait."""
STEPS = 200
VOCABULARY = 16
PROMPT = 100
LEAST_ANSWER, MOST_ANSWER = 64, 256
"""Answers of many lengths, so that every few steps somebody leaves and somebody is admitted."""

COLUMNS = ["running", "waiting", "median", "mean", "most", "admitted per step"]


class NoModel:
    """No layers, and the same logits for every place that is kept."""

    config = SimpleNamespace(**{**asdict(tiny_config(vocab_size=VOCABULARY)), "num_layers": 0})

    def __call__(self, tokens: mx.array, *_: Any, logits_to_keep: mx.array, **__: Any) -> mx.array:
        return mx.zeros((1, logits_to_keep.size, VOCABULARY))


@dataclass(frozen=True)
class PlanTime:
    """Microseconds of this thread's processor time for one plan, over many steps."""

    running: int
    waiting: int
    median: float
    mean: float
    most: float
    admissions: float

    def row(self) -> list[str]:
        figures = (f"{value:.0f} µs" for value in (self.median, self.mean, self.most))
        return [str(self.running), str(self.waiting), *figures, f"{self.admissions:.1f}"]


class _TimedScheduler:
    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.max_num_seqs = scheduler.max_num_seqs
        self.seconds: list[float] = []

    def plan(self, *arguments: Any) -> Any:
        started = time.thread_time()
        plan = self.scheduler.plan(*arguments)
        self.seconds.append(time.thread_time() - started)
        return plan


def measure_plan_time(answer: ModuleType, running: int, waiting: int, steps: int = STEPS) -> PlanTime:
    """Plan so many steps in which that many run and wait, each time with all seats taken but for those who just left."""
    engine = answer.Engine(
        NoModel(),
        num_blocks=running * (answer.blocks_for(PROMPT + MOST_ANSWER, 16) + 1),
        max_num_seqs=running,
        max_num_batched_tokens=running + 1024,
    )
    for number in range(running + waiting):
        prompt = [(number * 7 + place * place) % VOCABULARY for place in range(PROMPT)]
        length = LEAST_ANSWER + number * 37 % (MOST_ANSWER - LEAST_ANSWER)
        engine.submit(answer.PagedRequest(prompt, length, user=f"user {number % 10}"))
    while len(engine.running) < running or any(request.to_compute > 1 for request in engine.running.values()):
        engine.step()
    timed = engine.scheduler = _TimedScheduler(engine.scheduler)
    before = len(engine.waiting)
    for _ in range(steps):
        engine.step()
    seconds = [s * 1e6 for s in timed.seconds]
    admitted = (before - len(engine.waiting)) / steps
    return PlanTime(running, waiting, median(seconds), fmean(seconds), max(seconds), admitted)


def targets(times: Mapping[tuple[int, int], PlanTime], step_seconds: float) -> list[Target]:
    """step_seconds: a decode step of the real model, with as many rows as in `FEW`."""
    many, few = times[MANY], times[FEW]
    share = few.median * 1e-6 / step_seconds
    return [
        Target(f"a plan, {many.running} running and {many.waiting} waiting", many.median, 200, False, "{:.0f} µs".format),
        Target(f"a plan's share of a step of {few.running} rows", share, 0.02, False, "{:.2%}".format),
    ]
