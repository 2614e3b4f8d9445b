"""Small Metal kernels that between them use all that the translation to CUDA knows, each with a launch."""

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from metal.mlx_cuda import Size, Template
from metal_anywhere import metal_kernel
from metal_anywhere.signature import ATTRIBUTES
from oracles import normal

DTYPES = (mx.float32, mx.float16, mx.bfloat16)


@dataclass(frozen=True)
class Case:
    """A kernel with one output `out`, and a launch of it. Sums of its numbers are exact, in any order."""

    source: str
    inputs: dict[str, mx.array] = field(default_factory=dict)
    template: Template = ()
    shape: tuple[int, ...] = (32,)
    dtype: mx.Dtype = mx.float32
    grid: Size = (32, 1, 1)
    threadgroup: Size = (32, 1, 1)
    definition: dict[str, Any] = field(default_factory=dict)
    init_value: float | None = None

    def run(self) -> mx.array:
        kernel = metal_kernel(
            name="kernel", input_names=list(self.inputs), output_names=["out"], source=self.source, **self.definition
        )
        (out,) = kernel(
            inputs=list(self.inputs.values()),
            template=list(self.template),
            grid=self.grid,
            threadgroup=self.threadgroup,
            output_shapes=[self.shape],
            output_dtypes=[self.dtype],
            init_value=self.init_value,
        )
        return out


