"""A run as a drawing: its queue, its lanes, what its steps held, and the axis of time below.

All that lies on the axis of time is placed in per cent of its width. So the drawing fills whatever width it is given without
being stretched, and the page's script zooms by changing that width alone. Looks are the style sheet's business.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from tiny_llm_kit.timeline.run import Life, Run, Sample, Stay
from tiny_llm_kit.timeline.words import describe

QUEUE_ROWS, QUEUE_ROW = 6, 15
COUNTER = 42
AXIS = 26
GAP = 12
HUES = 6
MOST_POINTS = 800
SIGNS = {"cancelled": "×", "failed": "!", "preempted": "↩"}
"""At the right end of a slice, so that colour is not the only sign."""


PATTERNS = (
    '<pattern id="idle" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="7" height="7" style="fill:var(--idle)"/><rect width="1.5" height="7" style="fill:var(--idle-line)"/></pattern>'
    '<pattern id="prefill" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">'
    '<rect width="6" height="6" fill="#000" fill-opacity=".22"/><rect width="2" height="6" fill="#fff" fill-opacity=".55"/></pattern>'
)
"""What hatched areas are filled with."""


@dataclass(frozen=True)
class Drawing:
    """What stands on the axis of time, its labels, which stand at the left of it, and how high both are."""

    marks: str
    labels: str
    height: int


class _Paper:
    """Marks and labels, from the top down."""

    def __init__(self, run: Run, until: float) -> None:
        self.run = run
        self.until = until or 1.0
        self.y = 0
        self.marks: list[str] = []
        self.labels: list[str] = []

    def x(self, time: float) -> str:
        """A time, or a length of time, as a per cent of the width."""
        return f"{100 * time / self.until:.4f}".rstrip("0").rstrip(".") + "%"

    def label(self, y: float, text: str, kind: str = "") -> None:
        self.labels.append(f'<text class="label {kind}" x="100%" dx="-10" y="{y:g}">{escape(text)}</text>')


def draw(run: Run, until: float, ticks: int = 10) -> Drawing:
    """The drawing of a run, on an axis that ends at `until`."""
    paper = _Paper(run, until)
    _draw_queue(paper)
    _draw_lanes(paper)
    for place, counter in enumerate(_counters(run)):
        _draw_counter(paper, place, counter)
    _draw_axis(paper, ticks)
    return Drawing("".join(paper.marks), "".join(paper.labels), paper.y)


def lane_height(lanes: int) -> tuple[int, int]:
    """How high a lane is, and how far apart the tops of two are."""
    return (26, 30) if lanes <= 12 else (14, 16) if lanes <= 40 else (6, 7) if lanes <= 200 else (2, 2)


def nice_step(length: float, parts: int) -> float:
    """The smallest of 1, 2, 5, 10, … that divides a length into at most so many parts."""
    least = length / parts
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _draw_queue(paper: _Paper) -> None:
    rows = _queue_rows(paper.run)
    for row, waiting in enumerate(rows):
        y = paper.y + row * QUEUE_ROW
        for life, begin, end in waiting:
            never = "" if life.stays else " never"
            text = f"{life.name} {SIGNS.get(life.outcome, '')}" if never else life.name
            paper.marks.append(
                f'<svg class="wait{never}" {_identity(life)} x="{paper.x(begin)}" y="{y}" width="{paper.x(end - begin)}"'
                f' height="{QUEUE_ROW - 3}">{_title(life, paper.run)}<rect width="100%" height="100%" rx="2"/>'
                f'<text x="5" y="{QUEUE_ROW - 6}">{escape(text)}</text></svg>'
            )
    if rows:
        paper.label(paper.y + len(rows) * QUEUE_ROW / 2 + 2, "queue")
        paper.y += len(rows) * QUEUE_ROW + GAP - 2


def _queue_rows(run: Run) -> list[list[tuple[Life, float, float]]]:
    """Who waited, in as many rows as wait at a time; where these are too many, only those who never started, if they fit."""
    waits = [
        (life, begin, run.duration if end is None else end)
        for life in run.lives
        for begin, end in life.waits
        if (run.duration if end is None else end) > begin
    ]
    waits.sort(key=lambda wait: wait[1])
    for chosen in (waits, [wait for wait in waits if not wait[0].stays]):
        rows: list[list[tuple[Life, float, float]]] = []
        for wait in chosen:
            row = next((row for row in rows if row[-1][2] <= wait[1]), None)
            if row is None:
                rows.append([wait])
            else:
                row.append(wait)
            if len(rows) > QUEUE_ROWS:
                break
        else:
            return rows
    return rows[:QUEUE_ROWS]


def _draw_lanes(paper: _Paper) -> None:
    height, pitch = lane_height(paper.run.lanes)
    word = "lane" if paper.run.slots is None else "slot"
    every = 1 if pitch >= 14 else math.ceil(14 / pitch / 5) * 5
    for lane in range(paper.run.lanes):
        y = paper.y + lane * pitch
        width = paper.x(min(paper.run.duration, paper.until))
        paper.marks.append(f'<rect class="lane" x="0" y="{y}" width="{width}" height="{height}"/>')
        if lane % every == 0:
            paper.label(y + max(height, 8) / 2 + 4, f"{word} {lane}")
    for life in paper.run.lives:
        for stay in life.stays:
            paper.marks.append(_slice(paper, life, stay, paper.y + stay.lane * pitch, height))
    paper.y += paper.run.lanes * pitch + GAP


def _slice(paper: _Paper, life: Life, stay: Stay, y: int, height: int) -> str:
    """A request in its lane: its prompt's chunks are hatched, its first token is a dot, its end a sign."""
    end = paper.run.duration if stay.end is None else stay.end
    length = max(end - stay.begin, paper.until / 5000)
    outcome = "preempted" if stay.preempted else life.outcome if stay is life.stays[-1] else ""
    parts = ['<rect class="body" width="100%" height="100%" rx="3"/>']

    def inside(time: float) -> float:
        return min(100.0, max(0.0, 100 * (time - stay.begin) / length))

    for begin, done in _joined((chunk.begin, chunk.end) for chunk in stay.chunks):
        x, width = inside(begin), inside(done) - inside(begin)
        if width > 0:
            parts.append(f'<rect class="prefill" x="{x:.4g}%" width="{width:.4g}%" height="100%" rx="3"/>')
    if height > 8:
        parts.append(_token_marks(life, stay, end, paper.until))
        if life.first_token is not None and stay.begin <= life.first_token <= end:
            parts.append(f'<circle class="first" cx="{inside(life.first_token):.4g}%" cy="50%" r="3.5"/>')
        parts.append(f'<text x="7" y="{height / 2 + 4.5:g}">{escape(life.name)}</text>')
        if sign := SIGNS.get(outcome):
            parts.append(f'<text class="sign" x="100%" dx="-5" y="{height / 2 + 4.5:g}">{sign}</text>')
    return (
        f'<svg class="slice hue{life.number % HUES} {outcome}" {_identity(life)} data-arrived="{100 * life.arrived / paper.until:.4g}"'
        f' x="{paper.x(stay.begin)}" y="{y}" width="{paper.x(length)}" height="{height}">{_title(life, paper.run)}'
        f"{''.join(parts)}</svg>"
    )


