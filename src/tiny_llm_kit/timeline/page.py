"""One self-contained page that shows runs below each other, on one scale of time."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from tiny_llm_kit.timeline.picture import PATTERNS, cropped, draw
from tiny_llm_kit.timeline.run import Run
from tiny_llm_kit.timeline.words import figures

MOST_DRAWN = 3_000
"""Requests of all runs together: a browser stays fluid with these."""

_DATA = Path(__file__).parent / "data"
_LEGEND = {
    "a request": '<g class="slice hue0"><rect class="body" width="26" height="16" rx="3"/></g>',
    "its prompt is read": '<g class="slice hue0"><rect class="body" width="26" height="16" rx="3"/>'
    '<rect class="prefill" width="26" height="16" rx="3"/></g>',
    "first token": '<g class="slice hue0"><rect class="body" width="26" height="16" rx="3"/>'
    '<circle class="first" cx="13" cy="8" r="3"/></g>',
    "idle": '<rect class="lane" width="26" height="16"/>',
    "waits": '<g class="wait"><rect x="1" y="2" width="24" height="12" rx="2"/></g>',
}
_SIGNS = {"×": "cancelled", "!": "failed", "↩": "preempted"}


def as_page(runs: Sequence[Run], title: str = "Timeline") -> str:
    """The page, in HTML. It needs no network, and without JavaScript it is a picture with tooltips."""
    shown = [cropped(run, max(1, MOST_DRAWN // max(1, len(runs)))) for run in runs]
    until = max((run.duration for run in shown), default=0.0)
    signs = {sign for sign, outcome in _SIGNS.items() for run in shown if _happened(run, outcome)}
    legend = [f'<li><svg width="26" height="16" aria-hidden="true">{mark}</svg>{name}</li>' for name, mark in _LEGEND.items()]
    legend += [f"<li><b>{sign}</b>{_SIGNS[sign]}</li>" for sign in _SIGNS if sign in signs]
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
    drawing = draw(run, until)
    items = "".join(f"<li>{escape(figure)}</li>" for figure in figures(run))
    return (
        f'<section aria-label="{escape(run.name)}"><h2>{escape(run.name)}</h2><ul class="figures">{items}</ul><div class="chart">'
        f'<svg class="labels" height="{drawing.height}">{drawing.labels}</svg><div class="scroll">'
        f'<svg class="marks" data-until="{until or 1.0!r}" height="{drawing.height}" role="group"'
        f' aria-label="{escape(run.name)}: requests over time">{drawing.marks}</svg></div></div></section>'
    )


def _happened(run: Run, outcome: str) -> bool:
    if outcome == "preempted":
        return any(stay.preempted for life in run.lives for stay in life.stays)
    return any(life.outcome == outcome for life in run.lives)


def _notes(run: Run) -> list[str]:
    if not run.left_out:
        return []
    return [f"{run.name}: the first {len(run.lives):,} requests are shown; {run.left_out:,} more were left out."]
