import math

_ROWS = 8


def matvec_thread(x: mx.array, weight: QuantizedWeight) -> mx.array:
    columns, K = weight.shape
    threads = -(-columns // 32) * 32
    return _launch(_THREAD, x, weight, (x.size // K, threads, 1), (1, 32, 1))


def matvec_simd(x: mx.array, weight: QuantizedWeight) -> mx.array:
    columns, K = weight.shape
    return _launch(_SIMD, x, weight, (32, columns, x.size // K), (32, 1, 1))


def matvec_vector(x: mx.array, weight: QuantizedWeight) -> mx.array:
    columns, K = weight.shape
    if math.prod(weight.weight.shape) < 8:
        return matvec_simd(x, weight)
    return _launch(_VECTOR, x, weight, (32, (columns + _ROWS - 1) // _ROWS, x.size // K), (32, 4, 1), ROWS=_ROWS)
