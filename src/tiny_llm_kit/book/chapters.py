"""What the course's map requires of a chapter: its day, its tasks, every name that a learner has to write, folded answers."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

from tiny_llm_kit.book.pages import Fault, Page
from tiny_llm_kit.course.course_map import REFERENCE, Day

_FOLDED = re.compile(r"\n\n<details>\n<summary>Answers</summary>\n\n(.*?)\n\n</details>\n", re.DOTALL)


def find_faults(pages: list[Page], day: Day, root: Path) -> list[Fault]:
    """The faults of a chapter, whose pages are taken together: a fault of the whole is reported for the first."""
    text, marked = ("\n".join(parts) for parts in zip(*((page.text, page.marked) for page in pages), strict=True))
    faults = [
        page.fault(0, f"is a page of {day}: see its first line")
        for page in pages
        if not page.text.startswith(f"# Week {day.week} Day {day.number}: ")
    ]
    reasons = [
        *_own_day(text, day),
        *_predictions(text),
        *_tasks(text, day),
        *_selections(text, day),
        *_names(marked, day, root),
    ]
    return faults + [pages[0].fault(0, reason) for reason in reasons]


def _own_day(text: str, day: Day) -> Iterator[str]:
    named = set(re.findall(r"--week (\d+) --day (\d+)", text))
    if named != {(str(day.week), str(day.number))}:
        yield f"shows `pdm run test` for {sorted(named)} in the chapter of {day}"


def _predictions(text: str) -> Iterator[str]:
    """Each question is answered, and the answers are folded away. A chapter of several pages may have some on each."""
    asked: list[int] = []
    for predictions in _sections(text, "Predict before you code"):
        folded = ""
        if match := _FOLDED.search(predictions):
            predictions, folded = predictions[: match.start()], match[1]
        if "<details>" in predictions:
            yield (
                "answers are folded into <details>, the next line is <summary>Answers</summary>, with blank lines before the "
                "first, after the second and around </details>: without these, mdBook shows raw Markdown"
            )
        here, answered = _numbers(predictions), _numbers(folded)
        if answered != here:
            yield f"predictions {here}, but answers {answered} in the <details> that follow"
        asked += here
    if asked != list(range(1, len(asked) + 1)) or not asked:
        yield f"predictions are numbered from 1 on, not {asked}"


def _sections(text: str, heading: str) -> list[str]:
    """What is under each heading of the second level that reads so."""
    return [re.split(r"\n##? ", after)[0] for after in text.split(f"\n## {heading}\n")[1:]]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]


def _tasks(text: str, day: Day) -> Iterator[str]:
    explained = sorted(int(number) for number in re.findall(r"^### Task (\d+): ", text, re.MULTILINE))
    if explained != [task.number for task in day.tasks]:
        yield f"has '### Task N: …' for {explained}, but course.toml has {len(day.tasks)} tasks"


def _selections(text: str, day: Day) -> Iterator[str]:
    """`-k task_2` is how one task's tests are run."""
    selected = re.findall(r"-k (?:\"[^\"]*\"|\S+)", text)
    tasks = {int(number) for selection in selected for number in re.findall(r"task_(\d+)", selection)}
    if not tasks:
        yield "shows no `-k task_N`, so that nobody learns how to run one task"
    if lacking := tasks - {task.number for task in day.tasks}:
        yield f"`-k` for the tasks {sorted(lacking)}, which the day lacks"


def _names(marked: str, day: Day, root: Path) -> Iterator[str]:
    """What a learner has to write must be named on the page, as code or in bold: learners look for it there."""
    package = root / "src" / REFERENCE
    for path in sorted(package.rglob("*.py")):
        for name in answers(path, day):
            if not re.search(rf"\b{re.escape(name)}\b", marked):
                yield f"does not name `{name}`, an answer in {path.relative_to(package).as_posix()}"


def answers(path: Path, day: Day) -> list[str]:
    """The functions and methods of a module that are marked as answers of the day; `__init__` goes by its class."""
    numbers = (str(day.week), str(day.number))
    return [name for name, marked in _marked_in(path.read_text(encoding="utf-8")) if marked == numbers]


@functools.cache
def _marked_in(source: str) -> list[tuple[str, tuple[str, ...]]]:
    """The answers in `source`, each with its week and day. Every chapter asks for those of all modules."""
    found = []
    for scope in ast.walk(ast.parse(source)):
        for node in ast.iter_child_nodes(scope):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = scope.name if node.name == "__init__" and isinstance(scope, ast.ClassDef) else node.name
                found += [(name, _day_of(mark)) for mark in node.decorator_list if _is_mark(mark)]
    return found


def _is_mark(decorator: ast.expr) -> TypeGuard[ast.Call]:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "task"


def _day_of(mark: ast.Call) -> tuple[str, ...]:
    given = {keyword.arg: keyword.value for keyword in mark.keywords}
    numbers = [*mark.args, *(given[name] for name in ("week", "day", "number") if name in given)]
    return tuple(ast.unparse(number) for number in numbers[:2])
