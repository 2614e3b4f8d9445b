"""The answers of a package: which functions belong to which task, where they are, and which of them are still stubs.

It reads source code and runs none, so that a file with a mistake in it hides nothing but itself.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tiny_llm_kit.course.course_map import REFERENCE, Task
from tiny_llm_kit.course.functions import Function, decode, find_functions, split_lines
from tiny_llm_kit.course.kernel_regions import is_stub, split_marked

TaskKey = tuple[int, int, int]
"""Week, day, number."""


@dataclass(frozen=True)
class Answer:
    """A function or method (`name`, with its class), or a `.metal` file. `path` goes from the package's root.

    `given`: it is word for word what the reference has, comments aside.
    """

    path: Path
    name: str
    line: int
    stub: bool
    given: bool = False


@dataclass
class Answers:
    """By task, in the order of files and lines. `broken` says, by path, why a file and its answers cannot be read."""

    by_task: dict[TaskKey, list[Answer]] = field(default_factory=dict)
    broken: dict[Path, str] = field(default_factory=dict)

    def of(self, task: Task) -> list[Answer]:
        return self.by_task.get((task.week, task.day, task.number), [])

    def are_stubs(self, task: Task) -> bool:
        """Whether the task has answers, and none of them is written."""
        return bool(self.of(task)) and all(answer.stub for answer in self.of(task))


def read_answers(root: Path, package: str) -> Answers:
    """The answers in a package of `root/src`."""
    folder, reference = root / "src" / package, root / "src" / REFERENCE
    found = Answers()
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.metal")]):
        short = path.relative_to(folder)
        model = _text_of(reference / short)
        try:
            text = decode(path.read_bytes(), path.relative_to(root))
            read = _read_metal if path.suffix == ".metal" else _read_python
            for key, answer in read(text, short, path.relative_to(root), model, package != REFERENCE):
                found.by_task.setdefault(key, []).append(answer)
        except (ValueError, OSError) as error:
            found.broken[short] = str(error)
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_python(text: str, path: Path, shown: Path, model: str, compare: bool) -> Iterator[tuple[TaskKey, Answer]]:
    marked = [function for function in find_functions(text, shown) if function.task]
    written = compare and any(not function.stub for function in marked)
    bodies = {function.name: _body(function) for function in find_functions(model, shown)} if written else {}
    for function in marked:
        given = not function.stub and bodies.get(function.name) == _body(function)
        if function.task:
            yield function.task, Answer(path, function.name, function.node.lineno, function.stub, given)


def _body(function: Function) -> str:
    return "\n".join(map(ast.dump, function.node.body))


def _read_metal(text: str, path: Path, shown: Path, model: str, compare: bool) -> Iterator[tuple[TaskKey, Answer]]:
    """The marks go with the regions, so the reference says which tasks a file has."""
    lines, marked = split_lines(text), split_marked(model)
    for key, region in zip(marked.tasks, marked.answers, strict=True):
        line = next((number for number, line in enumerate(lines, start=1) if is_stub([line], key)), 0)
        given = compare and not line and "".join(region) in text
        yield key, Answer(path, path.name, line or 1, bool(line), given)
