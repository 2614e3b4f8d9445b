"""What the names in a test's source stand for, looked up where the test failed. It runs no code of the answer."""

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any


def look_up(node: ast.expr, names: Mapping[str, Any]) -> object:
    """What an expression of names and dots stands for, without running any code; None for others."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := look_up(node.value, names)) is not None:
        try:
            value = vars(owner)[node.attr] if isinstance(owner, ModuleType) else inspect.getattr_static(owner, node.attr)
        except (AttributeError, KeyError):
            return None
        return value.__func__ if isinstance(value, staticmethod | classmethod) else value
    return None


def is_of(value: object, package: str) -> bool:
    """Whether it is a function, method or class of a package."""
    if isinstance(value, FunctionType | MethodType | type):
        return f"{value.__module__}.".startswith(f"{package}.")
    return False


def place_of(value: object) -> str:
    """Where a function is defined: `name (file:line)`; "" if that can't be told."""
    if not isinstance(value, FunctionType):
        return ""
    try:
        path, line = Path(inspect.getsourcefile(value) or ""), inspect.getsourcelines(value)[1]
    except (OSError, TypeError):
        return ""
    line = next((i for i, text in enumerate(inspect.getsource(value).splitlines(), line) if "def " in text), line)
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{value.__qualname__} ({path.as_posix()}:{line})"


def says_something(value: object) -> bool:
    """Whether it is neither code nor an object that Python writes as an address."""
    is_code = isinstance(value, FunctionType | MethodType | ModuleType | type) or inspect.isbuiltin(value)
    return not is_code and type(value).__repr__ is not object.__repr__
