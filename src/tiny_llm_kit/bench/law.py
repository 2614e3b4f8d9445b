"""The law of batching over batch sizes and distributions of lengths: computed, counted, and simulated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from tiny_llm_kit.bench.ledger import Machine
from tiny_llm_kit.bench.over_seeds import Spread, over_seeds
from tiny_llm_kit.bench.schedules import Schedule, UnitCost, plain_items
from tiny_llm_kit.workloads.lengths import DISTRIBUTIONS, Draw, drawn

PROMPT = 8
"""Tokens of every prompt: the law is about answers alone."""


@dataclass(frozen=True)
class LawRow:
    """How many times longer static batches of `rows` take than continuous ones.

    law: E[longest of B] / mean of the answers of all lists.
    counted: steps, of answers that begin as soon as there is room.
    simulated: iterations of the simulated engines.
    timed: seconds of the simulated engines, on a machine.
    """

    distribution: str
    rows: int
    law: float
    counted: Spread
    simulated: Spread
    timed: Spread


def law_rows(
    answer: ModuleType,
    batch_sizes: Sequence[int],
    seeds: Sequence[int],
    rounds: int,
    machine: Machine,
    prefill_step: int,
    on_row: Callable[[], object],
) -> list[LawRow]:
    """A row for each distribution and batch size; lists of `rounds` answers per row."""
    rows = []
    for name, draw in DISTRIBUTIONS.items():
        for size in batch_sizes:
            rows.append(_row(answer, name, draw, size, seeds, rounds, machine, prefill_step))
            on_row()
    return rows


def _row(
    answer: ModuleType,
    name: str,
    draw: Draw,
    size: int,
    seeds: Sequence[int],
    rounds: int,
    machine: Machine,
    prefill_step: int,
) -> LawRow:
    static, continuous = Schedule("static", size), Schedule("continuous", size)
    roofline = machine.roofline(answer)
    lists = [drawn(draw, seed, rounds * size) for seed in seeds]
    simulated: list[float] = []
    timed: list[float] = []
    for lengths in lists:
        items = plain_items([PROMPT] * len(lengths), lengths)
        for cost, ratios in ((UnitCost(), simulated), (roofline, timed)):
            slow, fast = (schedule.simulate(answer, items, cost, prefill_step) for schedule in (static, continuous))
            ratios.append(slow.seconds / fast.seconds)
    counted = [answer.static_steps(lengths, size) / answer.continuous_steps(lengths, size) for lengths in lists]
    law = answer.predicted_ratio([length for lengths in lists for length in lengths], size)
    return LawRow(name, size, law, over_seeds(counted), over_seeds(simulated), over_seeds(timed))
