"""Notices that what judges the answer was changed: builtins, MLX, NumPy, pytest and its plugins, the tests and their helpers.

It compares names with what they stood for at the start. What a test replaces itself, it has put back before that.
"""

import ast
import builtins
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import pytest

JUDGES = (
    *("math", "mlx.core", "mlx.core.fast", "numpy", "numpy._core._methods", "numpy._core.fromnumeric", "numpy._core.numeric"),
    *("operator", "pytest", "pytest_timeout", "unittest.mock"),
)
_WITH_PARTS = ("_pytest.", "numpy.testing.", "pluggy.")
_OF_FUNCTIONS = ("__code__", "__defaults__", "__kwdefaults__")
Body = tuple[object, ...]
_vars, _setattr = vars, setattr  # as they are before the answer is there


class Meaning(NamedTuple):
    """What `name` stands for in a module or class, or the code of a function and its defaults."""

    holder: Any
    name: str
    value: object

    @property
    def changed(self) -> bool:
        is_part = isinstance(self.holder, FunctionType)
        now = getattr(self.holder, self.name) if is_part else _vars(self.holder).get(self.name)
        return now is not self.value

    def __str__(self) -> str:
        module = getattr(self.holder, "__module__", None)
        return ".".join(filter(None, [module, self.holder.__name__, "" if self.name in _OF_FUNCTIONS else self.name]))


class Tampering:
    """Looks at the judges of one session; `course` is the folder of the tests and the kit."""

    def __init__(self, course: Path) -> None:
        self._course = course
        self._builtins: list[Meaning] = []
        self._meanings: list[Meaning] = []
        self._plugins: set[int] = set()
        self._bodies: dict[pytest.Item, Body] = {}

    def begin(self, config: pytest.Config) -> None:
        """Before the answer is imported."""
        self._builtins = [Meaning(builtins, key, value) for key, value in vars(builtins).items() if callable(value)]
        self._remember(config)

    def begin_tests(self, session: pytest.Session) -> list[str]:
        """After all tests are collected, and so the answer imported: what it has changed by then."""
        found = [*self._put_back(), *self._find_strangers(session.config), *self._find_replaced()]
        self._remember(session.config)
        self._bodies = {item: _body_of(item) for item in session.items}
        return found + [
            item.name for item in session.items if not self._is_of_course(getattr(_code_of(item), "co_filename", ""))
        ]

    def find(self, item: pytest.Item) -> list[str]:
        """What has been changed during a test. It is put back, so it is noticed once."""
        found = [*self._put_back(), *self._find_strangers(item.config)]
        same = all(now is before for now, before in zip(_body_of(item), self._bodies[item], strict=True))
        return found if same else [*found, item.name]

    def _remember(self, config: pytest.Config) -> None:
        self._meanings = list(self._look())
        self._plugins = {id(plugin) for plugin in config.pluginmanager.get_plugins()}

    def _put_back(self) -> list[str]:
        changed = []
        for meaning in [*self._builtins, *self._meanings]:  # builtins first: all else is done with them
            if meaning.changed:
                _setattr(meaning.holder, meaning.name, meaning.value)
                changed.append(str(meaning))
        return changed

    def _find_strangers(self, config: pytest.Config) -> list[str]:
        """Plugins that came later and are neither pytest's own nor a conftest of the course."""
        new = [plugin for plugin in config.pluginmanager.get_plugins() if id(plugin) not in self._plugins]
        strange = [plugin for plugin in new if not self._is_known(plugin)]
        for plugin in strange:
            config.pluginmanager.unregister(plugin)
        return [f"pytest's plugin {type(plugin).__name__}" for plugin in strange]

    def _is_known(self, plugin: Any) -> bool:
        file = getattr(plugin, "__file__", None) if isinstance(plugin, ModuleType) else None
        return self._is_of_course(file or "") or type(plugin).__module__.startswith("_pytest.")

    def _find_replaced(self) -> Iterator[str]:
        """Functions of the tests' files that are not what the file defines, and helpers that are other files."""
        helpers = {path.stem: path for path in (self._course / "tests").glob("*.py")}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if name in helpers and file != str(helpers[name]):
                yield f"the tests' module {name}"
            elif file.endswith(".py") and self._is_of_course(file, "tests"):
                yield from (f"{name}.{function}" for function in _replaced_in(module, Path(file)))

    def _look(self) -> Iterator[Meaning]:
        for name, module in list(sys.modules.items()):
            is_of_course = self._is_of_course(getattr(module, "__file__", None) or "")
            if is_of_course or f"{name}.".startswith(_WITH_PARTS) or name in JUDGES:
                yield from _look_at(name, module)

    def _is_of_course(self, file: str, folder: str = "") -> bool:
        return file.startswith(f"{self._course / folder}/")


def describe(changed: Iterable[str]) -> str:
    """In one line."""
    names = sorted(set(changed))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"changes what judges it: {', '.join(names[:3])}{more}"


def _look_at(name: str, module: ModuleType) -> Iterator[Meaning]:
    for key, value in list(vars(module).items()):
        if callable(value):
            yield Meaning(module, key, value)
        if isinstance(value, FunctionType):
            yield from (Meaning(value, part, getattr(value, part)) for part in _OF_FUNCTIONS)
        elif isinstance(value, type) and value.__module__ == name:
            yield from (Meaning(value, part, item) for part, item in list(vars(value).items()) if callable(item))


def _replaced_in(module: ModuleType, file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            value = vars(module).get(node.name)
            if isinstance(value, FunctionType) and _innermost(value).__code__.co_filename != str(file):
                yield node.name


def _innermost(function: Any) -> Any:
    while inner := getattr(function, "__wrapped__", None):
        function = inner
    return function


def _code_of(item: Any) -> CodeType | None:
    return getattr(_innermost(getattr(item, "function", None)), "__code__", None)


def _body_of(item: Any) -> Body:
    """What runs when the test does: its function, what Hypothesis calls again and again, and how."""
    function = getattr(item, "function", None)
    tried = getattr(getattr(function, "hypothesis", None), "inner_test", None)
    return function, _code_of(item), tried, getattr(tried, "__code__", None), vars(item).get("runtest")
