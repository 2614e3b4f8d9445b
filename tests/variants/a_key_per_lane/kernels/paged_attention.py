from functools import partial


def paged_attention_split(
    q: mx.array,
    k_pool: mx.array,
    v_pool: mx.array,
    tables: Tables,
    lengths: Lengths,
    scale: float | None = None,
    parts: int = 8,
) -> mx.array:
    if not 0 < parts < MOST_PARTS + 1:
        raise ValueError(f"a row can't be cut into {parts}")
    out, lse = attend_in_parts(q, k_pool, v_pool, tables, lengths, scale, parts=parts, dtype=mx.float32)
    found = [(out[:, :, part], lse[:, :, part, None]) for part in range(parts)]
    while len(found) > 1:
        (first, first_lse), (second, second_lse), *found = found
        share = mx.sigmoid(first_lse - second_lse)
        found.append((share * first + (1 - share) * second, mx.logaddexp(first_lse, second_lse)))
    return found[0][0][:, :, None].astype(q.dtype)


def choose_parts(rows: int, kv_heads: int, tokens: int) -> int:
    threadgroups = rows * kv_heads
    if threadgroups >= ENOUGH_THREADGROUPS or tokens < 2 * LEAST_PART:
        return 1
    return min(2 * choose_parts(2 * rows, kv_heads, tokens // 2), MOST_PARTS)


def paged_attention(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    if q.ndim != 4 or q.shape[2] != 1:
        return paged_attention_prefill(q, k_pool, v_pool, tables, lengths, scale)
    width = tables.shape[-1] if isinstance(tables, mx.array) else max(len(table) for table in tables)
    parts = choose_parts(q.shape[0], k_pool.shape[0], width * k_pool.shape[2])
    attend = paged_attention_decode if parts == 1 else partial(paged_attention_split, parts=parts)
    return attend(q, k_pool, v_pool, tables, lengths, scale)
