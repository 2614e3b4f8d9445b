"""What more slots bring and what they cost: throughput over the time to the first token, and the median times over slots.

Drawn from what `pdm run predict` recorded: its measured runs as points, and lines by its fitted cost, simulated for more sizes.
"""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tiny_llm_ref
from tiny_llm_kit.bench.fits import load_fit
from tiny_llm_kit.bench.prediction import Case, predict
from tiny_llm_kit.figures import recorded
from tiny_llm_kit.figures.style import HUES, canvas
from tiny_llm_kit.models.shapes import shape
from tiny_llm_kit.workloads.lists import heavy_tail

TITLE = (
    "Two panels for 1 to 16 slots. With more slots, tokens per second rise up to eight slots and not beyond, while the"
    " median time to the first token keeps falling. The median latency is shortest at eight slots."
)
SLOTS = (1, 2, 4, 8, 16)
MEASURED = ("4 slots", "heavy-tail, 8 slots", "16 slots")
"""The recorded cases that differ in their slots alone."""


def draw(root: Path) -> Figure:
    """Left: tokens per second over the median TTFT, a point per number of slots. Right: the median times over slots."""
    found = recorded.load(root, "predict")
    cost = load_fit(tiny_llm_ref, root / "book" / "figures" / "predict.json")
    items = heavy_tail(shape("smollm2-135m").vocab_size, count=found["requests"])
    simulated = {slots: predict(tiny_llm_ref, Case("simulated", items, slots), cost) for slots in SLOTS}
    measured = {case["slots"]: case["measured"] for case in found["cases"] if case["name"] in MEASURED}

    figure = canvas(3.6)
    left, right = figure.subplots(1, 2)
    first_tokens, speeds = ([simulated[slots][name] for slots in SLOTS] for name in ("TTFT p50", "tokens/s"))
    _plot(left, first_tokens, speeds, HUES[0], "")
    for slots, x, y in zip(SLOTS, first_tokens, speeds, strict=True):
        last = slots == max(SLOTS)  # close to the one before it
        left.annotate(str(slots), (x, y), (-5 if last else 5, 7), textcoords="offset points", ha="right" if last else "left")
    _dots(left, [(one["TTFT p50"], one["tokens/s"]) for one in measured.values()], HUES[0])
    left.set_xlabel("TTFT p50, seconds")
    left.set_ylabel("tokens per second")
    left.set_xlim(0, 1.1 * max(first_tokens))
    left.set_ylim(0, 1.2 * max(speeds))
    left.set_title("one point per number of slots")

    for name, hue in (("latency p50", HUES[1]), ("TTFT p50", HUES[0])):
        _plot(right, list(SLOTS), [simulated[slots][name] for slots in SLOTS], hue, name)
        _dots(right, [(slots, one[name]) for slots, one in measured.items()], hue)
    right.set_xscale("log", base=2)
    right.set_xticks(SLOTS, map(str, SLOTS))
    right.set_ylim(bottom=0)
    right.set_xlabel("slots")
    right.set_ylabel("seconds")
    right.legend()
    return figure


def _plot(axes: Axes, x: list[float] | list[int], y: list[float], hue: str, label: str) -> None:
    """Simulated: a thin line with small points."""
    axes.plot(x, y, color=hue, marker=".", linewidth=1.2, label=label or None)


def _dots(axes: Axes, points: list[tuple[Any, Any]], hue: str) -> None:
    """Measured: rings."""
    axes.plot(*zip(*points, strict=True), color=hue, marker="o", markersize=9, fillstyle="none", linestyle="")
