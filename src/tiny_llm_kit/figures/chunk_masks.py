"""The attention scores of a prompt in one pass and in chunks: which are computed, and which of these the mask hides."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import GRID, HUES, MUTED, canvas, leave_bare
from tiny_llm_ref import causal_mask, chunk_bounds

PROMPT, STEP = 10, 4
TITLE = (
    f"Two grids for a prompt of {PROMPT} tokens, queries down and keys across. In one pass all 100 scores are computed, and the"
    f" mask hides 45. In chunks of {STEP} there are three blocks: 4 queries of 4 keys, 4 of 8, and 2 of 10, together 68 scores."
    " The mask hides 13 of them, and the rest is never computed."
)


def draw(root: Path) -> Figure:
    """Full cells are seen, pale ones are computed and hidden, dotted ones are never computed."""
    figure = canvas(3.7)
    for axes, step in zip(figure.subplots(1, 2), (PROMPT, STEP), strict=True):
        _draw_chunks(axes, step)
    return figure


def _draw_chunks(axes: Axes, step: int) -> None:
    bounds = list(chunk_bounds(PROMPT, step))
    hidden = 0
    for number, (start, end) in enumerate(bounds):
        seen = np.array(causal_mask(end - start, end)) == 0
        hidden += int((~seen).sum())
        for row, column in np.ndindex(end - start, PROMPT):
            _draw_cell(axes, column, start + row, HUES[number], bool(seen[row, column]) if column < end else None)
        axes.plot([-0.15, PROMPT + 0.15], [end, end], color=MUTED, linewidth=1)
    computed = sum((end - start) * end for start, end in bounds)
    name = "one pass" if len(bounds) == 1 else f"{len(bounds)} chunks"
    axes.set_title(f"{name}: {computed} scores, {hidden} hidden", fontsize=10)
    axes.set(xlim=(-0.2, PROMPT + 0.2), ylim=(PROMPT + 0.1, -0.1), aspect="equal", xlabel="keys", ylabel="queries")
    places = np.arange(PROMPT) + 0.5
    axes.set_xticks(places, map(str, range(PROMPT)))
    axes.set_yticks(places, map(str, range(PROMPT)))
    axes.tick_params(length=0)
    leave_bare(axes)


def _draw_cell(axes: Axes, column: int, row: int, hue: str, seen: bool | None) -> None:
    """`seen` is None where no score is computed."""
    if seen is None:
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=MUTED, linestyle=":", linewidth=0.7))
    else:
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=hue, alpha=0.6 if seen else 0.13, edgecolor=GRID))
