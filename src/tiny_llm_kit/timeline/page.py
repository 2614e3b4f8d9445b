"""One self-contained page that shows runs below each other, on one scale of time."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from tiny_llm_kit.timeline.lanes import token_zoom
from tiny_llm_kit.timeline.paper import LEGEND, ORDINARY_WIDTH, PATTERNS, SIGNS
from tiny_llm_kit.timeline.picture import cropped, draw, ticks
from tiny_llm_kit.timeline.run import Run
from tiny_llm_kit.timeline.words import figures

MOST_DRAWN = 3_000
"""Requests of all runs together: a browser stays fluid with these."""

_DATA = Path(__file__).parent / "data"


def as_page(runs: Sequence[Run], title: str = "Timeline") -> str:
    """The page, in HTML. It needs no network, and without JavaScript it is a picture with tooltips."""
    shown = [cropped(run, max(1, MOST_DRAWN // max(1, len(runs)))) for run in runs]
    until = max((run.duration for run in shown), default=0.0)
    legend = [f'<li><svg width="26" height="16" aria-hidden="true">{mark}</svg>{name}</li>' for name, mark in LEGEND.items()]
    legend += [f"<li><b>{sign}</b>{end}</li>" for end, sign in SIGNS.items() if any(_happened(run, end) for run in shown)]
    return Template((_DATA / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=(_DATA / "style.css").read_text(encoding="utf-8") + (_DATA / "page.css").read_text(encoding="utf-8"),
        patterns=PATTERNS,
        legend="".join(legend),
        runs="\n".join(_section(run, until) for run in shown),
        notes="".join(f"<p>{escape(note)}</p>" for run in shown for note in _notes(run)),
        script=(_DATA / "page.js").read_text(encoding="utf-8"),
    )


def _section(run: Run, until: float) -> str:
    drawing, name = draw(run, until), escape(run.name)
    width = ORDINARY_WIDTH * token_zoom(run, until, ORDINARY_WIDTH)
    items = "".join(f"<li>{escape(figure)}</li>" for figure in figures(run))
    note = f'<p class="note">{escape(run.note)}</p>' if run.note else ""
    size = f'data-until="{until or 1.0!r}" data-parts="{ticks(run)}" data-near="{width:.0f}" height="{drawing.height}"'
    return (
        f'<section aria-label="{name}"><h2>{name}</h2><ul class="figures">{items}</ul>{note}<div class="chart">'
        f'<svg class="labels" height="{drawing.height}">{drawing.labels}</svg>'
        f'<div class="scroll"><svg class="marks{" near" if width <= ORDINARY_WIDTH else ""}" {size} role="group"'
        f' aria-label="{name}: requests over time">{drawing.marks}</svg></div></div></section>'
    )


def _happened(run: Run, outcome: str) -> bool:
    if outcome == "preempted":
        return any(stay.preempted for life in run.lives for stay in life.stays)
    return any(life.outcome == outcome for life in run.lives)


def _notes(run: Run) -> list[str]:
    if not run.left_out:
        return []
    return [f"{run.name}: the first {len(run.lives):,} requests are shown; {run.left_out:,} more were left out."]
