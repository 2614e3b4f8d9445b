"""Step by step what the real scheduler plans: a budget of tokens, decodes before chunks, and a preemption.

The paged engine serves a tiny model, and its plans are drawn as they come.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, INK, MUTED, canvas, leave_bare
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
from tiny_llm_ref import Engine, MixedPlan, Model, PagedRequest, Scheduler

TITLE = (
    "Steps of the paged engine, a row per step and a cell per token, twelve at most. A, B and C decode in every step, and"
    " pieces of the prompts of D and E fill what is left. When no block is free, E, the youngest, gives up its blocks, and"
    " later computes its prompt and its answer so far once more."
)
BUDGET, SEATS, BLOCKS, SIZE = 12, 5, 14, 4
FIRST = {"A": (3, 9), "B": (2, 8), "C": (4, 8)}
THEN = {"D": (14, 6), "E": (6, 6)}
"""Prompt tokens, and tokens of the answer. The second ones come after the first step."""


@dataclass(frozen=True)
class Step:
    """What a step computes, a name per token (lower case in a chunk), who is preempted, and the blocks that each holds then."""

    tokens: list[str]
    preempted: list[str]
    blocks: dict[str, int]


class _Watched(Scheduler):
    """Keeps the plans that it makes."""

    def plan(self, *arguments: Any) -> MixedPlan:
        self.last = super().plan(*arguments)
        return self.last


def steps() -> list[Step]:
    """Run the engine until all have ended."""
    config = tiny_config()
    engine = Engine(Model(config, random_weights(config)), num_blocks=BLOCKS, block_size=SIZE, prefix_caching=False)
    engine.scheduler = watched = _Watched(SEATS, BUDGET)
    requests: dict[str, PagedRequest] = {}
    done: list[Step] = []
    while not done or engine.has_work:
        for name, (prompt, answer) in {0: FIRST, 1: THEN}.get(len(done), {}).items():
            requests[name] = engine.submit(PagedRequest([7] * prompt, answer))
        engine.step()
        engine.check_integrity()
        names = {request.request_id: name for name, request in requests.items()}
        plan = watched.last
        tokens = [names[request.request_id] for request in plan.decodes]
        for chunk in plan.chunks:
            tokens += [names[chunk.request.request_id].lower()] * (chunk.end - chunk.start)
        preempted = [names[request.request_id] for request in plan.preempted]
        done.append(Step(tokens, preempted, {name: len(request.blocks) for name, request in requests.items()}))
    return [step for step in done if step.tokens]


def draw(root: Path) -> Figure:
    """On the left the tokens of each step, on the right the blocks that are held after it."""
    rows = steps()
    figure = canvas(0.9 + 0.24 * len(rows))
    budget, pool = figure.subplots(1, 2, width_ratios=(BUDGET + 2, BLOCKS), sharey=True)
    for number, step in enumerate(rows):
        for place in range(BUDGET):
            _cell(budget, place, number, step.tokens[place] if place < len(step.tokens) else "")
        held = [name for name, count in step.blocks.items() for _ in range(count)]
        for place in range(BLOCKS):
            _cell(pool, place, number, held[place] if place < len(held) else "")
        if step.preempted:
            words = f" ← {', '.join(step.preempted)} preempted"
            budget.text(len(step.tokens) + 0.2, number + 0.5, words, va="center", fontsize=9, color=INK)
    budget.set_title(f"tokens of a step, {BUDGET} at most")
    pool.set_title(f"blocks held, {BLOCKS} in all")
    budget.set_yticks([number + 0.5 for number in range(len(rows))], [f"{number + 1}" for number in range(len(rows))])
    budget.set_ylabel("step")
    for axes, width in ((budget, BUDGET), (pool, BLOCKS)):
        axes.set(xlim=(-0.1, width + 0.1), ylim=(len(rows) + 0.1, -0.1), xticks=[])
        axes.tick_params(length=0)
        leave_bare(axes)
    return figure


def _cell(axes: Axes, place: int, number: int, owner: str) -> None:
    if owner:
        hue = HUES[[*FIRST, *THEN].index(owner.upper())]
        axes.add_patch(Rectangle((place, number), 1, 1, facecolor=hue, alpha=FILL if owner.isupper() else 0.2, linewidth=0))
        axes.text(place + 0.5, number + 0.5, owner, ha="center", va="center", fontsize=8)
    frame = GRID if owner else MUTED
    axes.add_patch(
        Rectangle((place, number), 1, 1, fill=False, edgecolor=frame, linestyle="-" if owner else ":", linewidth=0.6)
    )
