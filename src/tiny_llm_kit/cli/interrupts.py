"""Ctrl-C while a program still imports what it needs, which takes seconds on a busy machine: one line and no traceback."""

import sys
from types import TracebackType


def show_interrupts_as_one_line() -> None:
    """From here on, an interrupt that nobody handles ends the program as always (for a shell: 130), and says `Aborted!`."""
    show_others = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("Aborted!", file=sys.stderr)  # as click does once it runs
        else:
            show_others(kind, error, place)

    sys.excepthook = show
