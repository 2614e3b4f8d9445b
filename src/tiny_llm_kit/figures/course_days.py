"""The map of the course, drawn from course.toml: a column per week, a box per day, an arrow to each day that builds on it."""

import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tiny_llm_kit.course.course_map import Course, Day, load_course
from tiny_llm_kit.figures.style import HUES, INK, MUTED, canvas

TITLE = (
    "The days of the course in three columns, one per week. Arrows lead from each day to those that build on it."
    " Week 1 goes from attention to sampling; week 2 from the KV cache to continuous batching and measuring;"
    " week 3 from the paged KV cache to a server and its replicas."
)
WIDTH, HEIGHT = 2.0, 0.66
"""The size of a box, where columns are 2.6 apart and days 1."""
COLUMN = 2.6
LETTERS = 24
"""How many letters of a title fit into a line of a box."""


def draw(root: Path) -> Figure:
    """Arrows within a week run along the left side of its column if they pass over a day."""
    course = load_course(root)
    figure = canvas(6.4)
    axes = figure.subplots()
    for week in course.weeks:
        left = COLUMN * (week.number - 1)
        axes.text(left, -0.72, f"Week {week.number}: {week.title}", weight="bold", va="center", fontsize=9.5)
        for day in week.days:
            _draw_day(axes, day)
    for day in course.days:
        for number in day.needs:
            _draw_arrow(axes, course.find_day(*number), day)
    axes.set(xlim=(-0.3, COLUMN * (len(course.weeks) - 1) + WIDTH + 0.05), ylim=(_lowest(course), -1.0))
    axes.set_axis_off()
    return figure


def _lowest(course: Course) -> float:
    return max(len(week.days) for week in course.weeks) - 0.4


def _place(day: Day) -> tuple[float, float]:
    """The middle of the left side of a day's box."""
    return COLUMN * (day.week - 1), day.number - 1.0


def _draw_day(axes: Axes, day: Day) -> None:
    left, middle = _place(day)
    box = (left, middle - HEIGHT / 2)
    hue = HUES[day.week - 1]
    rounded = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(box, WIDTH, HEIGHT, boxstyle=rounded, facecolor=hue, alpha=0.14, linewidth=0))
    axes.add_patch(FancyBboxPatch(box, WIDTH, HEIGHT, boxstyle=rounded, fill=False, edgecolor=hue))
    axes.text(left + 0.14, middle, str(day.number), va="center", ha="center", color=hue, weight="bold", fontsize=11)
    title = "\n".join(textwrap.wrap(day.title, LETTERS))
    axes.text(left + 0.3, middle, title, va="center", color=INK, fontsize=8.0, linespacing=1.1)


def _draw_arrow(axes: Axes, earlier: Day, later: Day) -> None:
    (left, start), (other_left, end) = _place(earlier), _place(later)
    if earlier.week != later.week:
        _connect(axes, (left + WIDTH, start), (other_left, end), HUES[earlier.week - 1], "arc3")
    elif later.number == earlier.number + 1:
        _connect(axes, (left + WIDTH / 2, start + HEIGHT / 2), (left + WIDTH / 2, end - HEIGHT / 2), MUTED, "arc3")
    else:
        bend = 0.1 + 0.04 * (later.number - earlier.number)
        _connect(axes, (left, start + 0.1), (left, end - 0.1), MUTED, f"arc3,rad={bend}")


def _connect(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, style: str) -> None:
    arrow = FancyArrowPatch(start, end, connectionstyle=style, arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0)
    arrow.set(color=color, linewidth=1.2)
    axes.add_patch(arrow)
