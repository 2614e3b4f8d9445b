"""How much of the memory for keys and values holds tokens, and how many requests it serves at a time: slots against blocks.

Lengths are all that is needed: no model, no array. A slot is a block that is as long as the longest sequence, so one simulation
covers both. Requests are admitted in turn while what they know by then fits; each step adds a token to every running request;
and when a token has no room, the youngest starts again later (PagedAttention, SOSP 2023, sections 3.1 and 4.5).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from types import ModuleType
from typing import Any

from tiny_llm_kit.workloads.items import WorkItem

WATERMARK = 0.01
"""Share of the blocks that stays free when a request is admitted alongside others, for these to grow."""

COLUMNS = ["memory in", "reserved for", "holding", "wasted", "worst request", "in flight", "times slots", "most", "begun again"]


@dataclass
class Stored:
    """`known` tokens, of at most `longest`, whose keys and values are or will be stored."""

    known: int
    longest: int
    table: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Moment:
    """After a step: requests that run, requests that wait, tokens stored, tokens that there are blocks for."""

    in_flight: int
    waiting: int
    held: int
    reserved: int


@dataclass(frozen=True)
class Usage:
    """A workload played over blocks of one size.

    worst: tokens that one request had reserved and not used, at most.
    """

    block_size: int
    moments: tuple[Moment, ...]
    worst: int
    preempted: int

    @property
    def crowded(self) -> Sequence[Moment]:
        """The steps in which requests waited, that is, in which memory was short; all, if none ever waited."""
        return [moment for moment in self.moments if moment.waiting] or self.moments

    @property
    def held(self) -> float:
        """Mean of the tokens stored."""
        return mean(moment.held for moment in self.crowded)

    @property
    def reserved(self) -> float:
        """Mean of the tokens that memory was taken for."""
        return mean(moment.reserved for moment in self.crowded)

    @property
    def wasted(self) -> float:
        """The share of what is reserved that holds nothing."""
        return 1 - self.held / self.reserved

    @property
    def in_flight(self) -> float:
        """Mean of the requests that run at a time."""
        return mean(moment.in_flight for moment in self.crowded)


def play(answer: ModuleType, items: Sequence[WorkItem], tokens: int, block_size: int) -> Usage:
    """Serve `items`, which all come at once, in memory for this many tokens, with the block pool of an answer package.

    Raises:
        ValueError: if the memory can't hold the longest request alone.
    """
    pool = answer.BlockPool(max(tokens // block_size, 1), block_size)
    waiting = deque(Stored(len(item.prompt), len(item.prompt) + item.max_tokens - 1) for item in items)
    longest = max(sequence.longest for sequence in waiting)
    if answer.blocks_for(longest, block_size) > pool.num_blocks:
        raise ValueError(
            f"{pool.num_blocks} blocks of {block_size} tokens can't hold the longest request, {longest} tokens: give more"
        )
    running: list[Stored] = []
    moments, worst, preempted = [], 0, 0
    while waiting or running:
        victims = _grow(answer, pool, running)
        waiting.extendleft(victims)
        preempted += len(victims)
        if not victims:
            running += _admit(answer, pool, waiting, someone_runs=bool(running))
        spare = [len(one.table) * block_size - one.known for one in running]
        held = sum(one.known for one in running)
        moments.append(Moment(len(running), len(waiting), held, held + sum(spare)))
        worst = max([worst, *spare])
        for one in running:
            if one.known == one.longest:
                pool.release(one.table)
        running = [one for one in running if one.known < one.longest]
    return Usage(block_size, tuple(moments), worst, preempted)


def _admit(answer: ModuleType, pool: Any, waiting: deque[Stored], someone_runs: bool) -> list[Stored]:
    """The requests at the head of the queue for which there is room; their prompts are stored in this step."""
    admitted: list[Stored] = []
    while waiting:
        needed = answer.blocks_for(waiting[0].known, pool.block_size)
        kept = int(WATERMARK * pool.num_blocks) if someone_runs or admitted else 0
        if needed + kept > pool.num_free:
            break
        waiting[0].table = pool.allocate(needed)
        admitted.append(waiting.popleft())
    return admitted


def _grow(answer: ModuleType, pool: Any, running: list[Stored]) -> list[Stored]:
    """One more token for each, the oldest first. If there is no block for it, the youngest gives up its own."""
    victims = []
    place = 0
    while place < len(running):
        one = running[place]
        more = pool.allocate(answer.blocks_for(one.known + 1, pool.block_size) - len(one.table))
        if more is None:
            victim = running.pop()
            pool.release(victim.table)
            victim.table = []
            victims.append(victim)
            continue
        one.table += more
        one.known += 1
        place += 1
    return victims


def rows(usages: Sequence[Usage]) -> list[list[str]]:
    """A table; the first usage is that of slots."""
    slots = usages[0]
    return [
        [
            "slots" if usage is slots else f"blocks of {usage.block_size}",
            f"{usage.reserved:,.0f}",
            f"{usage.held:,.0f}",
            f"{usage.wasted:.1%}",
            f"{usage.worst}",
            f"{usage.in_flight:.1f}",
            f"{usage.in_flight / slots.in_flight:.2f}",
            f"{max(moment.in_flight for moment in usage.moments)}",
            f"{usage.preempted}",
        ]
        for usage in usages
    ]


def draw(usages: Sequence[Usage], path: Path, tokens: int, title: str) -> None:
    """Where the memory goes, a bar per size; and the requests in flight, step by step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row[0] for row in rows(usages)]
    held, wasted = [usage.held / tokens for usage in usages], [(usage.reserved - usage.held) / tokens for usage in usages]
    free = [1 - a - b for a, b in zip(held, wasted, strict=True)]
    figure, (bars, lines) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    bottom = [0.0] * len(names)
    for label, shares, color in (("holds tokens", held, "C0"), ("reserved, empty", wasted, "C3"), ("free", free, "lightgray")):
        bars.bar(names, [100 * share for share in shares], bottom=bottom, label=label, color=color)
        bottom = [a + 100 * b for a, b in zip(bottom, shares, strict=True)]
    bars.set_ylabel("% of the memory, while requests wait")
    bars.tick_params(axis="x", rotation=30)
    bars.legend(loc="lower right")
    for name, usage in zip(names, usages, strict=True):
        lines.plot([moment.in_flight for moment in usage.moments], label=name)
    lines.set_xlabel("step")
    lines.set_ylabel("requests in flight")
    lines.set_ylim(bottom=0)
    lines.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
