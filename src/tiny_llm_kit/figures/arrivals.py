"""Arrivals of the same mean rate with three degrees of burstiness, drawn by the course's own generator."""

from pathlib import Path

from matplotlib.figure import Figure

from tiny_llm_kit.figures.style import HUES, canvas
from tiny_llm_ref import arrival_times

TITLE = (
    "Arrivals over 30 seconds at a mean of 2 per second, in three rows with a tick per request. With burstiness 0.25 they come"
    " in clusters with long pauses between them; with 1, a Poisson process, in smaller clusters; with 4, almost evenly."
)
RATE, SECONDS, SEED = 2.0, 30.0, 1
ROWS = {0.25: "burstiness 0.25", 1.0: "1: a Poisson process", 4.0: "4"}


def draw(root: Path) -> Figure:
    """A row per burstiness, with how many come in the busiest second."""
    figure = canvas(2.3)
    axes = figure.subplots()
    for row, burstiness in enumerate(ROWS):
        times = [time for time in arrival_times(200, RATE, burstiness, SEED) if time < SECONDS]
        axes.vlines(times, row - 0.36, row + 0.36, color=HUES[row], linewidth=1.6)
        most = max(sum(start <= time < start + 1 for time in times) for start in range(int(SECONDS)))
        axes.text(SECONDS + 0.4, row, f"{len(times)} arrivals,\n{most} in one second", va="center", fontsize=9)
    axes.set(xlim=(0, SECONDS), ylim=(len(ROWS) - 0.4, -0.6), xlabel="seconds")
    axes.set_yticks(range(len(ROWS)), list(ROWS.values()))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure
