"""Types, math, vectors and atomics of the CPU runner's Metal library, against NumPy."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from metal.stdlib_checks import THREADS, Check, evaluate, verify
from metal_anywhere import CompileError, cpu_runner, metal_kernel

EPSILON = {mx.float32: 2**-23, mx.float16: 2**-10, mx.bfloat16: 2**-7}
INTEGER = np.random.default_rng(0).integers(-(2**31), 2**31, THREADS, dtype=np.int32)

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "log10": np.log10,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": lambda x: np.arcsin(x - 0.5), "acos": lambda x: np.arccos(x - 0.5), "atan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": lambda x: np.arccosh(x + 1),
    "atanh": lambda x: np.arctanh(x - 0.5), "floor": np.floor, "ceil": np.ceil, "rint": np.rint,
    "round": lambda x: np.floor(x + 0.5), "fabs": np.abs, "abs": np.abs,
    "sign": np.sign, "saturate": lambda x: np.clip(x, 0, 1),
}  # fmt: skip
SHIFTED = {"asin": "v - T(0.5f)", "acos": "v - T(0.5f)", "atanh": "v - T(0.5f)", "acosh": "v + T(1.0f)"}  # into their domain


@pytest.mark.parametrize("T", EPSILON, ids=str)
def test_math_of_scalars_and_vectors(T: mx.Dtype) -> None:
    """x is a multiple of 1/64 between 1/8 and 1 1/8: exact in each type, and so is x - 1/2."""
    x = (np.arange(THREADS) + 8) / 64
    name = {mx.float32: "float", mx.float16: "half", mx.bfloat16: "bfloat"}[T]
    checks: list[Check] = []
    for function, exact in FUNCTIONS.items():
        argument = SHIFTED.get(function, "v").replace("T", name)
        checks.append((f"{function}({argument})", exact(x)))
        of_vector = argument.replace("v", f"vec<{name}, 4>(v)")
        checks.append((f"metal::precise::{function}({of_vector}).w", exact(x)))
    checks += [
        (f"pow(v, {name}(3))", x**3),
        (f"atan2(v, {name}(2))", np.arctan2(x, 2)),
        (f"fmod({name}(1), v)", np.fmod(1, x)),
        (f"copysign(v, {name}(-1))", -x),
        (f"fma(v, v, {name}(1))", x * x + 1),
        ("metal::fast::exp(v)", np.exp(x)),
        (f"max(v, {name}(0.5f))", np.maximum(x, 0.5)),
        (f"min(v, {name}(0.5f))", np.minimum(x, 0.5)),
        (f"clamp(v, {name}(0.25f), {name}(0.5f))", np.clip(x, 0.25, 0.5)),
        (f"max(v, {name}(NAN))", x),
        (f"select(v, {name}(2), v > {name}(0.5f))", np.where(x > 0.5, 2, x)),
        (f"select(vec<{name}, 2>(v), vec<{name}, 2>(2), vec<bool, 2>(true, false)).x", 2),
    ]
    # One rounding to T of an exact value; tan and the inverse functions of the C library are right to 2 units of float32.
    verify(checks, {"x": mx.array(x).astype(T)}, T, tolerance=EPSILON[T] / 2 + 2 * 2**-23, before=f"{name} v = x[i];")


def test_questions_and_limits() -> None:
    checks = [
        ("isnan(NAN) && !isnan(1.0f) && isnan(half(NAN)) && isnan(bfloat(NAN))", 1),
        ("isinf(INFINITY) && isinf(half(INFINITY)) && !isfinite(bfloat(-INFINITY)) && isfinite(1.0f)", 1),
        ("numeric_limits<half>::max()", 65504),
        ("numeric_limits<bfloat>::max()", float(np.float32(3.3895314e38))),
        ("numeric_limits<half>::lowest() + numeric_limits<half>::max()", 0),
        ("numeric_limits<int>::min()", -(2**31)),
        ("numeric_limits<uchar>::max()", 255),
        ("numeric_limits<char>::min()", -128),
        ("-numeric_limits<float>::infinity()", -np.inf),
        ("M_PI_F", np.float32(np.pi)),
        ("is_floating_point_v<bfloat> && is_floating_point_v<half> && !is_floating_point_v<int>", 1),
        ("any(isnan(float4(1, NAN, 2, 3)))", 1),
    ]
    verify(checks, {"x": mx.zeros(THREADS)})


def test_conversions() -> None:
    values = np.array([1.0, -2.5, 1 + 2**-8, 1 + 2**-8 + 2**-16, 65520.0, 1e-8, 3.1415927, -0.0] * 8, np.float32)
    x = mx.array(values)
    bfloat, half = (np.array(x.astype(T).astype(mx.float32)) for T in (mx.bfloat16, mx.float16))
    checks = [
        ("bfloat(x[i])", bfloat),
        ("half(x[i])", half),
        ("float(bfloat(half(x[i])))", np.array(x.astype(mx.float16).astype(mx.bfloat16).astype(mx.float32))),
        ("bfloat(x[i]) + 1", np.array((x.astype(mx.bfloat16) + 1).astype(mx.float32))),
        ("bfloat(x[i]) * x[i]", bfloat * values),  # a float: nothing is rounded to bfloat
        ("half(x[i]) + 1.0h", np.array((x.astype(mx.float16) + 1).astype(mx.float32))),
        ("as_type<uint>(x[i]) >> 16", values.view(np.uint32) >> 16),
        ("as_type<ushort>(bfloat(x[i]))", bfloat.view(np.uint32) >> 16),
        ("as_type<ushort2>(x[i]).y", values.view(np.uint32) >> 16),
        ("1 / 3.0", np.float32(1) / np.float32(3)),  # a literal is a float
        ("uint(3.9f) + int(-3.9f)", 0),
    ]
    verify(checks, {"x": x})


def test_vectors() -> None:
    x = np.random.default_rng(0).integers(-8, 9, (THREADS, 4)).astype(np.float32)
    a, b, c, d = x.T
    before = """
        float4 v = *(const device float4*)(x + 4 * i), w = v;
        w.xy = v.zw;
        w.zw += w.yx * 2;
        float3 u = v.xyz;
        u[1] = 5;
        float2 swapped = v.xy;
        swapped.xy = swapped.yx;
        float4 part = 0;
        part.zw = v.zw;
        threadgroup float4 shared[64];
        shared[i] = v;
        simdgroup_barrier(mem_flags::mem_threadgroup);
        half4 h = half4(v);
        h *= 2.0h;"""
    checks = [
        ("v.x + 10 * v.y + 100 * v.z + 1000 * v.w", a + 10 * b + 100 * c + 1000 * d),
        ("w.x", c), ("w.y", d), ("w.z", c + 2 * d), ("w.w", d + 2 * c),
        ("dot(u, float3(1, 10, 100))", a + 50 + 100 * c),
        ("swapped.x - 2 * swapped.y", b - 2 * a),
        ("shared[i ^ 1].w", d[np.arange(THREADS) ^ 1]),
        ("part.x + 10 * part.y + 100 * part.z + 1000 * part.w", 100 * c + 1000 * d),
        ("h.x + h.w", 2 * (a + d)),
        ("float4(v.xy, u.z, 1).z", c), ("float4(1, v.yzw).w", d), ("float3(v.xy, 2).z", 2),
        ("dot(v, v.wzyx)", 2 * (a * d + b * c)),
        ("(2 * v + v / 2 - 1).y", 2.5 * b - 1), ("(-v).x", -a), ("v.zyx[0]", c),
        ("max(v, 0.0f).x + min(v, w).y", np.maximum(a, 0) + np.minimum(b, d)),
        ("clamp(v, -1.0f, 1.0f).z", np.clip(c, -1, 1)),
        ("all(v == v) + any(v < v) + any(v > float4(-9))", 2),
        ("(int4(v) & 3).x", a.astype(np.int32) & 3), ("(uint2(5, 6) << 1).y", 12), ("(uint4(7) % 4).w", 3),
        ("select(v, w, v < w).x", np.where(a < c, c, a)),
        ("sizeof(float3) + alignof(half4) + sizeof(bfloat2) + sizeof(uchar3)", 16 + 8 + 4 + 4),
    ]  # fmt: skip
    verify(checks, {"x": mx.array(x)}, before=before)


def test_integers() -> None:
    x = INTEGER
    checks = [
        ("abs(x[i]) / 2", np.abs(x.astype(np.int64)) // 2),
        ("min(x[i], 5) + max(x[i], 5) - x[i]", 5),
        ("clamp(x[i], -3, 3)", np.clip(x, -3, 3)),
        ("x[i] * 31 >> 3", (x.astype(np.int64) * 31).astype(np.int32) >> 3),
        ("ulong(x[i]) >> 40 == ulong(long(x[i]) >> 40 & 0xffffff)", 1),
    ]
    verify(checks, {"x": mx.array(x)}, mx.int32)


@pytest.mark.parametrize("where", ["device", "threadgroup"])
def test_atomics(where: str) -> None:
    """64 threads change each of six counters. Nobody's change is lost, in any order of threads."""
    x = INTEGER % 100
    relaxed = "memory_order_relaxed"
    operations = {
        "add": x.sum(), "min": x.min(), "max": x.max(), "and": np.bitwise_and.reduce(x), "or": np.bitwise_or.reduce(x),
    }  # fmt: skip
    start = mx.array([0, 1000, -1000, -1, 0, 0], mx.int32)
    counters = "counters" if where == "device" else "shared"

    def each(statement: str) -> str:
        return "\n".join(statement.format(counter=f"&{counters}[{n}]", name=name) for n, name in enumerate(operations))

    barrier = "threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);"
    body = f"""
        uint i = thread_position_in_grid.x;
        threadgroup atomic_int shared[6];
        if (i < 6) atomic_store_explicit(&{counters}[i], start[i], {relaxed});
        {barrier}
        {each("atomic_fetch_{name}_explicit({counter}, x[i], memory_order_relaxed);")}
        int seen = atomic_load_explicit(&{counters}[5], {relaxed});
        while (!atomic_compare_exchange_weak_explicit(&{counters}[5], &seen, seen + 2, {relaxed}, {relaxed}));
        {barrier}
        if (i < 6) atomic_store_explicit(&counters[i], atomic_load_explicit(&{counters}[i], {relaxed}), {relaxed});"""
    kernel = metal_kernel("atomics", ["x", "start"], ["counters"], body, atomic_outputs=True)
    for order in ("ascending", "shuffled"):
        with cpu_runner(order):
            [result] = kernel(
                inputs=[mx.array(x), start],
                grid=(THREADS, 1, 1),
                threadgroup=(THREADS, 1, 1),
                output_shapes=[(6,)],
                output_dtypes=[mx.int32],
            )
        assert result.tolist() == [*operations.values(), 2 * THREADS], f"lost a change (order: {order})"


