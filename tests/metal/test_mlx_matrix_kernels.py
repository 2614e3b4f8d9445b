"""MLX's own kernels for matrix products under the CPU runner; see test_mlx_kernels.py."""

import math

import mlx.core as mx
import pytest

from metal.mlx_kernels import EPSILON, assert_close, each_dtype, header, launch, name_of, random, rounding


@each_dtype
def test_steel_gemm(T: mx.Dtype) -> None:
    M, N, K, tile, depth = 70, 64, 96, 64, 16
    a, b = random(M, K, dtype=T, seed=1), random(K, N, dtype=T, seed=2)
    constants = dict.fromkeys(["has_batch", "use_out_source", "do_axpby", "align_M"], False) | {
        "align_N": True,
        "align_K": True,
    }
    body = f"""
        mlx::steel::GEMMParams params = {{
            {M}, {N}, {K}, {K}, {N}, {N}, {N // tile}, {math.ceil(M / tile)}, 0, 0, 0, 0, {K // depth}, 0}};
        mlx::steel::GEMMAddMMParams not_used = {{0, 0, 0, 0.0f, 0.0f}};
        gemm<T, {tile}, {tile}, {depth}, 2, 2, false, false>(
            a, b, nullptr, y, &params, &not_used, nullptr, nullptr, thread_index_in_simdgroup, simdgroup_index_in_threadgroup,
            threadgroup_position_in_grid, thread_position_in_threadgroup);"""
    head = header("steel/gemm/gemm", "steel/gemm/kernels/steel_gemm_fused", constants=constants)
    want = a.astype(mx.float32) @ b.astype(mx.float32)
    groups = (N // tile, math.ceil(M / tile), 1)
    for [y] in launch(head, body, {"a": a, "b": b}, {"y": ((M, N), T)}, groups, (32, 2, 2), T=T):
        assert_close(y, want, rounding(T, K))


GROUP_SIZE = 64


def quantized(N: int, K: int, bits: int, T: mx.Dtype) -> tuple[dict[str, mx.array], mx.array]:
    """A matrix as the kernels get it, and its numbers in float32."""
    w, scales, biases = mx.quantize(random(N, K, seed=5), group_size=GROUP_SIZE, bits=bits)
    scales, biases = scales.astype(T), biases.astype(T)
    full = mx.dequantize(w, scales.astype(mx.float32), biases.astype(mx.float32), group_size=GROUP_SIZE, bits=bits)
    return {"w": w, "scales": scales, "biases": biases}, full


QUANTIZED = header("steel/gemm/gemm", "quantized_utils", "quantized")
NO_BATCH = "0, nullptr, nullptr, 0, nullptr, nullptr, nullptr, nullptr"  # numbers of batch dimensions, shapes and strides


@pytest.mark.parametrize(
    ("kernel", "N", "K", "bits", "T"),
    [
        ("affine_qmv_fast", 24, 1024, 4, mx.float32),
        ("affine_qmv_fast", 24, 1024, 4, mx.float16),
        ("affine_qmv_fast", 24, 1024, 4, mx.bfloat16),
        ("affine_qmv_fast", 24, 1024, 8, mx.float32),
        ("affine_qmv_fast", 24, 1024, 8, mx.bfloat16),
        ("affine_qmv", 21, 192, 4, mx.float32),
        ("affine_qmv", 21, 192, 8, mx.float16),
    ],
    ids=name_of,
)
def test_quantized_matrix_times_vector(kernel: str, N: int, K: int, bits: int, T: mx.Dtype) -> None:
    rows = 2
    arrays, full = quantized(N, K, bits, T)
    arrays["x"] = random(rows, K, dtype=T, seed=6)
    body = f"""
        {kernel}<T, {GROUP_SIZE}, {bits}, false>(
            w, scales, biases, x, y, {K}, {N}, {NO_BATCH},
            threadgroup_position_in_grid, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);"""
    want = arrays["x"].astype(mx.float32) @ full.T
    for [y] in launch(QUANTIZED, body, arrays, {"y": ((rows, N), T)}, (rows, math.ceil(N / 8), 1), (32, 2, 1), T=T):
        assert_close(y, want, rounding(T, K))


@pytest.mark.parametrize(("bits", "T"), [(4, mx.float32), (8, mx.float16), (4, mx.bfloat16)], ids=name_of)
def test_quantized_matrix_times_matrix(bits: int, T: mx.Dtype) -> None:
    M, N, K = 40, 64, 128
    arrays, full = quantized(N, K, bits, T)
    arrays["x"] = random(M, K, dtype=T, seed=6)
    body = f"""
        affine_qmm_t<T, {GROUP_SIZE}, {bits}, true, false>(
            w, scales, biases, x, y, {K}, {N}, {M}, {NO_BATCH}, threadgroup_position_in_grid,
            thread_index_in_threadgroup, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);"""
    want = arrays["x"].astype(mx.float32) @ full.T
    groups = (math.ceil(N / 32), math.ceil(M / 32), 1)
    for [y] in launch(QUANTIZED, body, arrays, {"y": ((M, N), T)}, groups, (32, 2, 2), T=T):
        # The kernel rounds each number of the matrix to T: in half precision twice, the product and the sum.
        assert_close(y, want, rounding(T, K) + 2 * EPSILON[T])


@pytest.mark.parametrize(("bits", "T"), [(4, mx.float32), (8, mx.float32), (4, mx.bfloat16)], ids=name_of)
def test_quantize_and_dequantize(bits: int, T: mx.Dtype) -> None:
    N, K = 8, 256
    x = random(N, K, dtype=T)
    each = GROUP_SIZE // 32  # numbers that a thread quantizes
    position = "thread_position_in_grid.xy, threads_per_grid.xy"
    body = f"affine_quantize<T, {GROUP_SIZE}, {bits}>(x, w, scales, biases, {position});"
    groups = (N, K // GROUP_SIZE)
    outputs = {"w": ((N, K * bits // 8), mx.uint8), "scales": (groups, T), "biases": (groups, T)}
    want = mx.quantize(x, group_size=GROUP_SIZE, bits=bits)
    for w, scales, biases in launch(QUANTIZED, body, {"x": x}, outputs, (N * K // each // 64, 1, 1), (64, 1, 1), T=T):
        assert_close(scales, want[1], EPSILON[T])
        assert_close(biases, want[2], EPSILON[T])
        back = f"affine_dequantize<T, {GROUP_SIZE}, {bits}>(w, scales, biases, y, {position});"
        packed = {"w": w, "scales": scales, "biases": biases}
        per_byte = 8 // bits
        for [y] in launch(QUANTIZED, back, packed, {"y": ((N, K), T)}, (N * K // per_byte // 64, 1, 1), (64, 1, 1), T=T):
            whole = mx.dequantize(w.view(mx.uint32), scales, biases, group_size=GROUP_SIZE, bits=bits)
            assert_close(y, whole, EPSILON[T])
            assert_close(y, x, 2 / (2**bits - 1) + EPSILON[T])  # one step, of a group that reaches from -max to max
