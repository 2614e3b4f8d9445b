"""Where a row's tokens are among the S columns of a step: at the left, or at the right.

Either is right, as long as mask (task 6) and cache (task 2) agree. So the tests ask the mask, and hold the cache to it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from answer import answer


def requests_at(*offsets: int) -> list[Any]:
    """Requests whose next token is at these positions, whatever their prompts and their tokens so far are."""
    requests = [answer.Request([1, 2, 3], max_tokens=9) for _ in offsets]
    for request, offset in zip(requests, offsets, strict=True):
        request.offset = offset
    return requests


def rows_stand_right() -> bool:
    """What `create_batch_mask` of the answer says: of 2 columns, the only token of a row is in the first or in the last."""
    try:
        mask = np.array(answer.create_batch_mask(requests_at(0), 2)).reshape(-1)
    except ValueError as error:
        raise AssertionError(
            "create_batch_mask refused a mask of 2 columns to a request at offset 0: a row's place is the request's `offset`,"
            " not the number of its tokens"
        ) from error
    seen = np.flatnonzero(mask == 0).tolist()
    assert seen in ([0], [1]), (
        f"create_batch_mask lets a token at position 0 see the columns {seen} of 2: it should see one, itself"
        " (column 0, or the last one if your rows are at the right); look at task 6 first"
    )
    return seen == [1]


def seen_columns(offset: int, columns: int, right: bool) -> range:
    """The columns of positions 0 … offset."""
    return range(columns - offset - 1, columns) if right else range(offset + 1)


def mask64(lengths: Sequence[int], count: int, columns: int, right: bool) -> np.ndarray:
    """0 and −inf, `(B, 1, count, columns)`, for the last `count` tokens of rows of these lengths."""
    mask = np.full((len(lengths), 1, count, columns), -np.inf)
    for row, length in enumerate(lengths):
        own = np.arange(columns - length, columns) if right else np.arange(length)  # the column of each of its positions
        for i in range(count):
            mask[row, 0, i, own[: length - count + i + 1]] = 0
    return mask
