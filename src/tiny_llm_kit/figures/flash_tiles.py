"""Which pairs of tiles flash attention computes under a causal mask, and in which order a threadgroup walks them."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, MUTED, canvas, leave_bare
from tiny_llm_ref import causal_mask

BQ, BK, KEYS = 16, 32, 128
TITLE = (
    "Two grids of tiles, queries down and keys across. Each row of tiles is walked from the left by one threadgroup, up to the"
    " tile in which its last query stands; what lies beyond is skipped. With 128 queries of 128 keys, 20 of 32 pairs are"
    " computed. With the last 64 queries of 128 keys, 14 of 16."
)


def draw(root: Path) -> Figure:
    """The number in a tile is its place in the walk; pale tiles need the mask, dotted ones are skipped."""
    figure = canvas(3.95)
    for axes, queries in zip(figure.subplots(1, 2), (KEYS, KEYS // 2), strict=True):
        _draw_grid(axes, queries)
    return figure


def _draw_grid(axes: Axes, queries: int) -> None:
    seen = np.array(causal_mask(queries, KEYS)) == 0
    computed = 0
    for row in range(queries // BQ):
        for column in range(KEYS // BK):
            tile = seen[row * BQ : (row + 1) * BQ, column * BK : (column + 1) * BK]
            computed += bool(tile.any())
            _draw_tile(axes, column, row, tile)
    left = KEYS - queries
    axes.plot(np.array([left, KEYS]) / BK, [0, queries / BQ], color=HUES[1], linewidth=1.5)
    axes.set(xlim=(-0.03, KEYS / BK + 0.03), ylim=(queries / BQ + 0.05, -0.05), aspect=BQ / BK, anchor="N")
    axes.set_title(f"L = {queries}, S = {KEYS}: {computed} of {queries // BQ * (KEYS // BK)} pairs", fontsize=10)
    axes.set_xlabel(f"keys, {BK} per tile")
    axes.set_ylabel(f"queries, {BQ} per tile")
    axes.set_xticks(range(KEYS // BK + 1), map(str, range(0, KEYS + 1, BK)))
    axes.set_yticks(range(queries // BQ + 1), map(str, range(0, queries + 1, BQ)))
    leave_bare(axes)


def _draw_tile(axes: Axes, column: int, row: int, seen: np.ndarray) -> None:
    if not seen.any():
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=MUTED, linestyle=":"))
        return
    alpha = FILL if seen.all() else 0.2
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=HUES[0], alpha=alpha, edgecolor=GRID))
    axes.text(column + 0.5, row + 0.5, str(column + 1), ha="center", va="center", fontsize=9)
