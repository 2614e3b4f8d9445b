"""Keeps an answer from importing the reference, and notices that it tried: its tests would be those of the reference."""

import sys
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

from tiny_llm_kit.course.course_map import REFERENCE


class ReferenceGuard(MetaPathFinder):
    """Put first into `sys.meta_path`, it refuses imports of the reference for which the code of `package` asks."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._refused: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """ImportError for what is refused, else None, which leaves it to others to find the module."""
        place = self._place() if _is_in(name, REFERENCE) else None
        if place:
            self._refused.append(f"{place} imports {name}")
            raise ImportError(f"{place} imports {name}: an answer stands on its own, so write it in {self.package}")

    def find_uses(self) -> list[str]:
        """One line for each import that was refused, and for each module of the package that holds a thing of the reference."""
        modules = [(name, module) for name, module in sys.modules.items() if _is_in(name, self.package)]
        holding = [f"{name} holds what belongs to {REFERENCE}" for name, module in modules if _holds_reference(module)]
        return [*dict.fromkeys(self._refused), *holding]

    def _place(self) -> str | None:
        """The innermost line of the package that is being run, as file:line; None if the package is not at work."""
        for frame, line in traceback.walk_stack(None):
            if _is_in(frame.f_globals.get("__name__", ""), self.package):
                return f"{frame.f_code.co_filename}:{line}"
        return None


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _holds_reference(module: ModuleType) -> bool:
    """Also when another test has already imported the reference, so it was not looked for."""
    names = (getattr(value, "__module__", None) or getattr(value, "__name__", None) for value in vars(module).values())
    return any(_is_in(name, REFERENCE) for name in {name for name in names if isinstance(name, str)})
