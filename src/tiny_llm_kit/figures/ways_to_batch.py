"""The same iteration of three requests in one padded call, in separate calls, and in one ragged call."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, MUTED, canvas, leave_bare

TOKENS = {"A": 1, "B": 1, "C": 6}
"""New tokens of each request: A and B decode, C computes a chunk of its prompt."""
TITLE = (
    "Three requests with 1, 1 and 6 new tokens. One padded call has 3 rows of 6 places, 10 of them padding, and reads the"
    " weights once. Two separate calls have no padding and read the weights twice. One ragged call puts all 8 tokens into"
    " one row, has no padding, and reads the weights once."
)

Call = list[list[str]]
"""Rows of a model call; a place holds a request's name, or nothing where it is padding."""


def ways() -> dict[str, list[Call]]:
    """The calls of each way to compute the iteration."""
    longest = max(TOKENS.values())
    padded = [[name] * tokens + [""] * (longest - tokens) for name, tokens in TOKENS.items()]
    decode = [[name] for name, tokens in TOKENS.items() if tokens == 1]
    prefill = [[name] * tokens for name, tokens in TOKENS.items() if tokens > 1]
    ragged = [[name for name, tokens in TOKENS.items() for _ in range(tokens)]]
    return {"padded": [padded], "separate calls": [decode, prefill], "ragged": [ragged]}


def draw(root: Path) -> Figure:
    """A box per call of the model; a cell per token that is computed."""
    figure = canvas(1.8)
    for axes, (name, calls) in zip(figure.subplots(1, 3, width_ratios=(6, 7.5, 8)), ways().items(), strict=True):
        _draw_calls(axes, name, calls)
    return figure


def _draw_calls(axes: Axes, name: str, calls: list[Call]) -> None:
    left = 0.0
    for call in calls:
        for row, line in enumerate(call):
            for column, owner in enumerate(line):
                _draw_cell(axes, left + column, row, owner)
        left += len(call[0]) + 0.6
    places = [owner for call in calls for line in call for owner in line]
    axes.set(xlim=(-0.2, left - 0.4), ylim=(4.2, -0.2), aspect="equal", xticks=[], yticks=[])
    axes.set_title(name)
    passes = f"{len(calls)} pass{'es' if len(calls) > 1 else ''} over the weights"
    axes.text(0, 3.3, f"{passes}\n{len(places)} places, {places.count('')} padding", va="top", fontsize=9)
    leave_bare(axes)


def _draw_cell(axes: Axes, column: float, row: int, owner: str) -> None:
    if owner:
        hue = HUES[list(TOKENS).index(owner)]
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=hue, alpha=FILL, edgecolor=GRID))
        axes.text(column + 0.5, row + 0.5, owner, ha="center", va="center")
    else:
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=MUTED, linestyle=":"))
