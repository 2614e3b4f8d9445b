"""What a cache copies: how much memory it asks for, and how many numbers it sends through `mx.where`.

Whoever copies a history needs a place for the copy, so it shows in memory, whatever it was copied with. Only a choice between
old and new numbers (`mx.where`) can end up in the old place, so these are counted.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import pytest


def bytes_allocated(compute: Callable[[], Sequence[mx.array]]) -> int:
    """By how many bytes memory grows at most while `compute` runs, and the arrays that it returns are computed."""
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(compute())
    mx.synchronize()
    return max(mx.get_peak_memory() - before, 0)  # the peak is 0 if nothing was asked for


def bytes_copied(append: Callable[[int], Sequence[mx.array]], count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that `append(0)`, …, `append(count − 1)` ask for in all; each returns what it has fetched."""
    chosen, where = 0, mx.where

    def counting_where(*args: Any, **kwargs: Any) -> mx.array:
        nonlocal chosen
        result = where(*args, **kwargs)
        chosen += result.nbytes
        return result

    monkeypatch.setattr(mx, "where", counting_where)
    return sum(bytes_allocated(lambda i=i: append(i)) for i in range(count)) + chosen
