"""The results of the ledger's comparisons: what the law says, and what an answer package's simulators say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from tiny_llm_kit.bench.ledger import Comparison
from tiny_llm_kit.bench.over_seeds import Spread, over_seeds
from tiny_llm_kit.bench.schedules import Outcome, Schedule, at_rate, highest_rate, predicted_gain
from tiny_llm_kit.workloads.items import WorkItem

ALONE = 1e-3
"""A load at which hardly any two requests meet."""


@dataclass(frozen=True)
class Predicted:
    """The result of a comparison. law: as if steps took the same time; None if the law has nothing to say."""

    comparison: Comparison
    law: float | None
    simulated: Spread


def predict(
    answer: ModuleType,
    comparison: Comparison,
    seeds: Sequence[int],
    rounds: int,
    prefill_step: int,
    on_seed: Callable[[], object] = lambda: None,
) -> Predicted:
    """Compare with the law and the simulators: as many lists of requests as there are seeds.

    rounds: requests per row.
    """
    pooled = [length for seed in seeds for length in comparison.answers(seed, rounds)]
    figures = []
    for seed in seeds:
        figures.append(_figure(answer, comparison, comparison.items(seed, rounds), seed, prefill_step))
        on_seed()
    return Predicted(comparison, _law(answer, comparison, pooled), over_seeds(figures))


def _law(answer: ModuleType, comparison: Comparison, lengths: Sequence[int]) -> float | None:
    if comparison.within_latency is not None:
        return None
    if comparison.theirs is not None:
        return predicted_gain(answer, lengths, comparison.theirs, comparison.ours)
    return (comparison.load or 1) * comparison.ours.tokens_per_step(answer, lengths) / comparison.ours.rows


def _figure(answer: ModuleType, comparison: Comparison, items: Sequence[WorkItem], seed: int, prefill_step: int) -> float:
    cost = comparison.machine.roofline(answer, comparison.reads_keys)

    def simulate(schedule: Schedule, rate: float | None = None) -> Outcome:
        arriving = items if rate is None else at_rate(answer, items, rate, seed)
        return schedule.simulate(answer, arriving, cost, prefill_step)

    ours = simulate(comparison.ours)
    capacity = len(items) / ours.seconds
    if comparison.within_latency is not None and comparison.theirs is not None:
        limit = comparison.within_latency * simulate(comparison.ours, capacity * ALONE).latency

        def highest(schedule: Schedule) -> float:
            return highest_rate(lambda rate: simulate(schedule, rate).latency, capacity, limit)

        return highest(comparison.ours) / highest(comparison.theirs)
    rate = None if comparison.load is None else comparison.load * capacity
    ours = ours if rate is None else simulate(comparison.ours, rate)
    return ours.speed / simulate(comparison.theirs, rate).speed if comparison.theirs else ours.utilization
