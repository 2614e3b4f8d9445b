def paged_attention_arrays(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    tables, lengths = check_paged(q, k_pool, v_pool, tables, lengths)
    batch, _, queries, dim = q.shape
    kv_heads, _, block_size, _ = k_pool.shape
    scale = dim**-0.5 if scale is None else scale
    rows = q.astype(mx.float32).reshape(batch, kv_heads, -1, queries, dim) * scale
    ends = lengths.reshape(-1, 1, 1, 1, 1)
    own = ends - queries + mx.arange(queries)[:, None]
    m, sums, out = mx.full((*rows.shape[:-1], 1), -3e38), mx.zeros((*rows.shape[:-1], 1)), mx.zeros(rows.shape)
    for entry in range(tables.shape[1]):  # online softmax, a block of each row at a time
        first = entry * block_size
        blocks = mx.where(first < lengths, tables[:, entry], tables[:, 0])
        positions = mx.arange(first, first + block_size)
        filled = (positions < ends).swapaxes(-1, -2)
        keys, values = (
            mx.where(filled, pool[:, blocks].swapaxes(0, 1)[:, :, None], mx.zeros((), dtype=pool.dtype)).astype(mx.float32)
            for pool in (k_pool, v_pool)
        )
        scores = mx.where(positions <= own, rows @ keys.swapaxes(-1, -2), -mx.inf)
        m_new = mx.maximum(m, scores.max(axis=-1, keepdims=True))
        factor, weights = mx.exp(m - m_new), mx.exp(scores - m_new)
        m, sums = m_new, sums * factor + weights.sum(axis=-1, keepdims=True)
        out = out * factor + weights @ values
    return (out / sums).reshape(q.shape).astype(q.dtype)
