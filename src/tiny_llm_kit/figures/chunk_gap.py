"""How long a running answer stands still while a long prompt is computed, over the size of its chunks, by simulation.

What calls cost is the fit that `pdm run predict` recorded; the simulator of week 2 day 7 runs the engine's own scheduler.
"""

from pathlib import Path

from matplotlib.figure import Figure

import tiny_llm_ref
from tiny_llm_kit.bench.fits import load_fit
from tiny_llm_kit.figures.style import HUES, canvas
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_ref import BatchState, EventKind, simulate_slots

CHUNKS = (16, 32, 64, 128, 256, 512, 1024, 2048)
PROMPT, ROWS = 2048, 4
ARRIVAL = 2.0
"""Seconds after the start, when the long prompt comes."""

TITLE = (
    f"Seconds over the chunk size, both logarithmic. {ROWS} answers run when a prompt of {PROMPT} tokens arrives. The longest"
    " gap between two of their tokens grows with the chunk, from a tenth of a second to almost three seconds. The first token"
    " of the long prompt comes sooner with larger chunks."
)


class _Watch:
    """Reads the log: when the tokens of the running answers came, and the first one of the long prompt."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.first_token = 0.0

    def read(self, state: BatchState) -> None:
        """Take in one iteration. The long prompt is the last that comes."""
        if state.new_tokens >= ROWS:
            self.moments.append(state.time)
        for event in state.events:
            if event.kind is EventKind.FIRST_TOKEN:
                self.first_token = event.time

    @property
    def longest_gap(self) -> float:
        """Seconds."""
        return max(after - before for before, after in zip(self.moments, self.moments[1:], strict=False))


def draw(root: Path) -> Figure:
    """Two lines over the chunk size."""
    watches = [_simulate(root, chunk) for chunk in CHUNKS]
    figure = canvas(3.4)
    axes = figure.subplots()
    waits = [watch.first_token - ARRIVAL for watch in watches]
    axes.plot(CHUNKS, waits, color=HUES[1], marker="s", label="until the long prompt's first token")
    gaps = [watch.longest_gap for watch in watches]
    axes.plot(CHUNKS, gaps, color=HUES[0], marker="o", label="longest gap between two tokens of a running answer")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(CHUNKS, map(str, CHUNKS))
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel(f"tokens per chunk of the prompt of {PROMPT}")
    axes.set_ylabel("seconds")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _simulate(root: Path, chunk: int) -> _Watch:
    """Some answers begin at once, and go on for longer than the prompt takes that comes later."""
    running = [WorkItem((0,) * 16, max_tokens=600)] * ROWS
    watch = _Watch()
    cost = load_fit(tiny_llm_ref, root / "book" / "figures" / "predict.json")
    long_prompt = WorkItem((0,) * PROMPT, max_tokens=2, arrival=ARRIVAL)
    simulate_slots([*running, long_prompt], cost, ROWS + 1, prefill_step=chunk, readers=[watch.read])
    return watch
