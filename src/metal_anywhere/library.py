"""A compiled kernel in this process. It runs one launch at a time, in slices, between which Python can stop it."""

import ctypes
import functools
import threading
from pathlib import Path

from metal_anywhere.launch import LaunchStruct

_one_at_a_time = threading.RLock()  # libraries of the same path share their memory


class Library:
    """`path`: of a shared library that `compiler.build` made. OSError if it cannot be loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        code = ctypes.PyDLL(str(path))  # keeps Python's lock: most launches are shorter than it takes to get it back
        self._begin, self._go_on, self._end = code.msl_begin, code.msl_go_on, code.msl_end
        self._begin.restype = self._go_on.restype = ctypes.c_bool
        self._running = False

    def run(self, launch: LaunchStruct) -> None:
        """Fills in `launch`, its fault included. What a signal's handler raises, as KeyboardInterrupt, ends it."""
        with _one_at_a_time:
            if self._running:
                raise RuntimeError("a signal handler launched the kernel that it interrupted")
            try:
                self._running = True
                more = self._begin(ctypes.byref(launch))
                while more:  # signals are handled, and other threads run, where this loop turns
                    more = self._go_on()
            finally:
                self._end()
                self._running = False


@functools.cache
def load(path: Path) -> Library:
    return Library(path)
