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
    *("math", "mlx.core", "mlx.core.fast", "numpy", "numpy.testing", "operator"),
    *("pluggy", "pytest", "pytest_timeout", "unittest.mock"),
)
_WITH_CLASSES = ("_pytest.", "pluggy.")
_vars, _setattr = vars, setattr  # as they are before the answer is there


class Meaning(NamedTuple):
    """What `name` stands for in a module or class, or the code of a function."""

    holder: Any
    name: str
    value: object

    @property
    def changed(self) -> bool:
        now = self.holder.__code__ if self.name == "__code__" else _vars(self.holder).get(self.name)
        return now is not self.value

    def __str__(self) -> str:
        module = getattr(self.holder, "__module__", None)
        return ".".join(filter(None, [module, self.holder.__name__, self.name.removeprefix("__code__")]))


class Tampering:
    """Looks at the judges of one session; `course` is the folder of the tests and the kit."""

    def __init__(self, course: Path) -> None:
        self._course = course
        self._builtins: list[Meaning] = []
        self._meanings: list[Meaning] = []
        self._plugins: set[int] = set()
        self._code: dict[pytest.Item, CodeType] = {}

    def begin(self, config: pytest.Config) -> None:
        """Before the answer is imported."""
        self._builtins = [Meaning(builtins, key, value) for key, value in vars(builtins).items() if callable(value)]
        self._remember(config)

    def begin_tests(self, session: pytest.Session) -> list[str]:
        """After all tests are collected, and so the answer imported: what it has changed by then."""
        found = [*self._put_back(), *self._find_strangers(session.config), *self._find_replaced()]
        self._remember(session.config)
        self._code = {item: code for item in session.items if (code := _code_of(item))}
        return found + [item.name for item, code in self._code.items() if not self._is_of_course(code.co_filename)]

    def find(self, item: pytest.Item) -> list[str]:
        """What has been changed during a test. It is put back, so it is noticed once."""
        found = [*self._put_back(), *self._find_strangers(item.config)]
        return found if _code_of(item) is self._code.get(item) else [*found, item.name]

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
            if name in JUDGES or name.startswith("_pytest.") or self._is_of_course(getattr(module, "__file__", None) or ""):
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
            yield Meaning(value, "__code__", value.__code__)
        elif isinstance(value, type) and name.startswith(_WITH_CLASSES) and value.__module__ == name:
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


def _code_of(item: pytest.Item) -> CodeType | None:
    return getattr(_innermost(getattr(item, "function", None)), "__code__", None)
