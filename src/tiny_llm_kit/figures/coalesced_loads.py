"""Which words of a packed matrix the 32 lanes of a SIMD group ask for in one load, and which lines memory delivers for them."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import GRID, HUES, canvas

LANES, LINE = 32, 128 // 4
"""Lanes of a SIMD group, and words of 4 bytes in a line of memory."""

ROWS, WORDS = 32, 128
"""The matrix: a row of 128 words is 1024 numbers of 4 bits."""

TITLE = (
    "The words of a matrix, 32 rows of 128, and those that one load asks for. A thread per row: 32 words, one in each row, for"
    " which 32 lines are fetched. A SIMD group per row: 32 neighbours, which are one line. 16 bytes per lane: all 128 words of"
    " a row, which are 4 lines."
)


def asked() -> dict[str, np.ndarray]:
    """The first load of W in each of the day's kernels: the index of every word that the 32 lanes ask for."""
    lanes = np.arange(LANES)
    return {
        "a thread per row": lanes * WORDS,
        "a SIMD group per row": lanes,
        "16 bytes per lane": (4 * lanes[:, None] + np.arange(4)).ravel(),
    }


def draw(root: Path) -> Figure:
    """Dark: asked for. Pale: fetched with it."""
    figure = canvas(3.0)
    for task, (axes, (name, words)) in enumerate(zip(figure.subplots(1, 3), asked().items(), strict=True), 2):
        _draw_matrix(axes, f"task {task}: {name}", words)
    return figure


def _draw_matrix(axes: Axes, name: str, words: np.ndarray) -> None:
    lines = np.unique(words // LINE)
    for line in lines:
        row, column = divmod(line * LINE, WORDS)
        axes.add_patch(Rectangle((column, row), LINE, 1, facecolor=HUES[1], alpha=0.35, edgecolor=GRID, linewidth=0.5))
    for word in words:
        row, column = divmod(word, WORDS)
        axes.add_patch(Rectangle((column, row), 1.6 if len(lines) == len(words) else 1, 1, facecolor=HUES[0], linewidth=0))
    axes.set(xlim=(0, WORDS), ylim=(ROWS, 0), xlabel=f"{4 * len(words)} bytes asked for,\n{4 * LINE * len(lines):,} fetched")
    axes.set_title(name, fontsize=9)
    axes.set_xticks(range(0, WORDS + 1, LINE))
    axes.set_yticks([0.5, ROWS - 0.5], ["row 0", f"row {ROWS - 1}"])
    axes.spines[:].set_visible(True)
