"""Figures of a run as tables for people. Knows numbers and names, not engines."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

Shown = TypeVar("Shown")

PLAIN_WIDTH = 120

LATENCIES = {
    "queue_time": "queue time",
    "ttft": "time to first token (TTFT)",
    "tpot": "time per output token (TPOT)",
    "latency": "latency",
}


def make_console() -> Console:
    """A console as wide as the terminal; where there is none, wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


class Percentiles(Protocol):
    """The part of an engine's metrics that is shown."""

    def percentiles(self, name: str) -> dict[str, float]: ...


def duration(seconds: float) -> str:
    """Seconds, or milliseconds if there is less than one."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def or_dash(value: Shown | None, form: Callable[[Shown], str]) -> str:
    """A figure in its form; a dash where there is none."""
    return "—" if value is None else form(value)


def minutes(seconds: float) -> str:
    """A length of time to wait: "45 s", "2 min 40 s"; rounded up to 5 seconds."""
    whole = max(5, 5 * math.ceil(seconds / 5))
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def latency_table(metrics: Percentiles) -> Table:
    """p50, p95 and p99 of every latency."""
    table = Table(title="latencies", title_justify="left")
    table.add_column("")
    for percentile in ("p50", "p95", "p99"):
        table.add_column(percentile, justify="right")
    for name, title in LATENCIES.items():
        table.add_row(title, *(duration(value) for value in metrics.percentiles(name).values()))
    return table


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are figures."""
    table = Table(title=Text(title), title_justify="left")  # Text: it may hold a file's name, which is not markup
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as Markdown, to paste into a README.

    rich's `box.MARKDOWN` would neither align the figures to the right nor escape a bar within a cell.
    """
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (columns, *rows)]
    lines.insert(1, ["---", *["---:"] * (len(columns) - 1)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_figures(metrics: Percentiles) -> Mapping[str, dict[str, float]]:
    """All percentiles, in seconds, for a JSON file."""
    return {name: metrics.percentiles(name) for name in LATENCIES}
