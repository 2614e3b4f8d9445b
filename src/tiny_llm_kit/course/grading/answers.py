"""Which functions answer which task, from the marks in the reference: without importing it, or libcst, which takes long."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.course_map import LEARNER

_MARK_IN_KERNEL = re.compile(r"@task\(\D*(\d+)\D+(\d+)\D+(\d+)\)")


@dataclass(frozen=True)
class Answer:
    """A function: its task ("1.1.1"), its file within the package, its name, with that of its class, and its code."""

    task: str
    file: str
    name: str
    function: ast.FunctionDef

    @property
    def place(self) -> str:
        """As "tiny_llm.attention:softmax"."""
        return f"{LEARNER}.{self.file.removesuffix('.py').replace('/', '.')}:{self.name}"


def find_answers(package: Path) -> list[Answer]:
    """All marked functions of a package. A file that is no Python has none."""
    return [answer for file in sorted(package.rglob("*.py")) for answer in _in_file(file, str(file.relative_to(package)))]


def find_tasks_of_files(package: Path) -> dict[str, set[str]]:
    """The tasks that each file of the package holds answers to, kernels included."""
    tasks: dict[str, set[str]] = defaultdict(set)
    for answer in find_answers(package):
        tasks[answer.file].add(answer.task)
    for file in package.rglob("*.metal"):
        marks = _MARK_IN_KERNEL.findall(file.read_text(encoding="utf-8"))
        tasks[str(file.relative_to(package))] |= {".".join(numbers) for numbers in marks}
    return tasks


def find_functions(file: Path) -> dict[str, ast.FunctionDef]:
    """All functions and methods by name; none if it is not there, or no Python."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return {}
    return dict(_functions(tree, ""))


def _in_file(file: Path, name: str) -> Iterator[Answer]:
    for function_name, function in find_functions(file).items():
        for decorator in function.decorator_list:
            match decorator:
                case ast.Call(func=ast.Name(id="task"), args=plain, keywords=named):
                    numbers = [
                        number.value
                        for number in [*plain, *(keyword.value for keyword in named)]
                        if isinstance(number, ast.Constant)
                    ]
                    yield Answer(".".join(map(str, numbers)), name, function_name, function)


def _functions(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
