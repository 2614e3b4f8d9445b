"""Task 6: masks for rows of different lengths. Rows may be at the left or at the right (see `alignment.py`)."""

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import assert_close, attention64
from support import refuses
from week2.day6_continuous_batching.alignment import requests_at, rows_stand_right, seen_columns


def mask_of(offsets: list[int], columns: int) -> mx.array:
    """The mask of the answer, which has to be an array."""
    try:
        mask = answer.create_batch_mask(requests_at(*offsets), columns)
    except ValueError as error:
        raise AssertionError(f"offsets {offsets} are all inside {columns} columns, but there was {error!r}") from error
    assert isinstance(mask, mx.array), f"offsets {offsets}, {columns} columns: a mask is an array, always; got {mask!r}"
    return mask


def assert_sees(mask: mx.array, offsets: list[int], columns: int) -> None:
    """Row i sees the columns of its own positions 0 … offset, and no others."""
    assert mask.shape == (len(offsets), 1, 1, columns), (
        f"{len(offsets)} requests and {columns} columns: the shape should be {(len(offsets), 1, 1, columns)} (batch, head,"
        f" query, key; the middle two broadcast over heads and the one query), not {mask.shape}"
    )
    right = rows_stand_right()
    side = "at the right" if right else "from column 0 on"
    for row, offset in enumerate(offsets):
        seen = np.flatnonzero(np.array(mask[row, 0, 0]) == 0).tolist()
        want = list(seen_columns(offset, columns, right))
        assert seen == want, (
            f"offsets {offsets}, {columns} columns, rows are {side}: row {row}, whose token is at position {offset}, should"
            f" see columns {want[0]} … {want[-1]}, itself included, but sees {seen}. Other columns belong to longer rows,"
            " or to an earlier owner of the slot"
        )


@pytest.mark.parametrize(
    ("offsets", "columns"),
    [([2, 0, 4], 5), ([0], 1), ([4], 5), ([4, 4, 4], 5), ([0, 1, 2, 3], 4), ([3, 0, 3, 1], 4), ([7, 30, 7], 300)],
    ids=str,
)
def test_task_6_a_row_sees_its_own_positions_only(offsets: list[int], columns: int) -> None:
    assert_sees(mask_of(offsets, columns), offsets, columns)


def test_task_6_shape_and_values() -> None:
    mask = mask_of([3, 1], 6)
    assert mask.shape == (2, 1, 1, 6), (
        f"batch, head, query, key: the middle two broadcast over heads and the one query, so (2, 1, 1, 6), not {mask.shape}"
    )
    assert mask.dtype == mx.float32, f"the mask is float32, whatever the model computes in, not {mask.dtype}"
    values = set(np.array(mask).flatten().tolist())
    assert values == {0.0, -np.inf}, f"additive: 0 allows, -inf forbids, nothing in between; got {sorted(values)}"


def test_task_6_where_nothing_is_hidden_all_is_zero() -> None:
    mask = mask_of([5, 5], 6)
    assert mask.dtype == mx.float32, f"the mask is float32 also where nothing is hidden, not {mask.dtype}"
    assert_sees(mask, [5, 5], 6)


@pytest.mark.parametrize("columns", [4, 5, 40])
def test_task_6_more_columns_hide_more(columns: int) -> None:
    assert_sees(mask_of([3], columns), [3], columns)


def test_task_6_each_step_has_a_mask_of_its_own() -> None:
    requests = requests_at(2, 4)
    before = answer.create_batch_mask(requests, 8)
    for request in requests:
        request.offset += 1
    assert_sees(answer.create_batch_mask(requests, 8), [3, 5], 8)
    assert_sees(before, [2, 4], 8)  # a step that is still on its way goes on reading it


def test_task_6_each_batch_has_a_mask_of_its_own() -> None:
    for offsets in ([0, 5, 3], [5, 0, 3], [4, 4, 0], [1, 2, 5], [5, 3], [4, 4], [5, 3]):
        assert_sees(mask_of(offsets, 6), offsets, 6)  # as many rows and columns, and other lengths in another order


def test_task_6_a_row_that_runs_on_after_its_end_sees_what_it_holds() -> None:
    requests = requests_at(3, 1)
    requests[1].finish("cancelled")
    assert_sees(answer.create_batch_mask(requests, 5), [3, 1], 5)  # static batches have such rows, and none may become NaN


def test_task_6_the_position_is_the_offset_whatever_has_come_back() -> None:
    requests = [answer.Request([1, 2, 3], max_tokens=9), answer.Request([4] * 6, max_tokens=9)]
    requests[0].generated_tokens += [5, 6]
    requests[0].offset, requests[1].offset = 6, 1
    mask = answer.create_batch_mask(requests, 8)
    assert_sees(mask, [6, 1], 8)
    assert [request.offset for request in requests] == [6, 1], "a mask looks at requests and changes nothing in them"


@pytest.mark.parametrize("offsets", [(4,), (0, 4), (9, 1), (0, 0, 5, 0)])
def test_task_6_a_token_outside_the_mask_is_refused(offsets: tuple[int, ...]) -> None:
    mask_of([3], 4)  # the last of 4 columns is not outside
    with refuses(ValueError, f"4 columns are for positions 0 … 3, and a token of {offsets} is outside: check all rows"):
        answer.create_batch_mask(requests_at(*offsets), 4)


def test_task_6_whatever_the_hidden_columns_hold_attention_is_the_same() -> None:
    offsets, columns, heads, dim = (6, 2, 9), 10, 2, 4
    random = np.random.default_rng(0)
    q = random.standard_normal((3, heads, 1, dim), dtype=np.float32)
    k, v = random.standard_normal((2, 3, heads, columns, dim), dtype=np.float32)
    own = [list(seen_columns(offset, columns, rows_stand_right())) for offset in offsets]
    for row, seen in enumerate(own):  # what an earlier owner left, loud enough to be heard through any mistake
        hidden = np.setdiff1d(np.arange(columns), seen)
        k[row, :, hidden] = 30
        v[row, :, hidden] = 1000
    mask = mask_of(list(offsets), columns)
    together = mx.fast.scaled_dot_product_attention(mx.array(q), mx.array(k), mx.array(v), scale=0.5, mask=mask)
    for row, seen in enumerate(own):
        want = attention64(q[row : row + 1], k[row : row + 1, :, seen], v[row : row + 1, :, seen], 0.5)
        assert_close(together[row : row + 1], want, f"row {row} should attend over exactly its own tokens")
