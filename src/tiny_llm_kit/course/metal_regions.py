"""Takes the answer out of a `.metal` file, or puts another in: what is between `// @task(week=2, …)` and `// @end`.

It reads marks, and knows nothing of the language between them.
"""

import re
from pathlib import Path

from metal_anywhere.source import stub_line
from tiny_llm_kit.course.course_map import Course, Task

_MARK = re.compile(r"//\s*@(task|end)\b")
BEGIN = re.compile(r"(?P<indent>[ \t]*)// @task\(week=(\d+), day=(\d+), number=(\d+)\)\s*")
END = re.compile(r"[ \t]*// @end\s*")


def stub_message(task: Task, course: Course) -> str:
    """What a stub says: the task that is not done, and the chapter to read."""
    return f"{task}. Read {course.find_day(task.week, task.day).chapter}"


def remove_regions(source: str, path: Path, course: Course) -> tuple[str, set[Task]]:
    """`source` with one line, an `#error`, in place of each marked region, and the tasks that it marks.

    ValueError names `path` and the line of a mark that `course` does not know, that is not written as above and alone
    on its line, or that has no other half.
    """
    lines: list[str] = []
    tasks: set[Task] = set()
    opened = 0  # the number of the line that began the region we are in
    for number, line in enumerate(source.splitlines(keepends=True), start=1):
        try:
            if begin := BEGIN.fullmatch(line):
                if opened:
                    raise ValueError(f"@task inside of the region that begins in line {opened}: write // @end before it")
                task = course.find_task(*map(int, begin.groups()[1:]))
                tasks.add(task)
                lines.append(f"{begin['indent']}{stub_line(stub_message(task, course))}\n")
                opened = number
            elif END.fullmatch(line):
                if not opened:
                    raise ValueError("@end without a @task before it")
                opened = 0
            elif _MARK.search(line):
                raise ValueError("marks are `// @task(week=1, day=1, number=1)` and `// @end`, each alone on its line")
            elif not opened:
                lines.append(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    if opened:
        raise ValueError(f"{path}:{opened}: @task without an @end after it")
    return "".join(lines), tasks


def lay_region_over(source: str, other: str) -> str:
    """`source` with the lines of its one marked region replaced by `other`; ValueError if it has none, or several."""
    lines = source.splitlines(keepends=True)
    begins, ends = ([at for at, line in enumerate(lines) if mark.fullmatch(line)] for mark in (BEGIN, END))
    if not (len(begins) == len(ends) == 1):
        raise ValueError(f"it has {len(begins)} marked regions, not one")
    return "".join([*lines[: begins[0] + 1], other, *lines[ends[0] :]])
