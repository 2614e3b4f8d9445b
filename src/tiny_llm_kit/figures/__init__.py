"""The book's figures: each module draws one, from a recorded measurement or from the course's own objects."""

import importlib
from pathlib import Path

from tiny_llm_kit.figures.style import as_svg, styled

NAMES = (
    "course-days",
    "attention-grids",
    "rope-hands",
    "silu",
    "sampling-filters",
    "cache-growth",
    "cache-time",
    "coalesced-loads",
    "flash-tiles",
    "softmax-merge",
    "chunk-masks",
    "chunk-gap",
    "decode-rows",
    "ways-to-batch",
    "slab-condense",
    "slots-tradeoff",
    "arrivals",
    "coordinated-omission",
    "block-tables",
    "gather-and-walk",
    "prefix-trie",
    "token-budget",
    "routers",
)
"""In the order in which the book shows them; `decode-rows` is drawn by the module `decode_rows`."""


def draw(root: Path, name: str) -> str:
    """The figure as SVG. Raises ValueError if there is none of this name, or what it is drawn from is missing or malformed."""
    if name not in NAMES:
        raise ValueError(f"no figure is called {name!r}: take one of {', '.join(NAMES)}")
    module = importlib.import_module(f"tiny_llm_kit.figures.{name.replace('-', '_')}")
    with styled():
        return as_svg(name, module.TITLE, module.draw(root))


def place(root: Path, name: str) -> Path:
    """Where the book finds the figure."""
    return root / "book" / "src" / "images" / f"{name}.svg"


def is_stale(root: Path, name: str) -> bool:
    """Whether the book's file is missing, or is not what is drawn now."""
    path = place(root, name)
    return not path.is_file() or path.read_text(encoding="utf-8") != draw(root, name)
