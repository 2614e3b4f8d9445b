"""Rotary positions as the hands of clocks: how far each pair of a head has turned at some positions."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from tiny_llm_kit.figures.style import GRID, HUES, INK, MUTED, canvas, leave_bare
from tiny_llm_ref import rope_frequencies

DIM, BASE = 8, 10000.0
POSITIONS = (0, 1, 2, 3, 10, 100)
TITLE = (
    f"Clocks, one per pair of a head of {DIM} numbers and per position. The first pair turns by a radian per position, and"
    " its hand soon goes round; each further pair is slower, and the last has hardly moved at position 100."
)


def draw(root: Path) -> Figure:
    """A row of clocks per pair, a column per position; a hand that has gone round says how often."""
    frequencies = np.array(rope_frequencies(DIM, BASE))
    figure = canvas(4.6)
    for row, (frequency, line) in enumerate(zip(frequencies, figure.subplots(len(frequencies), len(POSITIONS)), strict=True)):
        for position, axes in zip(POSITIONS, line, strict=True):
            _draw_clock(axes, float(frequency) * position, HUES[row])
            if row == 0:
                axes.set_title(f"position {position}", fontsize=9, loc="center")
        line[0].set_ylabel(f"pair {row}\nθ = {frequency:g}", rotation=0, ha="right", va="center", color=INK)
    return figure


def _draw_clock(axes: Axes, angle: float, hue: str) -> None:
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=MUTED))
    axes.plot([0, 1], [0, 0], color=GRID)
    axes.plot([0, np.cos(angle)], [0, np.sin(angle)], color=hue, linewidth=2.5)
    if turns := int(angle / (2 * np.pi)):
        axes.text(0, -1.15, f"{turns} turn{'s' if turns > 1 else ''}", ha="center", va="top", fontsize=8, color=MUTED)
    axes.set(xlim=(-1.3, 1.3), ylim=(-1.6, 1.2), aspect="equal", xticks=[], yticks=[])
    leave_bare(axes)
