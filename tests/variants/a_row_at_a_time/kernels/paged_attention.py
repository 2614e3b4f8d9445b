def paged_attention_split(
    q: mx.array,
    k_pool: mx.array,
    v_pool: mx.array,
    tables: Tables,
    lengths: Lengths,
    scale: float | None = None,
    parts: int = 8,
) -> mx.array:
    if parts < 1:
        raise ValueError(f"parts = {parts}: there is at least one")
    if parts > MOST_PARTS:
        raise ValueError(f"parts = {parts}: there are at most {MOST_PARTS}")
    found = attend_in_parts(q, k_pool, v_pool, tables, lengths, scale, parts, mx.float32)
    D = q.shape[-1]
    rows = q.size // D
    merged = _MERGE(
        inputs=list(found),
        output_shapes=[(rows, D)],
        output_dtypes=[q.dtype],
        grid=(32 * rows, 1, 1),
        threadgroup=(32, 1, 1),
        template=[("T", q.dtype), ("D", D), ("PARTS", parts)],
    )
    return merged[0].reshape(q.shape)


def choose_parts(rows: int, kv_heads: int, tokens: int) -> int:
    candidates = [1 << power for power in range(MOST_PARTS.bit_length())]
    good = [
        parts for parts in candidates if parts * LEAST_PART <= tokens and parts // 2 * rows * kv_heads < ENOUGH_THREADGROUPS
    ]
    return max(good, default=1)


def paged_attention(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    arrays = check_paged(q, k_pool, v_pool, tables, lengths)
    if q.shape[2] != 1:
        return paged_attention_prefill(q, k_pool, v_pool, *arrays, scale)
    kv_heads, _, block_size, _ = k_pool.shape
    parts = choose_parts(rows=len(q), kv_heads=kv_heads, tokens=arrays[0].shape[1] * block_size)
    if parts > 1:
        return paged_attention_split(q, k_pool, v_pool, *arrays, scale, parts)
    return paged_attention_decode(q, k_pool, v_pool, *arrays, scale)
