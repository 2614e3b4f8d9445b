"""Who calls: the answer, or the tests and the kit. The answer is innocent of what these do."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

_GUARDS = f"{Path(__file__).parent}/"  # which are in the kit, and between the answer and what it calls


@dataclass(frozen=True)
class Owner:
    """`package` is the folder of the answer, `course` that of the tests and the kit."""

    package: Path
    course: Path

    def find_place(self, frame: FrameType | None) -> str | None:
        """The line of the answer that is at work in `frame`, as file:line. Code of no module is its own: exec made it.

        Libraries in between are passed over, and belong to the answer if they work on an object of one of its classes. None if
        the tests or the kit are at work; "" if none of these is, which is so in a thread that has no function of its own.
        """
        course = f"{self.course}/"
        while frame:
            file = frame.f_code.co_filename
            is_of_course = file.startswith(course) and not file.startswith(_GUARDS)
            if self.owns(frame) or not (is_of_course or _is_of_module(frame)):
                return f"{self.shorten(file)}:{frame.f_lineno}"
            if is_of_course:
                return None
            kind = type(frame.f_locals.get("self"))
            if any(self._is_own(base.__module__) for base in kind.__mro__):
                return f"{kind.__module__.replace('.', '/')}.py, class {kind.__name__}"
            frame = frame.f_back
        return ""

    def owns(self, frame: FrameType) -> bool:
        """Whether it runs a line of the answer."""
        return frame.f_code.co_filename.startswith(f"{self.package}/") or self._is_own(frame.f_globals.get("__name__"))

    def is_of_others(self, function: object) -> bool:
        """Whether something else than the answer defines it. A property, for one, does not say who does."""
        module = getattr(function, "__module__", None)
        return module is not None and not self._is_own(module)

    def shorten(self, file: str) -> str:
        return file.removeprefix(f"{self.package.parent}/")

    def _is_own(self, module: object) -> bool:
        return isinstance(module, str) and f"{module}.".startswith(f"{self.package.name}.")


def _is_of_module(frame: FrameType) -> bool:
    module = sys.modules.get(str(frame.f_globals.get("__name__")))
    return module is not None and vars(module) is frame.f_globals


def caller(depth: int = 2) -> FrameType | None:
    """The frame that called the function that asks."""
    return sys._getframe(depth)
