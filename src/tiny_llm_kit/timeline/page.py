"""One self-contained page that shows runs below each other."""

from collections.abc import Sequence
from html import escape

from tiny_llm_kit.timeline.run import Run


def as_page(runs: Sequence[Run]) -> str:
    """The page, in HTML."""
    return "".join(f"<h2>{escape(run.name)}</h2>" for run in runs)
