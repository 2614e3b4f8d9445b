def paged_attention_arrays(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    tables, lengths = check_paged(q, k_pool, v_pool, tables, lengths)
    rows = []
    for row, length in enumerate(lengths.tolist()):
        blocks = tables[row, : -(-length // k_pool.shape[2])]
        keys, values = (mx.flatten(mx.take(pool, blocks, axis=1), 1, 2)[None, :, :length] for pool in (k_pool, v_pool))
        rows.append(grouped_query_attention(q[row : row + 1], keys, values, scale, "causal"))
    return mx.concatenate(rows)
