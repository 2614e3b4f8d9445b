"""What a failing test had called: the last call of the answer that it looked at, as source text, with what was given.

It reads the test's source, and looks names up where the test failed. It never calls anything again.
"""

import ast
import functools
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tiny_llm_kit.course.differences import describe
from tiny_llm_kit.course.lookup import is_of, look_up, place_of, says_something

_MOST_NAMES = 5
_LONGEST = 200

Frames = list[tuple[FrameType, int]]
"""Frames of a traceback with their lines, outermost first."""


@dataclass(frozen=True)
class Called:
    """`text` is the call as the test writes it, `given` what its names stood for, `name` what it went into, `place` where what
    was called is defined, `may_be_none` whether it says that it may return None, `makes_object` whether it is a class.

    `checked` is what the test was checking, where the call does not say it.
    """

    text: str
    given: tuple[str, ...] = ()
    name: str = ""
    place: str = ""
    may_be_none: bool = False
    makes_object: bool = False
    checked: str = ""


@dataclass(frozen=True)
class Failing:
    """A statement of a test, and the names that it could see."""

    statement: ast.stmt
    function: ast.AST
    names: Mapping[str, Any]


@dataclass(frozen=True)
class Sought:
    """The calls that are looked for: of the `package` under test, and where `helpers`, of functions of the `tests` that use it.

    Functions in `checking` are no helpers.
    """

    package: str
    tests: Path
    checking: frozenset[CodeType]
    helpers: bool

    def find(self, node: ast.AST, names: Mapping[str, Any]) -> ast.Call | None:
        """The outermost such call within a node."""
        scope = _seen_part(node) if isinstance(node, ast.stmt) else node
        calls = [call for call in ast.walk(scope) if isinstance(call, ast.Call)]
        own = (call for call in calls if self.is_own(call, names))
        return next(own, None) or next((call for call in calls if self.helpers and self._is_helper(call, names)), None)

    def is_own(self, call: ast.Call, names: Mapping[str, Any]) -> bool:
        owner = look_up(call.func.value, names) if isinstance(call.func, ast.Attribute) else None
        return is_of(look_up(call.func, names), self.package) or is_of(type(owner), self.package)

    def _is_helper(self, call: ast.Call, names: Mapping[str, Any]) -> bool:
        code = getattr(look_up(call.func, names), "__code__", None)
        if code is None or code in self.checking or not Path(code.co_filename).is_relative_to(self.tests):
            return False
        inner = [part for part in code.co_consts if isinstance(part, CodeType)]
        given = [type(look_up(argument, names)) for argument in _arguments(call)]
        return any("answer" in part.co_names for part in (code, *inner)) or any(is_of(kind, self.package) for kind in given)


def find_called(frames: Frames, tests: Path, package: str, wrong: bool) -> Called:
    """The call behind a failure whose traceback has these frames: of the answer, or of a helper of the test that uses it.

    A call that only makes an object counts where there is no other.

    Args:
        tests: the folder of tests.
        package: the answer.
        wrong: whether a check has failed, and nothing else was raised.
    """
    own = [(frame, line) for frame, line in frames if is_in(frame, tests)]
    failings = [failing for i in reversed(range(len(own))) if (failing := _failing(own[: i + 1]))]
    if not failings:
        return Called("")
    checking = frozenset(frame.f_code for frame, _ in own if wrong)
    found = [_call_behind(each, Sought(package, tests, checking, helpers=each is failings[-1])) for each in failings]
    calls = sorted(filter(None, found), key=lambda called: called.makes_object)
    checked = _short(_head(failings[-1].statement))
    if not calls:
        return Called("", checked=checked)
    return calls[0] if calls[0].place or calls[0].text == checked else replace(calls[0], checked=checked)


def is_in(frame: FrameType, tests: Path) -> bool:
    """Whether it runs a test, or what one calls; a suite's own hooks are frames around it."""
    return Path(frame.f_code.co_filename).is_relative_to(tests) and not frame.f_code.co_name.startswith("pytest_")


