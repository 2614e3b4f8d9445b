"""Why a test failed, in one line, and where in the answer under test."""

import os
import traceback
from collections.abc import Iterator
from inspect import getattr_static
from pathlib import Path
from types import FrameType

from tiny_llm_kit.course.course_map import LEARNER

_HEADINGS = ("Not equal to tolerance", "Arrays are not", "Items are not equal")
"""How numpy's messages begin. What the test says comes after it."""


def first_line(error: BaseException) -> str:
    """The kind of error and the first line of its message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith(_HEADINGS):
        lines = [": ".join(lines[:2])]
    if lines and isinstance(error, AssertionError) and lines[0].startswith("assert "):
        return lines[0]
    return ": ".join([type(error).__name__, *lines[:1]])


def own_line(error: BaseException) -> str:
    """Where in the answer the error, or what caused it, was raised: `in name (file:line)`; "" if it came from elsewhere."""
    for cause in reversed(list(_causes(error))):
        own = [_place(frame, line) for frame, line in traceback.walk_tb(cause.__traceback__) if _is_own(frame)]
        if own:
            return own[-1]
    return ""


def find_kept(error: BaseException) -> dict[int, BaseException]:
    """The errors that requests have ended with, by `request_id`, among what the test that fails was looking at.

    An engine keeps the exceptions of its requests, and a test that did not expect any fails for another reason.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if not _is_in(frame, "_pytest", "pluggy")]
    values = [value for frame in frames for value in frame.f_locals.values()]
    values += [item for value in values if type(value) in (list, tuple) for item in value]
    values = [value for value in values if type(value).__module__ != "builtins"]  # a prompt is a list of a hundred numbers
    kept = {getattr_static(value, "request_id", None): getattr_static(value, "error", None) for value in values}
    return {number: found for number, found in kept.items() if isinstance(found, BaseException) and number is not None}


def describe_calls(frame: FrameType) -> str:
    """The calls within the answer that lead to a frame, outermost first; "" if none does."""
    own = [_place(caller, line) for caller, line in traceback.walk_stack(frame) if _is_own(caller)]
    return ", in ".join(own[::-1])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its cause, the cause of that, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _is_own(frame: FrameType) -> bool:
    return _is_in(frame, os.environ.get("TINY_LLM_SOLUTION", LEARNER))


def _is_in(frame: FrameType, *packages: str) -> bool:
    return f"{frame.f_globals.get('__name__', '')}.".startswith(tuple(f"{package}." for package in packages))


def _place(frame: FrameType, line: int) -> str:
    path = Path(frame.f_code.co_filename)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{frame.f_code.co_name} ({path}:{line})"
