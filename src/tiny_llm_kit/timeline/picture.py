"""A run as a drawing: its queue, its lanes, what its steps held, and the axis of time below."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tiny_llm_kit.timeline.lanes import GAP, draw_lanes, draw_queue
from tiny_llm_kit.timeline.paper import Paper
from tiny_llm_kit.timeline.run import Run, Sample

COUNTER = 42
AXIS = 26
TICKS = 12
MOST_POINTS = 800


@dataclass(frozen=True)
class Drawing:
    """What is on the axis of time, its labels at the left of it, and how high both are."""

    marks: str
    labels: str
    height: int


def draw(run: Run, until: float, counters: bool = True) -> Drawing:
    """The drawing of a run, on an axis that ends at `until`."""
    paper = Paper(run, until)
    draw_queue(paper)
    draw_lanes(paper)
    for place, counter in enumerate(_counters(run) if counters else ()):
        _draw_counter(paper, place, counter)
    _draw_axis(paper)
    return Drawing("".join(paper.marks), "".join(paper.labels), paper.y)


def cropped(run: Run, most: int) -> Run:
    """The run with its first `most` requests, until the last of them ended; the others are left out."""
    if len(run.lives) <= most:
        return run
    lives = run.lives[:most]
    until = max(run.duration if life.ended is None else life.ended for life in lives)
    samples = [sample for sample in run.samples if sample.time <= until]
    return replace(run, lives=lives, samples=samples, duration=until, left_out=run.left_out + len(run.lives) - most)


@dataclass(frozen=True)
class _Counter:
    """A count over time. `full` is the top of its scale: what there is of it; None: the most that there was."""

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


def _draw_counter(paper: Paper, place: int, counter: _Counter) -> None:
    """A count as steps. The scale of its height is its own, and its greatest value is written at the left."""
    most = max((value for _, value in counter.values), default=0)
    full, height = counter.full or most or 1, COUNTER - GAP
    last = min(1000.0, 1000 * paper.run.duration / paper.until)
    points = [
        (min(last, 1000 * time / paper.until), height - (height - 3) * min(value / full, 1)) for time, value in counter.values
    ]
    begin = points[0][0] if points else 0
    path = f"M{begin:.2f} {height}{''.join(f'H{x:.2f}V{y:.2f}' for x, y in points)}H{last:.2f}"
    paper.marks.append(
        f'<svg class="counter" data-place="{place}" data-full="{full}" y="{paper.y}" width="100%" height="{height}"'
        f' viewBox="0 0 1000 {height}" preserveAspectRatio="none"><title>{counter.name}: at most {most:,}</title>'
        f'<path class="area" d="{path}V{height}Z"/><path class="line" d="{path}"/></svg>'
    )
    paper.label(paper.y + 12, counter.name)
    paper.label(paper.y + 26, f"max {most:,}", "small")
    paper.y += COUNTER


def _draw_axis(paper: Paper) -> None:
    """Below, with lines behind all else."""
    step = nice_step(paper.until, ticks(paper.run))
    top, paper.y = paper.y - 4, paper.y + AXIS
    marks = [f'<line class="axis" x1="0" x2="100%" y1="{top}" y2="{top}"/>']
    for i in range(int(paper.until / step * (1 + 1e-9)) + 1):
        x, anchor = paper.percent(i * step), "start" if i == 0 else "end" if i * step > 0.97 * paper.until else "middle"
        marks.append(
            f'<g class="tick"><line class="grid" x1="{x}" x2="{x}" y1="0" y2="{top}"/>'
            f'<line x1="{x}" x2="{x}" y1="{top}" y2="{top + 4}"/>'
            f'<text x="{x}" y="{top + 17}" text-anchor="{anchor}">{i * step:g}</text></g>'
        )
    paper.marks[:0] = marks
    paper.label(top + 17, "time (s)" if paper.run.unit == "s" else f"{paper.run.unit}s", "small")


def ticks(run: Run) -> int:
    """How many the axis of a run has at most. Steps are counted, so each of a few has its own."""
    return TICKS if run.unit == "s" else 2 * TICKS


def nice_step(length: float, parts: int) -> float:
    """The smallest of …, 0.1, 0.2, 0.5, 1, 2, 5, … that divides a length into at most this many parts."""
    power = 10.0 ** math.floor(math.log10(length / parts))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= length / parts * (1 - 1e-9))
