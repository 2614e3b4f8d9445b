"""The answers of a package: which functions belong to which task, where they are, and which of them are still stubs.

It reads source code and runs none, so that a file with a mistake in it hides nothing but itself.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from metal_anywhere.source import find_stub
from tiny_llm_kit.course.course_map import REFERENCE
from tiny_llm_kit.course.failure import STUB

TaskKey = tuple[int, int, int]
"""Week, day, number."""

_METAL_MARK = re.compile(r"// @task\(week=(\d+), day=(\d+), number=(\d+)\)[^\n]*\n(.*?)\n[ \t]*// @end", re.DOTALL)
_MARK = re.compile(r"@task\(\s*(?:week=)?(\d+),\s*(?:day=)?(\d+),\s*(?:number=)?(\d+)\s*\)")


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


def read_answers(root: Path, package: str) -> Answers:
    """The answers in a package of `root/src`."""
    folder, reference = root / "src" / package, root / "src" / REFERENCE
    found = Answers()
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.metal")]):
        short = path.relative_to(folder)
        model = reference / short if package != REFERENCE and (reference / short).is_file() else None
        try:
            source = path.read_text(encoding="utf-8")
            read = _read_metal if path.suffix == ".metal" else _read_python
            for key, answer in read(short, source, model, reference / short):
                found.by_task.setdefault(key, []).append(answer)
        except (SyntaxError, ValueError, OSError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            found.broken[short] = f"{type(error).__name__}{line}: {what}"
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_python(path: Path, source: str, model: Path | None, _: Path) -> Iterator[tuple[TaskKey, Answer]]:
    if "@task" not in source:
        ast.parse(source)  # a mistake in it is one in the package
        return
    written = list(_marked(ast.parse(source)))
    models = _bodies(model) if any(not _is_stub(function) for _, _, function in written) else {}
    for key, name, function in written:
        stub = _is_stub(function)
        given = not stub and models.get(name) == _body(function)
        yield key, Answer(path, name, function.lineno, stub, given)


def _bodies(model: Path | None) -> dict[str, str]:
    return {name: _body(function) for _, name, function in _marked(ast.parse(_text_of(model)))} if model else {}


def _body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return "\n".join(map(ast.dump, function.body))


def _marked(tree: ast.AST, inside: str = "") -> Iterator[tuple[TaskKey, str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _marked(node, f"{inside}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            marks = [_MARK.fullmatch(f"@{ast.unparse(decorator)}") for decorator in node.decorator_list]
            for mark in filter(None, marks):
                yield _key(mark.groups()), f"{inside}{node.name}", node
        elif isinstance(node, ast.If | ast.Try):
            yield from _marked(node, inside)


def _key(numbers: tuple[str, ...]) -> TaskKey:
    week, day, number = map(int, numbers)
    return week, day, number


def _is_stub(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it does nothing but raise what the skeleton raises."""
    body = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    match body:
        case [ast.Raise(exc=ast.Call(func=ast.Name(id="NotImplementedError"), args=[ast.Constant(value=str(text))]))]:
            return bool(STUB.match(text))
    return False


def _read_metal(path: Path, source: str, model: Path | None, original: Path) -> Iterator[tuple[TaskKey, Answer]]:
    """The marks go with the regions, so the reference says which tasks a file has."""
    stubs = {_key(found.groups()): source.count("\n", 0, found.start()) + 1 for found in STUB.finditer(source)}
    stub_left = find_stub(source) is not None
    for *numbers, region in dict.fromkeys(_METAL_MARK.findall(_text_of(original))):
        key = _key(tuple(numbers))
        stub = stub_left and key in stubs
        yield key, Answer(path, path.name, stubs.get(key, 1), stub, not stub and model is not None and region in source)
