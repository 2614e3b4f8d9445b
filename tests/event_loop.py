"""Runs asynchronous tests: within a time, and with failures that show the test and the answer, and nothing of asyncio."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any

from patience import PATIENCE

_ASYNCIO = str(Path(asyncio.__file__).parent)


def run(work: Coroutine[Any, Any, Any], seconds: float = 2 * PATIENCE) -> Any:
    """Run it in a new event loop. TimeoutError after this many seconds."""
    __tracebackhide__ = True
    try:
        return asyncio.run(asyncio.wait_for(work, seconds))
    except BaseException as error:
        raise error.with_traceback(_without_asyncio(error.__traceback__)) from error.__cause__


def _without_asyncio(traceback: TracebackType | None) -> TracebackType | None:
    """The same frames without asyncio's. pytest reads the source of each, which takes a second for asyncio's."""
    if traceback is None:
        return None
    rest = _without_asyncio(traceback.tb_next)
    if traceback.tb_frame.f_code.co_filename.startswith((_ASYNCIO, __file__)):
        return rest
    return TracebackType(rest, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)
