"""The maximum and the sum of a softmax from parts: pairs (m, l) of two scores each, merged in a tree."""

from math import exp, inf
from pathlib import Path

import mlx.core as mx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiny_llm_kit.figures.style import GROUND, HUES, INK, MUTED, canvas, leave_bare

PARTS = ((1.0, 3.0), (2.0, 0.0), (4.0, 1.0), (2.0, 3.0))
TITLE = (
    "A tree. At the bottom, eight scores in four parts of two. Above each part is its pair: m, the largest score, and l, the"
    " sum of exp(score − m). Neighbours are merged two by two: the part with the smaller m has its l multiplied by a factor."
    " The root is the pair of all eight scores."
)

Pair = tuple[float, float]


def merge(one: Pair, other: Pair) -> Pair:
    """The pair of both parts."""
    m = max(one[0], other[0])
    return m, sum(total * exp(m_part - m) for m_part, total in (one, other))


def levels() -> list[list[Pair]]:
    """The pairs of the parts, then of their pairs, up to the root."""
    found = [[_pair(scores) for scores in PARTS]]
    while len(found[-1]) > 1:
        below = found[-1]
        found.append([merge(*below[i : i + 2]) for i in range(0, len(below), 2)])
    return found


def _pair(scores: tuple[float, ...]) -> Pair:
    pair = (-inf, 0.0)
    for score in scores:
        pair = merge(pair, (score, 1.0))
    return pair


def draw(root: Path) -> Figure:
    """Parts at the bottom, the root on top. The root is checked against the sum over all scores at once."""
    tree = levels()
    (m, total), scores = tree[-1][0], mx.array(PARTS).reshape(-1)
    if abs(float(mx.exp(scores - m).sum()) - total) > 1e-5:
        raise ValueError(f"merged, the sum is {total}: that is not the sum over all scores")

    figure = canvas(3.3)
    axes = figure.subplots()
    for height, pairs in enumerate(tree):
        for number, pair in enumerate(pairs):
            _draw_pair(axes, height, number, pair, None if height == 0 else tree[height - 1][2 * number : 2 * number + 2])
    for number, part in enumerate(PARTS):
        axes.text(_x(0, number), -0.75, "scores " + ", ".join(f"{score:g}" for score in part), ha="center", color=INK)
    axes.set(xlim=(-0.6, 3.6), ylim=(-1.0, 2.5), xticks=[], yticks=[])
    leave_bare(axes)
    return figure


def _x(height: int, number: int) -> float:
    return float(2**height * (number + 0.5) - 0.5)


def _draw_pair(axes: Axes, height: int, number: int, pair: Pair, below: list[Pair] | None) -> None:
    x, m = _x(height, number), pair[0]
    for child, (m_child, _) in enumerate(below or []):
        x_child = _x(height - 1, 2 * number + child)
        axes.plot([x_child, x], [height - 1, height], color=MUTED, linewidth=1.2, zorder=1)
        factor = "· 1" if m_child == m else f"· e^({m_child:g} − {m:g})"
        side = "right" if child == 0 else "left"
        axes.text(
            (x_child + x) / 2 + 0.08 * (2 * child - 1), height - 0.5, factor, ha=side, va="center", color=MUTED, fontsize=9
        )
    frame = {"boxstyle": "round,pad=0.4", "facecolor": GROUND, "edgecolor": HUES[height]}
    axes.text(x, height, f"m = {m:g}, l = {pair[1]:.3f}", ha="center", va="center", bbox=frame, zorder=2)
