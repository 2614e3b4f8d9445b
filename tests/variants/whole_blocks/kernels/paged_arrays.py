import mlx.core as mx

from .paged_inputs import Lengths, Tables, check_paged


def paged_attention_arrays(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    tables, lengths = check_paged(q, k_pool, v_pool, tables, lengths)
    batch, heads, queries, dim = q.shape
    kv_heads, _, block_size, _ = k_pool.shape
    used = mx.arange(tables.shape[1]) * block_size < lengths[:, None]
    names = mx.where(used, tables, tables[:, :1])
    held = (mx.arange(tables.shape[1] * block_size) < lengths[:, None])[:, None, :, None]

    def rows(pool: mx.array) -> mx.array:
        together = mx.take(pool, names, axis=1).swapaxes(0, 1)
        return mx.where(held, together.reshape(batch, kv_heads, -1, dim), mx.array(0, dtype=pool.dtype))

    positions = mx.arange(held.shape[2])
    own = (lengths[:, None] - queries + mx.arange(queries))[:, None, :, None]
    grouped = q.reshape(batch, kv_heads, heads // kv_heads, queries, dim)
    scores = grouped @ rows(k_pool)[:, :, None].swapaxes(-1, -2) * (dim**-0.5 if scale is None else scale)
    scores = mx.where((positions <= own)[:, :, None], scores, -mx.inf)
    out: mx.array = mx.softmax(scores, axis=-1, precise=True) @ rows(v_pool)[:, :, None]
    return out.reshape(q.shape).astype(q.dtype)
