"""How much a call does, counted: lines of Python, elements that a list has to move or search, and bytes of new objects.

A figure that grows with the size of a data structure gives away a scan or a copy, on a fast machine and a slow one alike. What
C code does with elements that it is handed as arguments (`min(items)`) does not show here: see `Watched`.
"""

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

SEARCHES = {"remove", "index", "count", "sort", "copy", "reverse", "insert"}


def effort(compute: Callable[[], object]) -> int:
    """Lines and list elements that `compute` goes through, and the bytes, in units of 8, by which memory grows meanwhile."""
    counted = 0
    last: Any = None

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal counted, last
        if event not in ("c_call", "c_return") or not isinstance(items := getattr(arg, "__self__", None), list):
            return
        if event == "c_call":
            last = items[-1] if items else None
            counted += len(items) if arg.__name__ in SEARCHES else 0
        elif arg.__name__ == "pop" and items and items[-1] is last:  # the last element stayed, so all after the gap moved
            counted += len(items)

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal counted
        counted += event == "line"
        return trace

    before = sys.gettrace(), sys.getprofile()
    tracemalloc.start()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        compute()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return counted + peak // 8


class Watched(int):
    """A number that counts how often any of its kind was compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Watched.compared += 1
        return int(self) == other

    def __lt__(self, other: int) -> bool:
        Watched.compared += 1
        return int(self) < other

    def __gt__(self, other: int) -> bool:
        Watched.compared += 1
        return int(self) > other

    def __hash__(self) -> int:
        return hash(int(self))
