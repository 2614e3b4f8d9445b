"""Notices that what judges the answer was changed: builtins, MLX, NumPy, pytest and its plugins, the tests and their helpers.

It compares names with what they stood for at the start. What a test replaces itself, it puts back before the comparison.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

JUDGES = (
    "builtins",
    "mlx.core",
    "mlx.core.fast",
    "math",
    "numpy",
    "numpy.testing",
    "operator",
    "pluggy",
    "pytest",
    "unittest.mock",
)
_CLASSES_OF = ("_pytest.", "pluggy.")

State = dict[tuple[str, ...], object]


class Tampering:
    def __init__(self, course: Path) -> None:
        self._course = course
        self._state: State = {}
        self._plugins: set[int] = set()
        self._code: dict[pytest.Item, CodeType] = {}

    def begin(self, config: pytest.Config) -> None:
        """Before the answer is imported."""
        self._state = dict(self._look())
        self._plugins = {id(plugin) for plugin in config.pluginmanager.get_plugins()}

    def begin_tests(self, session: pytest.Session) -> list[str]:
        """After all tests are collected, and so the answer imported: what it has changed by then."""
        found = [*self._find_changes(), *self._find_strangers(session.config), *self._find_replaced()]
        self._state = dict(self._look())
        self._plugins = {id(plugin) for plugin in session.config.pluginmanager.get_plugins()}
        self._code = {item: code for item in session.items if (code := _code_of(item))}
        wrong = [item.name for item, code in self._code.items() if not self._is_of_course(code.co_filename)]
        return [*found, *wrong]

    def find(self, item: pytest.Item) -> list[str]:
        """After a test. What was changed is noticed once: afterwards it is put back."""
        found = [*self._find_changes(), *self._find_strangers(item.config)]
        if _code_of(item) is not self._code.get(item):
            found.append(item.name)
        return found

    def _find_changes(self) -> list[str]:
        now, changed = dict(self._look()), []
        for key, before in self._state.items():
            if len(key) == 2 and now.get(key) is not before:
                changed.append(".".join(key))
                setattr(sys.modules[key[0]], key[1], before)
            elif now.get(key) is not before:
                changed.append(".".join(key[:-1]) if key[-1] == "__code__" else ".".join(key))
                self._state[key] = now.get(key)
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

    def _look(self) -> Iterator[tuple[tuple[str, ...], object]]:
        for name, module in list(sys.modules.items()):
            if name in JUDGES or name.startswith("_pytest.") or self._is_of_course(getattr(module, "__file__", None) or ""):
                yield from _look_at(name, module)

    def _is_of_course(self, file: str, folder: str = "") -> bool:
        return file.startswith(f"{self._course / folder}/")


def _look_at(name: str, module: ModuleType) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in list(vars(module).items()):
        if isinstance(value, FunctionType):
            yield (name, key), value
            yield (name, key, "__code__"), value.__code__
        elif callable(value):
            yield (name, key), value
            if isinstance(value, type) and f"{name}.".startswith(_CLASSES_OF) and value.__module__ == name:
                yield from (((name, key, part), item) for part, item in list(vars(value).items()) if callable(item))


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


def describe(changed: Iterable[str]) -> str:
    names = sorted(set(changed))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"changes what judges it: {', '.join(names[:3])}{more}"
