"""The claims ledger: claims about batching that circulate, with their sources, and what to hold each against.

All of it is in `claims.toml`, and is read here; `predicted` computes the comparisons.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.schedules import Schedule, plain_items
from tiny_llm_kit.machine.published import published_machines
from tiny_llm_kit.models.tiny_random import tiny_config
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lengths import Draw, distribution, drawn

CLAIMS = Path(__file__).with_name("claims.toml")
LATENCY_REQUESTS = 256
"""Most requests of a list that is simulated at one rate after another."""

Key = tuple[str | None, str, int]
"""The kinds of the baseline, if there is one, and of ours, and the rows of ours."""

PROMPT_SEEDS = 1_000_000
"""Prompts and answers are drawn with different seeds, so their lengths are independent of each other."""


@dataclass(frozen=True)
class Machine:
    """A model on a machine at its best, in half precision; see the answer's `roofline_of`."""

    model: Mapping[str, int]
    flops: float
    bandwidth: float

    def roofline(self, answer: ModuleType, reads_keys: bool = True) -> Any:
        roofline = answer.roofline_of(tiny_config("llama", **self.model), self.flops, self.bandwidth, 2, 2)
        return roofline if reads_keys else replace(roofline, kv_bytes=0)


@dataclass(frozen=True)
class Comparison:
    """Two schedules, or one whose utilization is in question, with the same requests on the same machine.

    For the fields see `claims.toml`.
    """

    name: str
    ours: Schedule
    lengths: Draw
    prompts: Draw
    machine: Machine
    theirs: Schedule | None = None
    load: float | None = None
    within_latency: float | None = None
    reads_keys: bool = True
    measured: bool = False
    why: str = ""

    @property
    def filed_under(self) -> Key | None:
        """Where a measurement of the same schedules is found; None if there is none that means the same."""
        return (self.theirs.kind if self.theirs else None, self.ours.kind, self.ours.rows) if self.measured else None

    def count(self, rounds: int) -> int:
        """Requests of a list: enough per row that its end, when slots are empty, weighs little."""
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

    def verdict(self, value: float) -> str:
        """Whether a figure is what was claimed."""
        if value < self.low:
            return f"{value / self.low:.0%} of {self.shown(self.low)}"
        return "within" if value <= self.high else "above"


@dataclass(frozen=True)
class Ledger:
    """What `claims.toml` holds.

    limits: cases that show where the law holds and where it fails, each with its reason.
    machine: a common one, far below its knee, on which steps are timed.
    """

    claims: tuple[Claim, ...]
    limits: tuple[Comparison, ...]
    machine: Machine


def read_ledger(path: Path = CLAIMS) -> Ledger:
    """The ledger as it is in the file.

    Raises:
        ValueError: naming the claim, if something in it is missing or has no meaning.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    claims = tuple(_claim(document, table) for table in document["claim"])
    limits = tuple(_comparison(document, table) for table in document["limit"])
    return Ledger(claims, limits, limits[0].machine)


def _claim(document: Mapping[str, Any], table: Mapping[str, Any]) -> Claim:
    try:
        comparisons = tuple(_comparison(document, one) for one in table["comparison"])
        return Claim(**{key: value for key, value in table.items() if key != "comparison"}, comparisons=comparisons)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the claim {table.get('name')!r} cannot be read: {error}") from None


def _comparison(document: Mapping[str, Any], table: Mapping[str, Any]) -> Comparison:
    fields = {key: value for key, value in table.items() if key != "model"}
    fields["machine"] = _machine(document, table["model"], table["machine"])
    fields |= {name: Schedule(**table[name]) for name in ("ours", "theirs") if name in table}
    fields |= {name: distribution(**table[name]) for name in ("lengths", "prompts")}
    return Comparison(**fields)


def _machine(document: Mapping[str, Any], model: str, name: str) -> Machine:
    if name in (own := document["machine"]):
        return Machine(document["model"][model], **own[name])
    published = published_machines()[name]
    return Machine(document["model"][model], published.flops, published.bandwidth)
