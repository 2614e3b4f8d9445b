"""SiLU and its gate: how much of a number passes, and the dip that a plain rectifier does not have."""

from pathlib import Path

import mlx.core as mx
import numpy as np
from matplotlib.figure import Figure

from tiny_llm_kit.figures.style import HUES, INK, MUTED, canvas
from tiny_llm_ref import silu

TITLE = (
    "The curve of silu(x) between −6 and 6: close to 0 for large negative x, with a dip below 0 near −1.28, 0 at 0, and close"
    " to x for large x. A second curve is its gate, sigmoid(x), which goes from 0 to 1. A dashed line is max(x, 0)."
)


def draw(root: Path) -> Figure:
    """Both curves by the reference, and the numbers that the text of the chapter names."""
    x = np.linspace(-6, 6, 241, dtype=np.float32)
    figure = canvas(3.2)
    axes = figure.subplots()
    axes.plot(x, np.maximum(x, 0), color=MUTED, linestyle="--", linewidth=1.2, label="max(x, 0)")
    axes.plot(x, np.array(silu(mx.array(x))), color=HUES[0], label="silu(x) = x · sigmoid(x)")
    axes.plot(x, 1 / (1 + np.exp(-x)), color=HUES[1], linewidth=1.2, label="sigmoid(x), the gate")
    for point in (-1.0, 1.0):
        value = silu(mx.array(point)).item()
        axes.plot(point, value, "o", color=INK, markersize=5)
        offset = (8, -14) if point > 0 else (-4, -16)
        axes.annotate(f"{value:.3f}".replace("-", "−"), (point, value), xytext=offset, textcoords="offset points", fontsize=9)
    axes.set(xlim=(-6, 6), ylim=(-1, 6), xlabel="x")
    axes.legend(loc="upper left")
    return figure
