"""Which functions answer which task, from the marks in the reference, without importing it."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.course_map import LEARNER
from tiny_llm_kit.course.functions import Function, find_functions
from tiny_llm_kit.course.kernel_regions import split_marked

_LARGEST = 1 << 20
"""Bytes of a file that people write. Python needs gigabytes to read some that are larger."""


@dataclass(frozen=True)
class Answer:
    """A function that is marked, its task ("1.1.1"), and its file within the package."""

    task: str
    file: str
    function: Function

    @property
    def place(self) -> str:
        """As "tiny_llm.attention:softmax"."""
        return f"{LEARNER}.{self.file.removesuffix('.py').replace('/', '.')}:{self.function.name}"


def find_answers(package: Path) -> list[Answer]:
    """All marked functions of a package."""
    return [
        Answer(_key(function.task), str(file.relative_to(package)), function)
        for file in sorted(package.rglob("*.py"))
        for function in find_functions(file.read_text(encoding="utf-8"), file)
        if function.task
    ]


def find_tasks_of_files(package: Path) -> dict[str, set[str]]:
    """The tasks that each file of the package holds answers to, kernels included."""
    tasks: dict[str, set[str]] = defaultdict(set)
    for answer in find_answers(package):
        tasks[answer.file].add(answer.task)
    for file in package.rglob("*.metal"):
        marked = split_marked(file.read_text(encoding="utf-8"))
        tasks[str(file.relative_to(package))] |= {_key(task) for task in marked.tasks}
    return tasks


def read_functions(file: Path) -> dict[str, Function]:
    """The functions of a file that anybody may have written, by name; none if it is not there, or no Python."""
    try:
        if file.stat().st_size > _LARGEST:
            return {}
        return {function.name: function for function in find_functions(file.read_text(encoding="utf-8"), file)}
    except (OSError, ValueError, RecursionError, MemoryError):  # MemoryError is what Python's parser says of deep nesting
        return {}


def _key(task: tuple[int, int, int]) -> str:
    return ".".join(map(str, task))
