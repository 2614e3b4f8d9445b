"""Paged attention with plain arrays: the blocks are gathered into one array, and week 1's attention does the rest."""

import mlx.core as mx

from tiny_llm_kit.course import task

from ..attention import grouped_query_attention
from .paged_inputs import Lengths, Tables, check_paged


@task(week=3, day=2, number=1)
def paged_attention_arrays(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    """softmax(q kᵀ · scale + mask) v, where row b's keys and values are in the blocks that its table names.

    Position p of row b is in block `tables[b][p // block_size]`, at place `p % block_size`. Keys and values are copied once;
    what lies at or beyond a row's length is not copied, so it may hold anything, even NaN.

    Args:
        q: `(B, H, L, D)`: the last L tokens of each row. Query i of row b is at position lengths[b] − L + i, and sees the
            positions up to and including its own.
        k_pool, v_pool: `(KV, N, block_size, D)`, of q's dtype. Query head h reads head h // (H / KV).
        tables: `(B, blocks)`, integers. What follows the blocks that a row's length needs may be any number.
        lengths: `(B,)`, how many tokens each row holds, including those of its queries: from L to blocks · block_size.
        scale: 1/√D when None.
    Returns:
        `(B, H, L, D)`, of q's dtype.
    Raises:
        ValueError: if shapes or dtypes do not fit; if tables and lengths are lists, also if a table is too short for its
            length, or names a block that the pool does not have.
    """
    tables, lengths = check_paged(q, k_pool, v_pool, tables, lengths)
    kv_heads, num_blocks, block_size, dim = k_pool.shape
    slots = (tables[:, :, None] * block_size + mx.arange(block_size)).reshape(len(tables), -1)
    positions = mx.arange(slots.shape[1])
    # A row's first token stands in for those that it does not have: the mask hides numbers, but not NaN.
    slots = mx.where(positions < lengths[:, None], slots, slots[:, :1])
    rows = mx.arange(kv_heads)[:, None] * (num_blocks * block_size) + slots[:, None]  # (B, KV, S)
    keys, values = (pool.reshape(-1, dim)[rows] for pool in (k_pool, v_pool))
    own = lengths[:, None] - q.shape[2] + mx.arange(q.shape[2])  # the queries' positions
    mask = mx.where(positions <= own[..., None], 0.0, -mx.inf)[:, None]
    return grouped_query_attention(q, keys, values, scale, mask)
