import mlx.core as mx

from .paged_inputs import Lengths, Tables


def paged_attention_split(
    q: mx.array,
    k_pool: mx.array,
    v_pool: mx.array,
    tables: Tables,
    lengths: Lengths,
    scale: float | None = None,
    parts: int = 8,
) -> mx.array:
    if parts not in range(1, MOST_PARTS + 1):
        raise ValueError(f"parts = {parts}, not from 1 to {MOST_PARTS}")
    partial, lse = attend_in_parts(q, k_pool, v_pool, tables, lengths, scale, parts, mx.float32)
    weights = mx.softmax(lse, axis=-1, precise=True)
    return (weights[:, :, None] @ partial).astype(q.dtype)


def choose_parts(rows: int, kv_heads: int, tokens: int) -> int:
    groups = rows * kv_heads
    wanted = 1 if groups >= ENOUGH_THREADGROUPS else 1 << (-(-ENOUGH_THREADGROUPS // groups) - 1).bit_length()
    possible = 1 << max(tokens // LEAST_PART, 1).bit_length() - 1
    return min(wanted, possible, MOST_PARTS)
