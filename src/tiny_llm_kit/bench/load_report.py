"""What `bench-load` shows: a table over the rates, up to which rate each schedule keeps the SLO, a chart."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tiny_llm_kit.bench.load_test import Point, highest_rate
from tiny_llm_kit.bench.serving import SIMULATED
from tiny_llm_kit.cli.tables import duration

LOAD_COLUMNS = ["schedule", "load", "tokens/s", "answers/s", "goodput/s", "SLO kept", "in step", "late", "others"]
LATENCY_COLUMNS = ["schedule", "load", "queue p95", "TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95"]
RATE_COLUMNS = ["schedule", "SLO kept up to", "times static's"]
NOTE = (
    "Load: requests per second that are offered, or clients. Goodput: answers within the SLO. In step: how long the generator,"
    " which shares the engine's thread, let requests wait for the end of the step in which they came (p95; it counts as their"
    " waiting time). Late: what came on top of that (the most)."
)


def load_rows(points: Sequence[Point]) -> list[list[str]]:
    """What was offered, and what was served."""
    return [_load_row(point) for point in points]


def _load_row(point: Point) -> list[str]:
    summary, late = point.summary, point.lateness
    others = "—" if point.others is None else f"{point.others:.0%}{' !' if point.noisy else ''}"
    return [
        point.schedule,
        _load(point),
        f"{summary.tokens_per_second:.0f}",
        f"{summary.requests_per_second:.2f}",
        f"{summary.goodput:.2f}",
        f"{point.kept:.0%}",
        "—" if late is None else duration(late.within_p95),
        "—" if late is None else duration(late.beyond_most),
        others,
    ]


def latency_rows(points: Sequence[Point]) -> list[list[str]]:
    """How long users had to wait."""
    return [_latency_row(point) for point in points]


def _latency_row(point: Point) -> list[str]:
    queue, ttft, tpot = point.summary.queue_time, point.summary.ttft, point.summary.tpot
    return [point.schedule, _load(point), *map(duration, (queue.p95, ttft.p50, ttft.p95, tpot.p50, tpot.p95))]


def _load(point: Point) -> str:
    return f"{point.clients} clients" if point.rate is None else f"{point.rate:.2f}/s"


def schedules(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.schedule for point in points))


def open_points(points: Sequence[Point], schedule: str) -> list[Point]:
    """The points of a schedule, by rate, without those of closed loops."""
    found = [point for point in points if point.schedule == schedule and point.rate is not None]
    return sorted(found, key=lambda point: point.rate or 0.0)


def highest_rates(points: Sequence[Point]) -> dict[str, dict[str, Any]]:
    """Up to which rate each schedule keeps the SLO (None: at no rate), and whether a higher one broke it."""
    found = {}
    for schedule in schedules(points):
        own = open_points(points, schedule)
        kept = highest_rate(own)
        if own:
            found[schedule] = {"rate": kept, "least": own[0].rate, "broken": kept != own[-1].rate}
    return found


def rate_rows(rates: dict[str, dict[str, Any]]) -> list[list[str]]:
    return [[schedule, _shown(found), _of_static(rates, schedule)] for schedule, found in rates.items()]


def _shown(found: dict[str, Any]) -> str:
    if found["rate"] is None:
        return f"below {found['least']:.2f}/s"
    return f"{found['rate']:.2f}/s" if found["broken"] else f"{found['rate']:.2f}/s or more"


def _of_static(rates: dict[str, dict[str, Any]], schedule: str) -> str:
    baseline = rates.get("static" + (SIMULATED if schedule.endswith(SIMULATED) else ""))
    own = rates[schedule]["rate"]
    if baseline is None or own is None:
        return "—"
    if baseline["rate"] is None:
        return f"more than {own / baseline['least']:.1f}"
    return f"{own / baseline['rate']:.1f}"


def draw(points: Sequence[Point], slo: Any, path: Path, title: str) -> None:
    """Goodput, throughput, and p95 of TTFT and TPOT over the offered rate; simulations are dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures: list[tuple[str, Callable[[Point], float], float | None]] = [
        ("goodput, answers per second within the SLO", lambda point: point.summary.goodput, None),
        ("throughput, tokens per second", lambda point: point.summary.tokens_per_second, None),
        ("TTFT p95, s", lambda point: point.summary.ttft.p95, slo.ttft),
        ("TPOT p95, s", lambda point: point.summary.tpot.p95, slo.tpot),
    ]
    figure, grid = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    colours: dict[str, str] = {}
    for axes, (name, value, limit) in zip(grid.flat, figures, strict=True):
        for schedule in schedules(points):
            served = schedule.removesuffix(SIMULATED)
            colour = colours.setdefault(served, f"C{len(colours)}")
            own = open_points(points, schedule)
            style, marker = ("-", "o") if served == schedule else ("--", "x")
            axes.plot(
                [p.rate for p in own], list(map(value, own)), marker=marker, linestyle=style, color=colour, label=schedule
            )
        if limit is not None:
            axes.axhline(limit, linestyle=":", color="gray", label="SLO")
        axes.set_xlabel("requests per second")
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    grid[0, 0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