def small_integers(*shape: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    return mx.array(np.random.default_rng(0).integers(-4, 5, shape)).astype(dtype)


def each_lane(*expressions: str) -> str:
    """A body in which thread i writes these, one after the other, into its row of `out`."""
    start = "uint i = thread_position_in_grid.x, column = 0;\n"
    return start + "".join(f"out[i * {len(expressions)} + column++] = {expression};\n" for expression in expressions)


NUMBERS = [
    number
    for name, kind in ATTRIBUTES.items()
    for number in ([name] if kind == "uint" else [f"{name}.{axis}" for axis in "xyz"])
]


def attributes(grid: Size, threadgroup: Size) -> Case:
    source = """
uint3 p = thread_position_in_grid, n = threads_per_grid;
device uint* row = out + ((p.z * n.y + p.y) * n.x + p.x) * COLUMNS;
""" + "".join(f"row[{i}] = {number};\n" for i, number in enumerate(NUMBERS))
    shape = (*grid[::-1], len(NUMBERS))
    return Case(source, {}, [("COLUMNS", len(NUMBERS))], shape, mx.uint32, grid, threadgroup)


LANES = (
    *("simd_sum(v)", "simd_max(v)", "simd_min(v)", "simd_product(v == T(0) ? T(1) : T(v / v))"),
    *("simd_prefix_inclusive_sum(v)", "simd_prefix_exclusive_sum(v)", "simd_prefix_exclusive_product(T(i < 2 ? 3 : 1))"),
    *("simd_prefix_inclusive_product(T(i < 2 ? 3 : 1))", "simd_shuffle(v, 31 - i)", "simd_shuffle_xor(v, 5)"),
    *("simd_broadcast(v, 7)", "T(i < 3 ? 0 : 1) * simd_shuffle_up(v, 3)"),
    "T(i < 29 ? 1 : 0) * simd_shuffle_down(v, 3)",
    *("T(simd_all(v < T(5)))", "T(simd_all(v < T(1)))", "T(simd_any(v > T(3)))", "T(simd_any(v > T(5)))"),
)


def lanes(dtype: mx.Dtype) -> Case:
    source = "T v = x[thread_position_in_grid.x];\n" + each_lane(*LANES)
    return Case(source, {"x": small_integers(32, dtype=dtype)}, [("T", dtype)], (32, len(LANES)), dtype)


MATRICES = """
simdgroup_matrix<T, 8, 8> a, b, transposed;
simdgroup_load(a, x, 20, ulong2(9, 1));
simdgroup_load(b, x, 20);
simdgroup_load(transposed, x, 20, ulong2(3, 2), true);
simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(2.0f);
simdgroup_multiply_accumulate(sum, a, b, sum);
simdgroup_store(sum, out, 8);
simdgroup_multiply(sum, transposed, b);
simdgroup_store(sum, out + 64, 8, ulong2(0, 0), true);
uint lane = thread_index_in_simdgroup;
out[128 + 2 * lane] = float(a.thread_elements()[0]);
out[129 + 2 * lane] = float(a.thread_elements()[1]);
simdgroup_store(simdgroup_float8x8(3.0f), out + 192, 8);
"""

SCALARS = (
    *("float(h * h)", "float(h + 1.5f)", "2.0f - h", "float(h * 3)", "float(h / i_)", "float(h) * 0.1", "h < 1.0f", "2 > h"),
    *("float(T(7) / T(3))", "float(max(h, T(0)))", "clamp(float(h), -1.0, 1.0)", "abs(i_)", "min(2, i_)", "-h"),
    *("select(1.0f, 2.0f, h > T(0))", "as_type<float>(0x3f800000u + i)", "float(numeric_limits<T>::infinity() > h)"),
    *("isnan(h / h - h / h) ? 1.0f : 2.0f", "float(half(0.1f)) + float(bfloat(0.1f))", "INFINITY > h"),
    *("sum", "(16777216.0 + sum / sum) - 16777216.0"),  # 0 in float, 1 in double
)
MIX_SCALARS = f"""
T h = x[thread_position_in_grid.x];
int i_ = int(h) + 9;
float sum = 1.0;
sum += h;
h *= 2;
h -= 0.5f;
{each_lane(*SCALARS)}"""

VECTORS = each_lane(
    *("sum.x", "sum.y", "sum.z", "sum.w", "dot(v, w)", "pair.x + pair.y", "float(halves.w)", "three[2]", "float(bits.x)"),
)
VECTORS = f"""
uint n = thread_position_in_grid.x;
float4 v = *(const device float4*)(x + 4 * n), w = float4(1, 2.0f, 0.5, n);
float4 sum = (v + w) * 2.0f - 0.5f * v;
sum += w; sum.x -= 1; sum = -sum / 2;
float2 pair = float2(v.x, v.w) * float2(3);
half4 halves = half4(v);
float3 three = 7.0f + float3(v.x, v.y, v.z);
uint2 bits = (uint2(n, 5) << uint2(2)) | uint2(1, 1);
{VECTORS}"""

FUNCTIONS = (
    *("exp", "exp2", "log", "log2", "log10", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "floor", "ceil", "round"),
    *("rint", "fabs", "sign", "saturate", "metal::exp", "fast::exp", "fast::exp2", "fast::log", "precise::exp"),
)
MATH = [f"float({function}(v))" for function in FUNCTIONS]
MATH += ["float(pow(v, T(2)))", "float(fma(v, v, T(1)))", "float(fmod(v, T(0.75f)))", "float(fmax(v, T(1)))"]

THREADGROUP = """
threadgroup T shared[8], last[1];  // filled by all, and read from the other end
uint i = thread_position_in_threadgroup.x, n = threads_per_threadgroup.x;
shared[i] = x[thread_position_in_grid.x] * 1.5;
if (i + 1 == n) last[0] = T(n);
threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
threadgroup T* backwards = &shared[n - 1];
out[thread_position_in_grid.x] = *(backwards - i) + last[0];
"""

HEADER = """
#include <metal_stdlib>
using namespace metal;
METAL_FUNC float half_of(float x) { return x * 0.5; }
template <typename T> METAL_FUNC void swap(thread T& a, thread T& b) { T c = a; a = b; b = c; }
"""

CASES = {
    "attributes": attributes((12, 4, 2), (4, 2, 1)),
    "attributes of smaller threadgroups at the edge": attributes((10, 5, 3), (4, 2, 2)),
    "a threadgroup larger than the grid": attributes((10, 1, 1), (256, 1, 1)),
    "lanes": lanes(mx.float32),
    "lanes in half precision": lanes(mx.float16),
    "lanes in bfloat": lanes(mx.bfloat16),
    "lanes of integers": lanes(mx.int32),
    "lanes of vectors": Case(
        """
uint i = thread_position_in_grid.x;
float4 v = simd_shuffle_xor(((const device float4*)x)[i], 1);
out[i] = dot(v, v);""",
        {"x": small_integers(128)},
    ),
    "a whole SIMD group at the edge": Case("out[thread_position_in_grid.x] = simd_sum(1.0f);", shape=(96,), grid=(96, 1, 1)),
    "matrices": Case(MATRICES, {"x": small_integers(20, 20)}, [("T", mx.float32)], (256,)),
    "matrices of half": Case(MATRICES, {"x": small_integers(20, 20, dtype=mx.float16)}, [("T", mx.float16)], (256,)),
    "matrices of bfloat": Case(MATRICES, {"x": small_integers(20, 20, dtype=mx.bfloat16)}, [("T", mx.bfloat16)], (256,)),
    **{
        f"scalars, {dtype}": Case(MIX_SCALARS, {"x": normal(32, seed=1, dtype=dtype)}, [("T", dtype)], (32, len(SCALARS)))
        for dtype in DTYPES
    },
    "vectors": Case(VECTORS, {"x": small_integers(128)}, shape=(32, 9)),
    **{
        f"math, {dtype}": Case(
            f"T v = x[thread_position_in_grid.x];\n{each_lane(*MATH)}",
            {"x": mx.abs(normal(32, seed=2)).astype(dtype)},
            [("T", dtype)],
            (32, len(MATH)),
        )
        for dtype in DTYPES
    },
    "threadgroup memory": Case(
        THREADGROUP, {"x": small_integers(21)}, [("T", mx.float32)], (21,), mx.float32, (21, 1, 1), (8, 1, 1)
    ),
    "threadgroup memory of half": Case(
        THREADGROUP, {"x": small_integers(21, dtype=mx.float16)}, [("T", mx.float16)], (21,), mx.float16, (21, 1, 1), (8, 1, 1)
    ),
    "numbers without axes": Case(
        "uint i = thread_position_in_grid.x;\nout[i] = y ? s * float(i) + float(h) : 0.0f;",
        {"s": mx.array(3.0), "h": mx.array(0.5, dtype=mx.float16), "y": mx.array(True)},
    ),
    "strides": Case(
        "uint i = thread_position_in_grid.x;\nout[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)] + x_shape[0] + x_ndim;",
        {"x": small_integers(8, 4).T},
        definition={"ensure_row_contiguous": False},
    ),
    "atomic outputs": Case(
        "atomic_fetch_add_explicit(&out[thread_position_in_grid.x % 4], x[thread_position_in_grid.x], memory_order_relaxed);",
        {"x": small_integers(32)},
        shape=(4,),
        definition={"atomic_outputs": True},
        init_value=1.0,
    ),
    "atomics in threadgroup memory": Case(
        """
threadgroup atomic<uint> count[1];
if (thread_position_in_threadgroup.x == 0) atomic_store_explicit(&count[0], 0u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
atomic_fetch_max_explicit(&count[0], thread_position_in_grid.x, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
out[thread_position_in_grid.x] = atomic_load_explicit(&count[0], memory_order_relaxed);""",
        dtype=mx.uint32,
        threadgroup=(8, 1, 1),
    ),
    "a header of its own": Case(
        "uint i = thread_position_in_grid.x;\nfloat a = half_of(i), b = 9; swap(a, b);\nout[i] = a - metal::max(b, 2.0f);",
        definition={"header": HEADER},
    ),
}
