"""Runs below each other as one SVG file, for a book."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from tiny_llm_kit.timeline.paper import LEGEND, PATTERNS
from tiny_llm_kit.timeline.picture import draw
from tiny_llm_kit.timeline.run import Run

WIDTH, MARGIN, LABELS = 860, 16, 84
TITLE = 46
_STYLE = Path(__file__).parent / "data" / "style.css"


def as_figure(runs: Sequence[Run]) -> str:
    """The file's text. It brings its own ground, so that it can be read on any page."""
    until = max((run.duration for run in runs), default=0.0)
    parts, y = [], MARGIN
    for run in runs:
        drawing = draw(run, until, counters=False)
        width = WIDTH - LABELS - 2 * MARGIN
        parts.append(
            f'<text class="title" x="{MARGIN}" y="{y + 14}">{escape(run.name)}</text>'
            f'<text class="note" x="{MARGIN}" y="{y + 33}">{escape(run.note)}</text>'
            f'<svg x="{MARGIN}" y="{y + TITLE}" width="{LABELS}" height="{drawing.height}">{drawing.labels}</svg>'
            f'<svg class="near" x="{MARGIN + LABELS}" y="{y + TITLE}" width="{width}" height="{drawing.height}">'
            f"{drawing.marks}</svg>"
        )
        y += TITLE + drawing.height + MARGIN
    parts.append(_legend(y))
    y += 16 + MARGIN
    style = _STYLE.read_text(encoding="utf-8")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
        f' role="img" aria-label="{escape(" and ".join(run.name for run in runs))}, over time">\n<style>\n{style}</style>\n'
        f'<defs>{PATTERNS}</defs>\n<rect class="ground" width="100%" height="100%" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(y: int) -> str:
    entries, x = [], MARGIN + LABELS
    for meaning, mark in LEGEND.items():
        entries.append(f'<g transform="translate({x} {y})">{mark}<text x="32" y="12.5">{meaning}</text></g>')
        x += 56 + 7 * len(meaning)
    return "".join(entries)
