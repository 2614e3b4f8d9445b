"""Attention over a block table in two ways: the blocks are gathered in one copy, or read where they lie. Bytes are counted."""

from pathlib import Path

import mlx.core as mx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, INK, MUTED, canvas, leave_bare
from tiny_llm_ref import blocks_for, gather

TITLE = (
    "Two ways from a block table to attention. Gathering reads the three blocks of the row, writes a copy, and reads the copy:"
    " 216 KiB. Walking the table reads the 37 tokens where they lie: 55.5 KiB, and 12 bytes of the table."
)
BLOCKS, SIZE, KV_HEADS, DIM = 8, 16, 3, 64
TABLE, LENGTH = [7, 2, 5], 37


def bytes_moved() -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """What a gather and a walk move, in KiB, of keys and values in float32 in one layer."""
    pool, table = mx.zeros((KV_HEADS, BLOCKS, SIZE, DIM)), mx.array([TABLE])
    copy = 2 * gather(pool, table).nbytes / 1024
    tokens = 2 * pool[:, 0, 0].nbytes * LENGTH / 1024
    gathered = [("read the blocks", copy), ("write the copy", copy), ("read the copy", copy)]
    return gathered, [("read the tokens", tokens), ("read the table", table.nbytes / 1024)]


def draw(root: Path) -> Figure:
    """On the left where the numbers go, on the right how many bytes that moves."""
    assert len(TABLE) == blocks_for(LENGTH, SIZE)
    figure = canvas(4.2)
    rows = figure.subplots(2, 2, width_ratios=(2.1, 1))
    gathered, walked = bytes_moved()
    widest = 1.18 * sum(size for _, size in gathered)
    for (places, moved), name, parts in zip(rows, ("gather", "walk"), (gathered, walked), strict=True):
        _draw_places(places, name)
        _draw_moved(moved, parts, widest)
    return figure


def _draw_places(axes: Axes, name: str) -> None:
    for block in range(BLOCKS):
        filled = LENGTH - SIZE * TABLE.index(block) if block in TABLE else 0
        _draw_block(axes, block * 1.5, 0, min(filled, SIZE), f"{block}")
    for place, block in enumerate(TABLE):
        start = block * 1.5 + 0.6
        if name == "gather":
            target = 3.0 + 1.2 * place
            _draw_block(axes, target, 2.6, min(LENGTH - SIZE * place, SIZE), "")
            _arrow(axes, (start, 1.05), (target + 0.6, 2.55))
        else:
            _arrow(axes, (start, 1.05), (4.8, 3.75))
            axes.text(block * 1.5 + 1.2, 1.12, f"{place + 1}.", fontsize=8, color=MUTED, va="top", ha="right")
    if name == "gather":
        axes.text(2.8, 3.1, "copy", ha="right", va="center", fontsize=9)
        _arrow(axes, (4.8, 3.65), (4.8, 4.2))
    axes.text(4.8, 4.25, "attention", ha="center", va="top", fontsize=9)
    axes.set_title("gather: copied, then read" if name == "gather" else "walk: read in place")
    axes.set(xlim=(-0.2, BLOCKS * 1.5), ylim=(5.2, -0.7), xticks=[], yticks=[])
    leave_bare(axes)


def _draw_block(axes: Axes, left: float, top: float, filled: int, label: str) -> None:
    axes.add_patch(Rectangle((left, top), 1.2 * filled / SIZE, 1, facecolor=HUES[0], alpha=FILL, linewidth=0))
    axes.add_patch(Rectangle((left, top), 1.2, 1, fill=False, edgecolor=INK if filled else GRID))
    axes.text(left + 0.6, top + 0.5, label, ha="center", va="center", fontsize=9, color=INK if filled else MUTED)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": MUTED, "linewidth": 1.2})


def _draw_moved(axes: Axes, parts: list[tuple[str, float]], widest: float) -> None:
    left = 0.0
    for number, (name, size) in enumerate(parts):
        axes.barh(number, size, left=left, color=HUES[number], alpha=0.7, height=0.55)
        words = f"{name}: {size:.1f} KiB" if size > 1 else f"{name}: {1024 * size:.0f} bytes"
        axes.text(0, number - 0.34, words, fontsize=8, va="bottom")
        left += size
    axes.set_title(f"{left:.1f} KiB moved", fontsize=10)
    axes.set(xlim=(0, widest), ylim=(2.6, -0.8), yticks=[])
    axes.set_xlabel("KiB, one row, one layer", fontsize=8)
