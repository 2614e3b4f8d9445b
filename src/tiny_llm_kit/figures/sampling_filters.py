"""What each step of sampling makes of one distribution: temperature, top-k, top-p and min-p."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
from matplotlib.figure import Figure

from tiny_llm_kit.figures.style import GRID, HUES, canvas
from tiny_llm_ref import min_p, softmax, top_k, top_p

TITLE = (
    "Six bar charts of the same ten tokens. Temperature 0.5 makes the distribution steeper, temperature 2 flatter. Top-k "
    "keeps the three largest, top-p those that reach 0.85 together, min-p those with at least 0.3 of the largest; the "
    "rest get nothing, and those that are kept grow."
)
PROBABILITIES = (0.3, 0.22, 0.14, 0.1, 0.08, 0.06, 0.04, 0.03, 0.02, 0.01)
STEPS: dict[str, Callable[[mx.array], mx.array]] = {
    "unchanged": lambda logits: logits,
    "temperature 0.5": lambda logits: logits / 0.5,
    "temperature 2": lambda logits: logits / 2,
    "top-k, k = 3": lambda logits: top_k(logits, 3),
    "top-p, p = 0.85": lambda logits: top_p(logits, 0.85),
    "min-p, p = 0.3": lambda logits: min_p(logits, 0.3),
}


def draw(root: Path) -> Figure:
    """Filled bars: with which probability each token is drawn. Outlines: before the step."""
    logits = mx.log(mx.array(PROBABILITIES))
    tokens = np.arange(len(PROBABILITIES))
    figure = canvas(4.4)
    for axes, (name, step) in zip(figure.subplots(2, 3, sharey=True).flat, STEPS.items(), strict=True):
        axes.bar(tokens, np.array(softmax(step(logits))), color=HUES[0])
        axes.bar(tokens, PROBABILITIES, fill=False, edgecolor=HUES[1], linewidth=1.0)
        axes.set_title(name)
        axes.set_xticks([])
        axes.grid(visible=False, axis="x")
        axes.grid(color=GRID, axis="y")
    figure.supxlabel("tokens, the most likely first", fontsize=10)
    figure.supylabel("probability", fontsize=10)
    return figure