def find_compared(frame: FrameType, line: int) -> str:
    """The left side of a comparison that is asserted in that line, as source text; "" if it is plain, or calls a method."""
    failing = _failing([(frame, line)])
    if failing and isinstance(failing.statement, ast.Assert) and isinstance(failing.statement.test, ast.Compare):
        left = failing.statement.test.left
        calls = any(isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) for node in ast.walk(left))
        return "" if calls or isinstance(left, ast.Call | ast.Constant) else _short(left, 60)
    return ""


def is_one_statement(frame: FrameType, line: int, other: int) -> bool:
    """Whether two lines belong to the same statement."""
    failing = _failing([(frame, line)])
    return failing is not None and _covers(failing.statement, other)


def _failing(frames: Frames) -> Failing | None:
    """What was running in the last of the frames, which sees the names of those around it as well."""
    frame, line = frames[-1]
    tree = _parsed(frame.f_code.co_filename)
    if tree is None:
        return None
    holding = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _covers(node, line)]
    functions = [node for node in holding if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    if not functions:
        return None
    statement = min(holding, key=lambda node: (node.end_lineno or 0) - node.lineno)
    names = ChainMap(*(dict(other.f_locals) for other, _ in reversed(frames[-3:])), frame.f_globals)
    return Failing(statement, max(functions, key=lambda node: node.lineno), names)


@functools.cache
def _parsed(filename: str) -> ast.Module | None:
    try:
        return ast.parse(Path(filename).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None


def _covers(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _call_behind(failing: Failing, sought: Sought) -> Called | None:
    """The call in the failing statement; else in the last assignment before it of a name that it uses, and so on."""
    wanted = _names_in(_seen_part(failing.statement))
    if call := sought.find(failing.statement, failing.names):
        return _describe(call, "", failing.names, sought)
    assignments = [node for node in ast.walk(failing.function) if isinstance(node, ast.Assign | ast.AnnAssign | ast.For)]
    for node in sorted(assignments, key=lambda node: -node.lineno):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        into = {name for target in targets for name in _names_in(target)}
        source = node.iter if isinstance(node, ast.For) else node.value
        if node.lineno >= failing.statement.lineno or not into & wanted or source is None:
            continue
        if call := sought.find(source, failing.names):
            name = next(iter(into)) if len(into) == 1 and not isinstance(node, ast.For) else ""
            return _describe(call, name, failing.names, sought)
        wanted |= _names_in(source)
    return None


def _seen_part(statement: ast.stmt) -> ast.AST:
    """Without the message of an assert, whose names say nothing of where a value comes from."""
    return statement.test if isinstance(statement, ast.Assert) else statement


def _head(statement: ast.stmt) -> ast.AST:
    match statement:
        case ast.Assert():
            return statement.test
        case ast.With() | ast.AsyncWith():
            return statement.body[-1]
        case ast.For() | ast.AsyncFor():
            return statement.iter
        case ast.If() | ast.While():
            return statement.test
    return statement


def _names_in(node: ast.AST) -> set[str]:
    return {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}


def _describe(call: ast.Call, name: str, names: Mapping[str, Any], sought: Sought) -> Called:
    used = dict.fromkeys(
        node.id for argument in _arguments(call) for node in _walk_in_order(argument) if isinstance(node, ast.Name)
    )
    given = [(used_name, names[used_name]) for used_name in used if used_name in names]
    told = [f"{used_name} = {describe(value, 90)}" for used_name, value in given if says_something(value)]
    function = look_up(call.func, names)
    may_be_none = "None" in str(getattr(function, "__annotations__", {}).get("return", ""))
    place = place_of(function) if sought.is_own(call, names) else ""
    return Called(_short(call), tuple(told[:_MOST_NAMES]), name, place, may_be_none, isinstance(function, type))


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _walk_in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk_in_order(child)


def _short(node: ast.AST, most: int = _LONGEST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
