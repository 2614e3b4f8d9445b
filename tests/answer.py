"""The package under test: `from answer import answer`, then `answer.softmax(...)`.

Which one it is comes from `--solution` (see conftest.py) by way of the environment variable TINY_LLM_SOLUTION.
"""

import importlib
import os
import traceback
from types import ModuleType

import pytest


def import_answer(package: str) -> ModuleType:
    """Imports `package`. When that fails, pytest shows the way to the failing line and nothing of its own machinery."""
    try:
        return importlib.import_module(package)
    except (Exception, SystemExit) as error:  # a learner's module may raise anything
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "importlib" not in frame.filename and frame.filename != __file__
        ]
        lines = [*traceback.format_list(frames), *traceback.format_exception_only(error)]
        message = f"{package} cannot be imported, so its tests cannot run:\n{''.join(lines)}"
        raise pytest.Collector.CollectError(message) from None


answer = import_answer(os.environ.get("TINY_LLM_SOLUTION", "tiny_llm"))
