"""Task 6: masks for rows of different lengths."""

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer


def rows_at(*offsets: int) -> list[Any]:
    """Requests whose next token stands at these positions."""
    return [SimpleNamespace(request_id=row, offset=offset) for row, offset in enumerate(offsets)]


def test_task_6_a_row_sees_its_own_positions_only() -> None:
    mask = np.array(answer.create_batch_mask(rows_at(2, 0, 4), 5))
    expected = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
    assert ((mask[:, 0, 0] == 0) == expected).all(), (
        "a token at position p sees columns 0 … p, itself included: p + 1 of them. Columns behind belong to longer rows or to"
        " an earlier owner of the slot"
    )


def test_task_6_shape_and_values() -> None:
    mask = answer.create_batch_mask(rows_at(3, 1), 6)
    assert mask.shape == (2, 1, 1, 6), "batch, head, query, key: the middle two broadcast over heads and the one query"
    assert mask.dtype == mx.float32
    assert set(np.array(mask).flatten().tolist()) == {0.0, -np.inf}, "additive: 0 allows, -inf forbids, nothing in between"


@pytest.mark.parametrize("columns", [4, 5, 40])
def test_task_6_more_columns_hide_more(columns: int) -> None:
    mask = np.array(answer.create_batch_mask(rows_at(3), columns))
    assert (mask[0, 0, 0] == 0).sum() == 4
    assert mask.shape[-1] == columns


@pytest.mark.parametrize("offsets", [(4,), (0, 4), (9, 1)])
def test_task_6_a_token_outside_the_mask_is_refused(offsets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        answer.create_batch_mask(rows_at(*offsets), 4)


def test_task_6_whatever_the_hidden_columns_hold_attention_is_the_same() -> None:
    offsets, columns, heads, dim = (6, 2, 9), 10, 2, 4
    random = np.random.default_rng(0)
    q = random.standard_normal((3, heads, 1, dim), dtype=np.float32)
    k, v = random.standard_normal((2, 3, heads, columns, dim), dtype=np.float32)
    for row, offset in enumerate(offsets):  # what an earlier owner left, loud enough to be heard through any mistake
        k[row, :, offset + 1 :] = 30
        v[row, :, offset + 1 :] = 1000
    mask = answer.create_batch_mask(rows_at(*offsets), columns)
    q, k, v = mx.array(q), mx.array(k), mx.array(v)
    together = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.5, mask=mask)
    for row, offset in enumerate(offsets):
        seen = slice(offset + 1)
        own = mx.fast.scaled_dot_product_attention(q[row][None], k[row][None, :, seen], v[row][None, :, seen], scale=0.5)
        # Means of at most 10 float32 values of size 1.
        np.testing.assert_allclose(
            np.array(together[row]), np.array(own[0]), atol=1e-5, err_msg=f"row {row} does not see exactly its own tokens"
        )
