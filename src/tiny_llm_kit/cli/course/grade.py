"""`pdm run course grade`: points for what a learner has handed in."""

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.cli.outputs import OutFile, write_text
from tiny_llm_kit.cli.progress import Bar, progress_bar
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.course.course_map import LEARNER, Course, Day, find_root, load_course
from tiny_llm_kit.course.processes import stopped_by_signals

if TYPE_CHECKING:
    from tiny_llm_kit.course.grading.points import DayGrade, Grade
    from tiny_llm_kit.course.grading.runs import Limits

FORMATS = ["text", "json", "gradescope", "github-classroom"]


@click.command()
@click.option("--week", type=int, help="Only this week.")
@click.option("--day", type=int, help="Only this day of that week.")
@click.option(
    "--submission",
    type=click.Path(path_type=Path),
    help=f"The folder with what was handed in: a clone, or the package {LEARNER}. Default: this clone's.",
)
@click.option("--format", "output_format", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--out", type=OutFile(), help="Write there instead of printing.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=50.0, show_default=True, help="Seconds for one test.")
@click.option(
    "--memory", type=click.FloatRange(min=0.1), default=4.0, show_default=True, help="GB for all of a run's processes."
)
def grade(
    week: int | None,
    day: int | None,
    submission: Path | None,
    output_format: str,
    out: Path | None,
    timeout: float,
    memory: float,
) -> None:
    """Grades an answer: points by task.

    \b
    pdm run course grade --submission ~/handed-in/ada --week 2 --day 6
    pdm run course grade --submission ~/handed-in/ada --format json --out ada.json

    Each task is worth 10 points, times the share of its tests that pass. Tests and kit are those of this clone's last commit.
    Only the source files of the submission's answer package are used. A test that hangs, crashes or breaks a limit is lost,
    and the rest is graded. A task gets no points if its tests make the answer import the reference or a module of the
    tests, call the very operator that the task asks for (tests/forbidden.toml lists them), or change what judges it. A task
    whose kernels cannot run for want of a compiler is not graded.

    What this does not see: a copy of the reference (answers that read like it are named, for you to look at), and an answer
    written to deceive, since it runs in the process of its tests, with your rights. Grade strangers' answers in a container
    without a network and without your keys.

    The exit code is 0 if the answer was graded, whatever its points.
    """
    from tiny_llm_kit.course.grading.formats import FORMATS as WRITERS
    from tiny_llm_kit.course.grading.runs import Limits

    try:
        result = _grade(week, day, submission, Limits(seconds=timeout, memory=int(memory * 2**30)))
    except ValueError as error:
        raise BadInput(harmless(str(error))) from None
    except (RuntimeError, OSError) as error:
        raise click.ClickException(harmless(str(error))) from None
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        raise SystemExit(130) from None
    if output_format != "text":
        text = WRITERS[output_format](result)
        write_text(out, text) if out else click.echo(text, nl=False)
    elif out:
        page = io.StringIO()
        _print(result, Console(file=page, width=120))
        write_text(out, page.getvalue())
    else:
        _print(result, Console(file=sys.stdout))


def _grade(week: int | None, day: int | None, submission: Path | None, limits: "Limits") -> "Grade":
    from tiny_llm_kit.course.grading.grade import grade as grade_package
    from tiny_llm_kit.course.grading.submission import find_package

    root = find_root()
    course = load_course(root)
    days = choose_days(course, week, day)
    package = find_package(submission or root / "src" / LEARNER, course)
    with stopped_by_signals(), progress_bar(Console(stderr=True), "collecting the tests") as bar:
        return grade_package(root, package, days, limits, _Shown(bar))


class _Shown:
    """Shows how far a grade is; see `grading.grade.Progress`."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def begin(self, day: Day, done: int, total: int) -> None:
        self.bar.begin(total)
        self.bar.describe(f"tests done before Week {day.week} Day {day.number}")
        self.bar.reach(done)

    def end(self, graded: "DayGrade") -> None:
        self.bar.print(f"{graded.day}: {graded.points:g} of {graded.max_points} points")


def choose_days(course: Course, week: int | None, day: int | None) -> list[Day]:
    """The days to be graded; ValueError, with the table of what there is, for those that are not."""
    if week is None and day is not None:
        raise ValueError(f"day {day} of which week? Give --week, too")
    if week is not None and day is not None:
        return [course.find_ready_day(week, day)]
    days = [found for found in course.ready_days if week in (None, found.week)]
    if not days:
        raise ValueError(f"week {week} has no day that can be graded. The course has:\n\n{course.table()}")
    return days


def _print(grade: "Grade", console: Console) -> None:
    from tiny_llm_kit.course.grading.formats import explain
    from tiny_llm_kit.course.grading.points import POINTS

    table = Table(box=None, pad_edge=False)
    for name, justify in (("task", "left"), ("", "left"), ("tests passed", "right"), ("points", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for task in grade.tasks:
        points = "not graded" if task.points is None else f"{task.points:g} of {POINTS}"
        table.add_row(task.key, harmless(task.task.title), f"{task.passed} of {task.tests}", points)
    console.print(table)
    sections = [(str(task.task), explain(task, 3)) for task in grade.tasks]
    sections += [("For you to look at; it costs no points", grade.notices), ("About this grade", grade.remarks)]
    for title, lines in sections:
        if lines:
            _line(console, f"\n{title}")
        for line in lines:
            _line(console, f"  {line}")
    _line(console, f"\n{grade.points:g} of {grade.max_points} points")


def _line(console: Console, text: str) -> None:
    console.print(harmless(text), markup=False, highlight=False, soft_wrap=True)
