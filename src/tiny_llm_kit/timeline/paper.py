"""What drawings are made of: marks on an axis of time, and labels at the left of it.

Everything on the axis is placed in per cent of its width. So a drawing fills whatever width it is given without being
stretched, and the page's script zooms by changing that width alone. Looks are the style sheet's business.
"""

from html import escape

from tiny_llm_kit.timeline.run import Life, Run
from tiny_llm_kit.timeline.words import describe

HUES = 6
SIGNS = {"cancelled": "×", "failed": "!", "preempted": "↩"}
"""How a request ended, or left its lane, where it did not finish: colour is not the only sign."""

PATTERNS = (
    '<pattern id="idle" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="idle-ground" width="7" height="7"/><rect class="idle-line" width="1.5" height="7"/></pattern>'
    '<pattern id="prefill" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">'
    '<rect class="prefill-ground" width="6" height="6"/><rect class="prefill-line" width="2" height="6"/></pattern>'
)
"""What hatched areas are filled with."""

LEGEND = {
    "a request": '<g class="slice hue0"><rect class="body" width="26" height="16" rx="3"/></g>',
    "its prompt is read": '<g class="slice hue0"><rect class="body" width="26" height="16" rx="3"/>'
    '<rect class="prefill" width="26" height="16" rx="3"/></g>',
    "first token": '<g class="slice hue0"><rect class="body" width="26" height="16" rx="3"/>'
    '<path class="first" d="M8 0h10l-5 7z"/></g>',
    "idle": '<rect class="lane" width="26" height="16"/>',
    "waits": '<g class="wait"><rect x="1" y="2" width="24" height="12" rx="2"/></g>',
}
"""Marks of 26 by 16 pixels, by what they mean."""

ORDINARY_WIDTH = 1050
"""Pixels of an axis on an ordinary screen: what has less room than it needs there is hidden, until the page is zoomed."""


class Paper:
    """Marks and labels of a run, from the top down. The axis ends at `until`."""

    def __init__(self, run: Run, until: float) -> None:
        self.run = run
        self.until = until or 1.0
        self.y = 0
        self.marks: list[str] = []
        self.labels: list[str] = []

    def percent(self, time: float) -> str:
        """A time, or a length of time, as a per cent of the width."""
        return f"{number(100 * time / self.until)}%"

    def label(self, y: float, text: str, kind: str = "") -> None:
        """A label that ends where the axis begins."""
        self.labels.append(f'<text class="label {kind}" x="100%" dx="-10" y="{y:g}">{escape(text)}</text>')

    def needs(self, pixels: float, length: float) -> str:
        """Attributes of what is shown only where `length` of the axis has this many pixels."""
        hidden = ' visibility="hidden"' if length / self.until * ORDINARY_WIDTH < pixels else ""
        return f'data-room="{pixels:g}"{hidden}'

    def about(self, life: Life) -> str:
        """Attributes that say whose mark it is."""
        return f'role="img" data-request="{life.number}"'

    def title(self, life: Life) -> str:
        """What a browser shows when one points at the mark."""
        return f"<title>{escape(chr(10).join(describe(life, self.run.unit)))}</title>"


def number(value: float) -> str:
    """Short, and exact to a hundredth of a pixel."""
    return f"{value:.4f}".rstrip("0").rstrip(".")
