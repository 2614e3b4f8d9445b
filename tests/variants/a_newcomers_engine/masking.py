from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .request import Request


@task(week=2, day=6, number=6)
def create_batch_mask(requests: Sequence[Request], max_seq_len: int) -> mx.array:
    offsets = [request.offset for request in requests]
    if any(offset >= max_seq_len for offset in offsets):
        raise ValueError(f"a token at position {max(offsets)} stands outside of {max_seq_len} columns")
    last_seen = mx.array(offsets).reshape(-1, 1, 1, 1)
    return mx.where(mx.arange(max_seq_len) <= last_seen, mx.array(0.0), mx.array(-mx.inf))
