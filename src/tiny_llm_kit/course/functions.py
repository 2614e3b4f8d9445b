"""Where the functions of a Python file are, line by line, and whether they are written. It never changes the file's text.

Functions are known by their names, such as `softmax` or `FairQueue.push`: a learner may have removed the marks.
"""

import ast
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")


@dataclass(frozen=True)
class Function:
    """Its lines are `[start, end)`, counted from 0, decorators included; those from `body` on come after the docstring.

    `rebound`: the line, counted from 1, in which a later statement (`softmax = mine`) gives the name another meaning; else 0.
    """

    name: str
    start: int
    body: int
    end: int
    indent: str
    stub: bool
    task: tuple[int, int, int] | None
    rebound: int
    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def owner(self) -> str:
        """The class that it belongs to, "" for a function of the module."""
        return self.name.rpartition(".")[0]


def split_lines(text: str) -> list[str]:
    """The lines as Python counts them, with their ends; `str.splitlines` would cut at form feeds as well."""
    return _LINES.findall(text)


def decode(content: bytes, path: Path) -> str:
    """The text of a file, without the byte order mark of some editors. ValueError if it is not UTF-8."""
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: this is not UTF-8 ({error}). Save it as UTF-8 first") from None


def parse(text: str, path: Path) -> ast.Module:
    """ValueError names the file and the line that is no Python."""
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno or 1}: {error.msg}. Mend that line first") from None
    except ValueError as error:  # null bytes
        raise ValueError(f"{path}:1: this is not Python: {error}") from None


def find_functions(text: str, path: Path) -> list[Function]:
    """All functions of a module and of its classes, in their order. ValueError as in `parse`."""
    lines, tree = split_lines(text), parse(text, path)
    rebound = _find_rebound(tree.body, "")
    return [_describe(node, owner, lines, rebound.get(owner + node.name, 0)) for node, owner in _walk(tree.body, "")]


def _find_rebound(body: list[ast.stmt], owner: str) -> dict[str, int]:
    """The lines of assignments and imports by the names that they bind, if no `def` of that name comes after them."""
    lines: dict[str, int] = {}
    for node in body:
        match node:
            case ast.Assign() | ast.AnnAssign() | ast.Import() | ast.ImportFrom():
                lines |= {owner + name: node.lineno for name in bound_names(node)}
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                lines.pop(owner + node.name, None)
            case ast.ClassDef():
                lines |= _find_rebound(node.body, f"{owner}{node.name}.")
    return lines


def _walk(body: list[ast.stmt], owner: str) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node, owner
            case ast.ClassDef():
                yield from _walk(node.body, f"{owner}{node.name}.")
            case ast.If() | ast.Try():
                yield from _walk([*node.body, *node.orelse], owner)


def _describe(node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str, lines: list[str], rebound: int) -> Function:
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    documented = ast.get_docstring(node, clean=False) is not None
    statements = node.body[documented:]
    if documented:
        body = node.body[0].end_lineno or 0
    else:
        body = _first_line(node.body[0])
        while lines[body - 1].lstrip().startswith("#") or not lines[body - 1].strip():
            body -= 1  # comments on top belong to the body
    end = node.end_lineno or 0
    stub = _is_stub(statements) and not rebound
    end = _end_of_comments(lines, end, indent)
    return Function(owner + node.name, start, body, end, indent, stub, _mark(node), rebound, node)


def _first_line(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)]) - 1


def _end_of_comments(lines: list[str], end: int, indent: str) -> int:
    """Comments after the last statement belong to the body if they are indented like it."""
    last = end
    for number in range(end, len(lines)):
        line = lines[number]
        if line.strip() and not (line.startswith(f"{indent} ") or line.startswith(f"{indent}\t")):
            break
        if line.strip() and not line.lstrip().startswith("#"):
            break
        if line.strip():
            last = number + 1
    return last


def _is_stub(statements: list[ast.stmt]) -> bool:
    match statements:
        case [ast.Raise(exc=ast.Call(func=ast.Name(id="NotImplementedError")) | ast.Name(id="NotImplementedError"))]:
            return True
    return False


def _mark(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[int, int, int] | None:
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="task"), args=args, keywords=keywords):
                given = dict(zip(("week", "day", "number"), args, strict=False)) | {
                    word.arg or "": word.value for word in keywords
                }
                numbers = [
                    value.value for name in ("week", "day", "number") if isinstance(value := given.get(name), ast.Constant)
                ]
                if len(numbers) == 3 and all(isinstance(number, int) for number in numbers):
                    return numbers[0], numbers[1], numbers[2]  # type: ignore[return-value]
    return None


def find_names(text: str, path: Path) -> set[str]:
    """What a module and its classes give a meaning to, however: `softmax`, `FairQueue.push`. ValueError as in `parse`."""
    names: set[str] = set()
    for statement in parse(text, path).body:
        names |= bound_names(statement)
        if isinstance(statement, ast.ClassDef):
            names |= {f"{statement.name}.{name}" for inner in statement.body for name in bound_names(inner)}
    return names


def bound_names(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module or class gives a meaning to."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    nested = (child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt))
    return {node.id for node in stored} | {name for child in nested for name in bound_names(child)}
