"""How the book's figures look: one size, one font, and colours that a page sets, so that they are readable in light and dark.

matplotlib draws in stand-in colours, one per role. In the SVG each becomes a variable, whose value follows the reader's choice
of light or dark. Each figure has a ground of its own, so it stays readable on a page of any colour.
"""

import io
import re
from contextlib import AbstractContextManager
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK, MUTED, GRID, GROUND = "#010101", "#020202", "#030303", "#040404"
HUES = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a")
"""Blue, orange, green, purple, red and teal: told apart by people who see no red or green, too."""

_LIGHT = ("#1b2230", "#556070", "#d9dee6", "#ffffff", "#2f6fd0", "#b35c00", "#2e7d46", "#7a4fb8", "#b3261e", "#14747c")
_DARK = ("#e7ebf2", "#a3adbb", "#3a4452", "#171c24", "#7db0ff", "#f0a35a", "#7ccf93", "#c3a3f5", "#ff8a80", "#63c7d0")
_STAND_INS = (INK, MUTED, GRID, GROUND, *HUES)

FILL = 0.45
"""How opaque a hue is behind words: more of it, and they are hard to read in dark mode."""

WIDTH = 7.6
"""Inches: what a column of the book shows without making it smaller."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tiny-llm",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": GROUND,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "figure.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}


def canvas(height: float = 4.0) -> Figure:
    """An empty figure as wide as the page, of `height` inches. To be drawn on within `styled()`."""
    return Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08))


def styled() -> AbstractContextManager[None]:
    """The context in which a figure is made and written."""
    context: AbstractContextManager[None] = rc_context(STYLE)
    return context


def leave_bare(axes: Axes) -> None:
    """Without frame and grid: for a drawing, which has no scale to read from."""
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def as_svg(name: str, title: str, figure: Figure) -> str:
    """The figure as SVG text, the same on every run; `title` is what a screen reader says. To be called within `styled()`.

    Identifiers begin with the figure's `name`, because a page may hold several figures.
    """
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    for number, stand_in in enumerate(_STAND_INS):
        svg = svg.replace(stand_in, f"var(--c{number})")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    return svg.replace(">", f' role="img">\n{_colours()}', 1)


def _colours() -> str:
    light, dark = ("".join(f"--c{number}:{value};" for number, value in enumerate(values)) for values in (_LIGHT, _DARK))
    fonts = 'text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif !important; }'
    return f"<style>\nsvg {{ {light} }}\n@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}\n{fonts}\n</style>"
