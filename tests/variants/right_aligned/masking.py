"""Masks for a batch whose rows have different lengths, and stand at the right."""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .request import Request


@task(week=2, day=6, number=6)
def create_batch_mask(requests: Sequence[Request], max_seq_len: int) -> mx.array:
    """Row i may see the last `offset + 1` of the `max_seq_len` columns: float32 `(B, 1, 1, S)`, 0 there, −inf elsewhere."""
    before = [max_seq_len - 1 - request.offset for request in requests]
    if min(before, default=0) < 0:
        raise ValueError(f"a request's token stands outside a mask of {max_seq_len} columns")
    allowed = mx.arange(max_seq_len) >= mx.array(before).reshape(-1, 1, 1, 1)
    return mx.where(allowed, 0.0, -mx.inf)