def test_a_float_is_added_atomically() -> None:
    kernel = metal_kernel(
        "add", ["x"], ["sum"], "atomic_fetch_add_explicit(sum, x[thread_position_in_grid.x], memory_order_relaxed);",
        atomic_outputs=True,
    )  # fmt: skip
    call = {"grid": (THREADS, 1, 1), "threadgroup": (32, 1, 1), "output_shapes": [(1,)], "output_dtypes": [mx.float32]}
    with cpu_runner():
        [total] = kernel(inputs=[mx.arange(THREADS, dtype=mx.float32)], init_value=0, **call)
    assert total.item() == THREADS * (THREADS - 1) / 2


@pytest.mark.parametrize("vector", ["float4", "half4", "bfloat2", "uchar4", "int2", "float3", "half", "bfloat"])
def test_a_vector_is_loaded_and_stored_in_one_access(vector: str) -> None:
    scalar = vector.rstrip("234")
    dtype = {"float": mx.float32, "half": mx.float16, "bfloat": mx.bfloat16, "uchar": mx.uint8, "int": mx.int32}[scalar]
    width = {"": 1, "2": 2, "3": 4, "4": 4}[vector[len(scalar) :]]  # three take the place of four
    body = f"""
        uint i = thread_position_in_grid.x;
        ((device {vector}*)y)[i] = ((const device {vector}*)x)[i] + {vector}(1);"""
    kernel = metal_kernel("vectors", ["x"], ["y"], body)
    with cpu_runner() as launches:
        kernel(
            inputs=[mx.zeros((32 * width,), dtype)],
            grid=(32, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[(32 * width,)],
            output_dtypes=[dtype],
        )
    x, y = launches[-1].buffers["x"], launches[-1].buffers["y"]
    assert (x.loads, x.bytes_read) == (32, 32 * width * dtype.size)
    assert (y.stores, y.bytes_written) == (32, 32 * width * dtype.size)


@pytest.mark.parametrize(
    "statement",
    [
        "auto y = min(1, 2u);",  # ambiguous
        "auto y = max(0.5f, half(1));",
        "auto y = exp(1);",
        "bfloat y = 1.5f;",  # a float becomes a bfloat only when asked
        "half4 y = float4(1);",
        "float4 y = float4(1, 2, 3);",
        "atomic_fetch_max_explicit((device atomic_float*)result, 1.0f, memory_order_relaxed);",
    ],
)
def test_what_metal_does_not_compile_does_not_compile_here(statement: str) -> None:
    with pytest.raises(CompileError):
        evaluate(["0"], {"x": mx.zeros(THREADS)}, mx.float32, before=statement)
