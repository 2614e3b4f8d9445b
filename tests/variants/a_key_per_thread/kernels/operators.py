from tiny_llm_kit.machine.fast_math import matmul_transposed


def kernel_linear(x: mx.array, weight: mx.array | QuantizedWeight, bias: mx.array | None = None) -> mx.array:
    if not isinstance(weight, QuantizedWeight):
        return linear(x, weight, bias)
    few = len(x.reshape(-1, weight.shape[1])) <= FEW_ROWS
    product = matvec_vector(x, weight) if few else matmul_transposed(x, dequantize(weight, x.dtype))
    return product + bias if bias is not None else product


def kernel_attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask, lengths: Lengths = None) -> mx.array:
    rows, _, queries, _ = q.shape
    no_array = mask is None or isinstance(mask, str)
    if queries > 1:
        if no_array:
            return flash_attention_simdgroup(q, k, v, scale, mask is not None)
        return grouped_query_attention(q, k, v, scale, mask)
    if lengths is None:
        if not no_array:
            return grouped_query_attention(q, k, v, scale, mask)
        lengths = rows * [k.shape[2]]
    return decode_attention(q, k, v, lengths, scale)
