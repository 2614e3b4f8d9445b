"""The tests of a day as they run: a bar per task in a terminal, elsewhere a line when a task is over."""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tiny_llm_kit.cli.course.paper import Paper
from tiny_llm_kit.cli.progress import Heartbeat
from tiny_llm_kit.course.course_map import Day, task_number
from tiny_llm_kit.course.guided_run import Ended, Run


class TaskBars:
    """Listens to a run. Within the block the bars move."""

    def __init__(self, paper: Paper, day: Day, quiet: bool = False) -> None:
        self.paper, self.day = paper, day
        self.left: Counter[int] = Counter()
        self.bars: dict[int, TaskID] = {}
        self.current, self.since = "", time.monotonic()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            TextColumn("{task.fields[told]}", markup=False),
        )
        self.progress = Progress(
            *columns, console=paper.console, transient=True, disable=quiet or not paper.is_terminal, refresh_per_second=5
        )
        self.heartbeat = Heartbeat(paper.console, self._status, silence=10.0)
        self.quiet = quiet

    def __enter__(self) -> Self:
        self.progress.__enter__()
        if not self.quiet:
            self.heartbeat.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.quiet:
            self.heartbeat.__exit__()
        self.progress.__exit__(kind, error, trace)

    def collected(self, tests: Sequence[str]) -> None:
        counts = Counter(map(task_number, tests))
        self.left = Counter(counts)
        self.failed: Counter[int] = Counter()
        for number in sorted(counts, key=lambda number: (number == 0, self._place(number))):
            name = self.paper.plain(task_name(self.day, number))
            self.bars[number] = self.progress.add_task(name, total=counts[number], told=f"{counts[number]} tests")

    def began(self, test: str) -> None:
        self.current, self.since = test, time.monotonic()

    def ended(self, result: Ended) -> None:
        number = task_number(result.test)
        self.left[number] -= 1
        self.failed[number] += result.failure is not None
        if number in self.bars:
            failed = f", {self.failed[number]} failed" if self.failed[number] else ""
            self.progress.update(self.bars[number], advance=1, told=f"{self.left[number]} left{failed}")

    def _place(self, number: int) -> int:
        return self.day.order.index(number) if number in self.day.order else len(self.day.order)

    def _status(self) -> str:
        if not self.current:
            return "loading your package and the tests"
        name, seconds = self.current.rpartition("::")[2], time.monotonic() - self.since
        return self.paper.plain(f"{sum(self.left.values())} tests left; the last one to begin, {seconds:.0f} s ago: {name}")


def task_name(day: Day, number: int, most: int = 26) -> str:
    """Its number and the beginning of its title."""
    if not number:
        return "other tests"
    title = day.tasks[number - 1].title
    return f"task {number}  {title if len(title) <= most else title[: most - 1] + '…'}"


def result_table(paper: Paper, day: Day, run: Run) -> Table:
    """A row per task: how many of its tests pass."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for options in ({"no_wrap": True}, {}, {"no_wrap": True}, {"no_wrap": True}):
        table.add_column(**options)  # type: ignore[arg-type]
    for number in (*day.order, 0):
        tests = [test for test in run.tests if task_number(test) == number]
        if not tests:
            continue
        results = [run.results[test] for test in tests if test in run.results]
        passed = sum(result.outcome == "passed" for result in results)
        skipped = sum(result.outcome == "skipped" for result in results)
        failed = sum(result.failure is not None for result in results)
        mark, style = ("✗", "red") if failed or len(results) < len(tests) else ("✓", "green")
        title = task_name(day, number, 60)
        told = f"{passed} of {len(tests)} pass{f', {skipped} skipped' if skipped else ''}"
        bar = ProgressBar(len(tests), passed, width=12)
        table.add_row(Text(paper.plain(mark), style), Text(paper.plain(title)), bar, Text(told))
    return table
