_ROWS = 2


def matvec_thread(x: mx.array, weight: QuantizedWeight) -> mx.array:
    results = x.size // weight.shape[1] * weight.shape[0]
    return _launch(_THREAD, x, weight, grid=(results, 1, 1), threadgroup=(128, 1, 1))


def matvec_simd(x: mx.array, weight: QuantizedWeight) -> mx.array:
    results = x.size // weight.shape[1] * weight.shape[0]
    return _launch(_SIMD, x, weight, grid=(32 * results, 1, 1), threadgroup=(256, 1, 1))


def matvec_vector(x: mx.array, weight: QuantizedWeight) -> mx.array:
    if weight.weight.size < 8:
        return matvec_thread(x, weight)
    teams = x.size // weight.shape[1] * -(-weight.shape[0] // _ROWS)
    return _launch(_VECTOR, x, weight, grid=(32 * teams, 1, 1), threadgroup=(128, 1, 1), ROWS=_ROWS)
