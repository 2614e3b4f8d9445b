"""Who attends to whom: the attention weights of a few words without a mask, with a causal one, and after a cache."""

from pathlib import Path

import mlx.core as mx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, canvas, leave_bare
from tiny_llm_ref import causal_mask, softmax

TITLE = (
    "Three grids of attention weights, a row per query and a column per key. Without a mask every word sees every word. "
    "With the causal mask a word sees itself and what comes before it. With a cache there is one query, the new word, and"
    " it sees all keys."
)
WORDS = ["the", "cat", "sat", "on", "it"]
DIM = 8


def draw(root: Path) -> Figure:
    """Darker cells are larger weights; an empty cell is one that the mask forbids."""
    queries, keys = mx.random.normal((2, len(WORDS), DIM), key=mx.random.key(3))
    scores = queries @ keys.T / DIM**0.5
    causal = softmax(scores + causal_mask(len(WORDS), len(WORDS)), axis=-1)
    grids = {"no mask": softmax(scores, axis=-1), "causal mask": causal, "one query, cached keys": causal[-1:]}

    figure = canvas(3.0)
    for axes, (name, grid) in zip(figure.subplots(1, 3), grids.items(), strict=True):
        _draw_grid(axes, name, np.array(grid))
    return figure


def _draw_grid(axes: Axes, name: str, weights: np.ndarray) -> None:
    for (row, column), weight in np.ndenumerate(weights):
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=HUES[0], alpha=FILL * float(weight), linewidth=0))
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=GRID))
        if weight:
            axes.text(column + 0.5, row + 0.5, f"{weight:.2f}", ha="center", va="center", fontsize=8)
    axes.set(title=name, xlim=(0, len(WORDS)), ylim=(len(weights), 0), aspect="equal", anchor="N", xlabel="keys")
    axes.set_xticks(np.arange(len(WORDS)) + 0.5, WORDS)
    axes.set_yticks(np.arange(len(weights)) + 0.5, WORDS[-len(weights) :])
    axes.tick_params(length=0)
    leave_bare(axes)
