"""What a decode step costs over its rows: measured, and the least that reading and computing can take.

Drawn from what `pdm run predict` recorded, with the cost model of week 2 day 7 for the lines.
"""

from pathlib import Path

from matplotlib.figure import Figure

from tiny_llm_kit.bench.own_roofline import BYTES
from tiny_llm_kit.bench.step_profile import LENGTH
from tiny_llm_kit.figures import recorded
from tiny_llm_kit.figures.style import HUES, INK, MUTED, canvas
from tiny_llm_kit.models.shapes import shape
from tiny_llm_ref import decode_call, roofline_of

TITLE = (
    "Time of a decode step over its rows. The measured step takes about as long for eight rows as for one, and grows beyond."
    " Two lines bound it from below: reading the weights, which is level, and computing with them, which rises with each row."
)


def draw(root: Path) -> Figure:
    """Milliseconds over rows, both logarithmic, with the knee where the two lines cross."""
    found = recorded.load(root, "predict")
    limits = found["limits"]
    rows = [int(count) for count in found["decode_seconds"]]
    measured = [1e3 * seconds for seconds in found["decode_seconds"].values()]
    bound = roofline_of(shape("smollm2-135m"), limits["flops"], limits["bandwidth"], BYTES, BYTES)
    weights = bound.weights + bound.output_weights
    reading = 1e3 * weights * BYTES / bound.bandwidth
    computing = [1e3 * 2 * weights * count / bound.flops for count in rows]

    figure = canvas()
    axes = figure.subplots()
    axes.plot(rows, measured, color=HUES[0], marker="o", label="measured")
    axes.plot(rows, [1e3 * bound.seconds([decode_call(count, LENGTH)]) for count in rows], color=INK, label="roofline")
    axes.axhline(reading, color=HUES[1], linestyle="--", label="reading the weights")
    axes.plot(rows, computing, color=HUES[2], linestyle="--", label="computing with them")
    axes.axvline(bound.knee, color=MUTED, linestyle=":")
    axes.annotate(f"knee: {bound.knee:.0f} rows", (bound.knee, min(computing)), (-6, 2), textcoords="offset points", ha="right")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(rows, map(str, rows))
    ticks = [2, 5, 10, 20, 50, 100]
    axes.set_yticks(ticks, map(str, ticks))
    axes.set_xlabel(f"rows of the step, each with {LENGTH} tokens")
    axes.set_ylabel("milliseconds")
    figure.legend(loc="outside upper left", ncols=4)
    return figure