def _token_marks(life: Life, stay: Stay, end: float, until: float) -> str:
    """A fine line where each token came back, unless they are too close to be told apart."""
    times = [time for time in life.tokens if stay.begin < time < end]
    if not times or (end - stay.begin) / len(times) < until / 400:
        return ""
    lines = "".join(f"M{1000 * (time - stay.begin) / (end - stay.begin):.1f} 0V1" for time in times)
    box = 'width="100%" height="100%" viewBox="0 0 1000 1" preserveAspectRatio="none"'
    return f'<svg class="tokens" {box}><path d="{lines}"/></svg>'


def _joined(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Chunks that follow each other at once are kept apart while they are few: more could not be seen."""
    kept = list(spans)
    if len(kept) <= 40:
        yield from kept
    elif kept:
        yield kept[0][0], kept[-1][1]


def _identity(life: Life) -> str:
    return f'role="img" tabindex="-1" data-request="{life.number}"'


def _title(life: Life, run: Run) -> str:
    return f"<title>{escape(chr(10).join(describe(life, run.unit)))}</title>"


@dataclass(frozen=True)
class _Counter:
    """A count over time. `full` is the top of its scale: what there is of it, or the most there was."""

    name: str
    values: Sequence[tuple[float, int]]
    full: int | None = None


def _counters(run: Run) -> Iterator[_Counter]:
    samples = _few(run.samples)
    yield _Counter("waiting", [(sample.time, sample.queue) for sample in samples])
    if any(sample.blocks is not None for sample in samples):
        yield _Counter("blocks held", [(sample.time, sample.blocks or 0) for sample in samples])
    else:
        yield _Counter("slots in use" if run.slots else "running", [(s.time, s.active) for s in samples], run.slots)
    yield _Counter("KV tokens", [(sample.time, sample.kv_tokens) for sample in samples])


def _few(samples: Sequence[Sample]) -> Sequence[Sample]:
    """As many as can be seen; the largest count stands for its neighbours."""
    while len(samples) > MOST_POINTS:
        pairs = zip(samples[::2], [*samples[1::2], samples[-1]], strict=False)
        samples = [first.merged(second) for first, second in pairs]
    return samples


def _draw_counter(paper: _Paper, place: int, counter: _Counter) -> None:
    most = max((value for _, value in counter.values), default=0)
    full, height = counter.full or most or 1, COUNTER - GAP
    points = [
        (1000 * min(time / paper.until, 1.0), height - (height - 3) * value / full) for time, value in counter.values
    ]
    steps = "".join(f"H{x:.2f}V{y:.2f}" for x, y in points)
    last = 1000 * min(paper.run.duration, paper.until) / paper.until
    path = f"M{points[0][0] if points else 0:.2f} {height}{steps}H{last:.2f}"
    paper.marks.append(
        f'<svg class="counter" data-place="{place}" data-full="{full}" y="{paper.y}" width="100%" height="{height}"'
        f' viewBox="0 0 1000 {height}" preserveAspectRatio="none"><title>{counter.name}: at most {most:,}</title>'
        f'<path class="area" d="{path}V{height}Z"/><path class="line" d="{path}"/></svg>'
    )
    paper.label(paper.y + 12, counter.name)
    paper.label(paper.y + 26, f"max {most:,}", "small")
    paper.y += COUNTER


def _draw_axis(paper: _Paper, ticks: int) -> None:
    step = nice_step(paper.until, ticks if paper.run.unit == "s" else 2 * ticks)
    top, paper.y = paper.y - 4, paper.y + AXIS
    marks = [f'<line class="axis" x1="0" x2="100%" y1="{top}" y2="{top}"/>']
    for i in range(int(paper.until / step * (1 + 1e-9)) + 1):
        x, anchor = paper.x(i * step), "start" if i == 0 else "end" if i * step > 0.97 * paper.until else "middle"
        marks.append(
            f'<g class="tick"><line class="grid" x1="{x}" x2="{x}" y1="0" y2="{top}"/>'
            f'<line x1="{x}" x2="{x}" y1="{top}" y2="{top + 4}"/>'
            f'<text x="{x}" y="{top + 17}" text-anchor="{anchor}">{i * step:g}</text></g>'
        )
    paper.marks[:0] = marks  # below all else
    paper.label(top + 17, "time (s)" if paper.run.unit == "s" else f"{paper.run.unit}s", "small")


def cropped(run: Run, most: int) -> Run:
    """The run with its first `most` requests, until the last of them ended; the others are left out."""
    if len(run.lives) <= most:
        return run
    lives = run.lives[:most]
    until = max(life.ended if life.ended is not None else run.duration for life in lives)
    samples = [sample for sample in run.samples if sample.time <= until]
    return replace(run, lives=lives, samples=samples, duration=until, left_out=run.left_out + len(run.lives) - most)
