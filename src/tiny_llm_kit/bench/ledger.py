"""The claims ledger: claims about batching that circulate, each beside what the law and the simulators say of it.

The claims stand in `claims.toml`, with their sources. Here they are read, and their comparisons computed.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.over_seeds import OverSeeds, over_seeds
from tiny_llm_kit.bench.schedules import Schedule, Watcher, at_rate, highest_rate, plain_items, predicted_gain
from tiny_llm_kit.models.tiny_random import tiny_config
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lengths import Draw, distribution, drawn

CLAIMS = Path(__file__).with_name("claims.toml")
LATENCY_REQUESTS = 512
"""Most requests of a list that is simulated at one rate after another."""

ALONE = 1e-3
"""A load at which hardly any two requests meet."""

PROMPT_SEEDS = 1_000_000
"""Prompts are drawn with other seeds than answers, so that the lengths of the two know nothing of each other."""


@dataclass(frozen=True)
class Machine:
    """A model on a machine at its best, in half precision; see the answer's `roofline_of`."""

    model: Mapping[str, int]
    flops: float
    bandwidth: float

    def roofline(self, answer: ModuleType) -> Any:
        return answer.roofline_of(tiny_config(**self.model), self.flops, self.bandwidth, 2, 2)


@dataclass(frozen=True)
class Comparison:
    """Two schedules, or one of which the utilization is asked, with the same requests on the same machine."""

    name: str
    ours: Schedule
    lengths: Draw
    prompts: Draw
    machine: Machine
    theirs: Schedule | None = None
    load: float | None = None
    within_latency: float | None = None
    why: str = ""

    def count(self, rounds: int) -> int:
        """Requests of a list: so many for each row, that its end, when slots stand empty, weighs little."""
        rows = max(schedule.rows for schedule in (self.ours, self.theirs) if schedule)
        return rounds * rows if self.within_latency is None else min(LATENCY_REQUESTS, rounds * rows)

    def answers(self, seed: int, rounds: int) -> list[int]:
        """Lengths of a list of answers."""
        return drawn(self.lengths, seed, self.count(rounds))

    def items(self, seed: int, rounds: int) -> list[WorkItem]:
        """A list of requests."""
        return plain_items(drawn(self.prompts, PROMPT_SEEDS + seed, self.count(rounds)), self.answers(seed, rounds))


@dataclass(frozen=True)
class Claim:
    """See `claims.toml`."""

    name: str
    words: str
    claimed: str
    low: float
    high: float
    source: str
    checked: str
    baseline: str
    workload: str
    hardware: str
    needs: str
    comparisons: tuple[Comparison, ...]
    figure: str = "throughput"

    def shown(self, value: float) -> str:
        """A figure of this claim."""
        return f"{value:.0%}" if self.figure == "utilization" else f"{value:.1f}"


@dataclass(frozen=True)
class Predicted:
    """What becomes of a comparison. law: as if steps took the same time; None where the law has nothing to say."""

    comparison: Comparison
    law: float | None
    simulated: OverSeeds

    @cached_property
    def measured_as(self) -> tuple[str | None, str, int]:
        """What a measurement of the same schedules is filed under."""
        theirs = self.comparison.theirs
        return theirs.kind if theirs else None, self.comparison.ours.kind, self.comparison.ours.rows


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """Every claim of the ledger.

    Raises:
        ValueError: naming the claim, if something in it is missing or means nothing.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return [_claim(document, table) for table in document["claim"]]


def read_limits(path: Path = CLAIMS) -> list[Comparison]:
    """The cases that show where the law holds and where it fails, each with its reason."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return [_comparison(document, table) for table in document["limit"]]


def _claim(document: Mapping[str, Any], table: Mapping[str, Any]) -> Claim:
    try:
        comparisons = tuple(_comparison(document, one) for one in table["comparison"])
        return Claim(**{key: value for key, value in table.items() if key != "comparison"}, comparisons=comparisons)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the claim {table.get('name')!r} cannot be read: {error}") from None


def _comparison(document: Mapping[str, Any], table: Mapping[str, Any]) -> Comparison:
    schedules = {name: Schedule(**table[name]) for name in ("ours", "theirs") if name in table}
    draws = {name: distribution(**table[name]) for name in ("lengths", "prompts")}
    machine = Machine(document["model"][table["model"]], **document["machine"][table["machine"]])
    others = {name: table[name] for name in ("load", "within_latency", "why") if name in table}
    return Comparison(name=table["name"], machine=machine, **schedules, **draws, **others)


def predict(
    answer: ModuleType,
    comparison: Comparison,
    seeds: Sequence[int],
    rounds: int,
    prefill_step: int,
    on_seed: Callable[[], object] = lambda: None,
) -> Predicted:
    """Hold a comparison against the law and the simulators: as many lists of requests as there are seeds.

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
    cost = comparison.machine.roofline(answer)

    def simulate(schedule: Schedule, rate: float | None = None) -> Watcher:
        arriving = items if rate is None else at_rate(answer, items, rate, seed)
        return schedule.simulate(answer, arriving, cost, prefill_step)

    ours = simulate(comparison.ours)
    capacity = len(items) / ours.seconds
    if comparison.within_latency is not None and comparison.theirs is not None:
        limit = comparison.within_latency * simulate(comparison.ours, capacity * ALONE).latency
        rates = [
            highest_rate(lambda rate, schedule=schedule: simulate(schedule, rate).latency, capacity, limit)
            for schedule in (comparison.ours, comparison.theirs)
        ]
        return rates[0] / rates[1]
    rate = None if comparison.load is None else comparison.load * capacity
    ours = ours if rate is None else simulate(comparison.ours, rate)
    return ours.speed / simulate(comparison.theirs, rate).speed if comparison.theirs else ours.utilization
