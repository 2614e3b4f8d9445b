def kernel_linear(x: mx.array, weight: mx.array | QuantizedWeight, bias: mx.array | None = None) -> mx.array:
    if isinstance(weight, mx.array):
        return linear(x, weight, bias)
    flat = x.reshape(-1, x.shape[-1])
    if flat.shape[0] > FEW_ROWS:
        flat = mx.matmul(flat, mx.transpose(dequantize(weight, x.dtype)))
    else:
        flat = matvec_vector(flat, weight)
    if bias is not None:
        flat = flat + bias
    return flat.reshape(*x.shape[:-1], weight.shape[0])


def kernel_attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask, lengths: Lengths = None) -> mx.array:
    match q.shape[2], lengths, mask:
        case 1, None, None | "causal":
            return decode_attention(q, k, v, mx.full((len(q),), k.shape[2], dtype=mx.int32), scale=scale)
        case 1, None, _:
            return grouped_query_attention(q, k, v, scale, mask)
        case 1, _, _:
            return decode_attention(q, k, v, lengths, scale=scale)
        case _, _, None:
            return flash_attention_simdgroup(q, k, v, scale=scale, causal=False)
        case _, _, "causal":
            return flash_attention_simdgroup(q, k, v, scale=scale)
    return grouped_query_attention(q, k, v, scale, mask)
