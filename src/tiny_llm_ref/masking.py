"""Masks for a batch whose rows have different lengths."""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .request import Request


@task(week=2, day=6, number=6)
def create_batch_mask(requests: Sequence[Request], max_seq_len: int) -> mx.array:
    """The mask of one decode step: row i may see its own positions 0 … offset, and nothing beyond.

    The token that is being decoded is at position `offset`, so `offset + 1` columns are allowed; the columns after them belong
    to longer neighbours, or are left over from an earlier owner of the slot. Position p is column p: rows are aligned on the
    left, as in what `BatchingKvCache` fetches.

    Args:
        requests: B of them, one per row.
        max_seq_len: S, the columns of the mask.
    Returns:
        Float32 `(B, 1, 1, S)`: 0 where attention is allowed, −inf elsewhere. The axes are batch, head, query, key.
    Raises:
        ValueError: if a request's token is outside the S columns.
    """
    offsets = [request.offset for request in requests]
    if max(offsets, default=-1) >= max_seq_len:
        raise ValueError(f"a request is at position {max(offsets)}, outside a mask of {max_seq_len} columns")
    allowed = mx.arange(max_seq_len) <= mx.array(offsets).reshape(-1, 1, 1, 1)
    return mx.where(allowed, 0.0, -mx.inf)
