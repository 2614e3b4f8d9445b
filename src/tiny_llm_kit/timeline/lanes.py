"""Requests as bars: in the lanes in which they run, and in the queue in which they wait."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from tiny_llm_kit.timeline.paper import HUES, ORDINARY_WIDTH, SIGNS, Paper, number
from tiny_llm_kit.timeline.run import Life, Run, Stay

QUEUE_ROWS, QUEUE_ROW = 6, 15
MOST_WAITS = 120
FEW_LANES = 12
GAP = 12
MOST_CHUNKS = 40
MOST_ROOM = 50
"""Pixels from which on the beginning of a label is worth showing."""
TOKEN_ROOM = 4
"""Pixels between two tokens from which on they are marked."""

Wait = tuple[Life, float, float]


def draw_queue(paper: Paper) -> None:
    """A row for each request that waits at a time; where they are too many, the count below must do."""
    rows = _queue_rows(paper.run, least=paper.until / 150)
    for row, waits in enumerate(rows):
        y = paper.y + row * QUEUE_ROW
        for life, begin, end in waits:
            x, width = paper.percent(begin), paper.percent(end - begin)
            kind = "wait" if life.stays else "wait never"
            text = life.name if life.stays else f"{life.name} {SIGNS.get(life.outcome, '')}"
            paper.marks.append(
                f'<svg class="{kind}" {paper.about(life)} x="{x}" y="{y}" width="{width}"'
                f' height="{QUEUE_ROW - 3}">{paper.title(life)}<rect width="100%" height="100%" rx="2"/>'
                f'<text {paper.needs(_width(text), end - begin)} x="5" y="{QUEUE_ROW - 5.5}">{escape(text)}</text></svg>'
            )
    if rows:
        paper.label(paper.y + len(rows) * QUEUE_ROW / 2 + 2, "queue")
        paper.y += len(rows) * QUEUE_ROW + GAP - 2


def _queue_rows(run: Run, least: float) -> list[list[Wait]]:
    """All that waited, if they are few enough to be told apart; otherwise those who never started."""
    waits = [
        (life, begin, max(run.duration if end is None else end, begin if life.stays else begin + least))
        for life in run.lives
        for begin, end in life.waits
    ]
    waits = sorted((wait for wait in waits if wait[2] > wait[1]), key=lambda wait: wait[1])
    never = [wait for wait in waits if not wait[0].stays]
    return (_packed(waits) if len(waits) <= MOST_WAITS else []) or _packed(never)


def _packed(waits: Sequence[Wait]) -> list[list[Wait]]:
    """Each in the first row that is free; nothing, if there are not rows enough."""
    rows: list[list[Wait]] = []
    for wait in waits:
        row = next((row for row in rows if row[-1][2] <= wait[1]), None)
        if row is not None:
            row.append(wait)
        elif len(rows) < QUEUE_ROWS:
            rows.append([wait])
        else:
            return []
    return rows


def draw_lanes(paper: Paper) -> None:
    """All lanes, and the stays in them. Of many, those at the end that were never used are only mentioned."""
    run, word = paper.run, "lane" if paper.run.slots is None else "slot"
    used = 1 + max((stay.lane for life in run.lives for stay in life.stays), default=0)
    lanes = run.lanes if run.lanes <= FEW_LANES else used
    height, pitch = lane_height(lanes)
    every = 1 if pitch >= 14 else 5 * math.ceil(3 / pitch)
    for lane in range(lanes):
        y = paper.y + lane * pitch
        paper.marks.append(f'<rect class="lane" x="0" y="{y}" width="{paper.percent(run.duration)}" height="{height}"/>')
        if lane % every == 0:
            paper.label(y + max(height, 8) / 2 + 4, f"{word} {lane}")
    for life in run.lives:
        for stay in life.stays:
            paper.marks.append(_slice(paper, life, stay, paper.y + stay.lane * pitch, height))
    paper.y += lanes * pitch + GAP
    if lanes < run.lanes:
        rest = f"{word} {lanes} was" if lanes + 1 == run.lanes else f"{word}s {lanes} to {run.lanes - 1} were"
        paper.marks.append(f'<text class="small" x="0" y="{paper.y}">{rest} never used</text>')
        paper.y += GAP


def lane_height(lanes: int) -> tuple[int, int]:
    """How high a lane is, and how far apart the tops of two are, in pixels."""
    return (26, 30) if lanes <= FEW_LANES else (14, 16) if lanes <= 40 else (6, 7) if lanes <= 200 else (2, 2)


def token_zoom(run: Run, until: float, width: int) -> float:
    """How often an axis of `width` pixels must be magnified before tokens are far enough apart to be marked."""
    tokens = sum(len(life.tokens) for life in run.lives)
    return TOKEN_ROOM * tokens * until / (run.held * width) if tokens and run.held else 1.0


def _slice(paper: Paper, life: Life, stay: Stay, y: int, height: int) -> str:
    """A request in its lane: its prompt's chunks are hatched, its first token is marked at the top, its end has a sign."""
    end = paper.run.duration if stay.end is None else stay.end
    length = max(end - stay.begin, paper.until / 4000)
    outcome = "preempted" if stay.preempted else life.outcome if stay is life.stays[-1] else ""
    sign = SIGNS.get(outcome, "")
    thin = " thin" if height <= 8 or length / paper.until * ORDINARY_WIDTH < 4 else ""

    def inside(time: float) -> str:
        return f"{number(min(100.0, max(0.0, 100 * (time - stay.begin) / length)))}%"

    parts = ['<rect class="body" width="100%" height="100%" rx="3"/>']
    for begin, done in _chunks(stay, end):
        parts.append(
            f'<rect class="prefill" x="{inside(begin)}" width="{inside(stay.begin + done - begin)}" height="100%" rx="3"/>'
        )
    if height > 8:
        parts.append(_token_marks(life, stay, end))
        if life.first_token is not None and stay.begin <= life.first_token <= end:
            parts.append(
                f'<svg x="{inside(life.first_token)}" overflow="visible"><path class="first" {paper.needs(8, length)}'
                ' d="M-5 0h10l-5 7z"/></svg>'
            )
        text = f'y="{height / 2 + 4.5:g}"'
        room = _width(life.name) + (14 if sign else 0)
        parts.append(f'<text {paper.needs(room, length)} x="7" {text}>{escape(life.name)}</text>')
        if sign:
            parts.append(f'<text class="sign" {paper.needs(14, length)} x="100%" dx="-4" {text}>{sign}</text>')
    return (
        f'<svg class="slice hue{life.number % HUES} {outcome}{thin}" {paper.about(life)}'
        f' data-arrived="{number(100 * life.arrived / paper.until)}" x="{paper.percent(stay.begin)}" y="{y}"'
        f' width="{paper.percent(length)}" height="{height}">{paper.title(life)}{"".join(parts)}</svg>'
    )


def _chunks(stay: Stay, end: float) -> Iterator[tuple[float, float]]:
    """From when until when a prompt was computed: each chunk by itself, while there are not too many to be seen."""
    spans = [(max(chunk.begin, stay.begin), min(chunk.end, end)) for chunk in stay.chunks]
    spans = [(begin, done) for begin, done in spans if done > begin]
    return iter(spans if len(spans) <= MOST_CHUNKS else [(spans[0][0], spans[-1][1])])


def _token_marks(life: Life, stay: Stay, end: float) -> str:
    """A fine line where each token came back."""
    times = [time for time in life.tokens if stay.begin < time < end]
    if not times:
        return ""
    lines = "".join(f"M{1000 * (time - stay.begin) / (end - stay.begin):.1f} 0V1" for time in times)
    box = 'width="100%" height="100%" viewBox="0 0 1000 1" preserveAspectRatio="none"'
    return f'<svg class="tokens" {box}><path d="{lines}"/></svg>'


def _width(text: str) -> float:
    """About how many pixels a label needs, with what is around it."""
    return min(8 * len(text) + 9, MOST_ROOM)
