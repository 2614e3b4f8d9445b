"""The kernels of week 2, days 3 and 4, beside what MLX has for the same, on more inputs than a cache holds.

Of an answer package it knows the names and arguments of those days' functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import mlx.core as mx

from tiny_llm_kit.bench.gpu_time import seconds_per_launch
from tiny_llm_kit.quantized import QuantizedWeight

COLUMNS = ["kernel", "inputs", "ours", "MLX's", "of MLX's time", "memory", "of bandwidth", "difference"]

_MORE_THAN_A_CACHE = 2**29
"""Bytes. Launches take turns on copies of their inputs that are together larger, so that they come from memory."""

_BITS, _GROUP = 4, 64


@dataclass(frozen=True)
class Comparison:
    """A kernel and its peer. `ours(i)` and `mlx(i)` launch on the i-th of `copies` inputs; one launch moves `bytes`."""

    name: str
    inputs: str
    copies: int
    bytes: int
    ours: Callable[[int], mx.array]
    mlx: Callable[[int], mx.array]


@dataclass(frozen=True)
class Figures:
    """What was measured. Times are seconds a launch; `bandwidth` is bytes moved a second, over that of a copy.

    difference: the largest between our numbers and MLX's, over the largest of MLX's.
    """

    name: str
    inputs: str
    ours: float
    mlx: float
    bytes: int
    bandwidth: float
    difference: float

    @property
    def ratio(self) -> float:
        return self.ours / self.mlx

    def cells(self) -> list[str]:
        times = [f"{seconds * 1e6:.1f} µs" for seconds in (self.ours, self.mlx)]
        size = f"{self.bytes / 1e6:.1f} MB"
        return [self.name, self.inputs, *times, f"{self.ratio:.2f}", size, f"{self.bandwidth:.0%}", f"{self.difference:.1e}"]


def copy_bandwidth(repeats: int) -> float:
    """Bytes a second, read and written, of MLX's simplest kernel on arrays of 64 MB."""
    arrays = [mx.full((2**25,), i, dtype=mx.float16) for i in range(8)]
    mx.eval(arrays)
    seconds = seconds_per_launch(lambda count: [-arrays[i % len(arrays)] for i in range(count)], len(arrays), repeats)
    return 2 * arrays[0].nbytes / seconds


def measure(comparison: Comparison, copy_speed: float, repeats: int) -> Figures:
    """Runs both sides. `copy_speed`: bytes a second that the machine can move."""
    copies = comparison.copies

    def seconds(launch: Callable[[int], mx.array]) -> float:
        return seconds_per_launch(lambda count: [launch(i % copies) for i in range(count)], copies, repeats)

    ours, mlx = seconds(comparison.ours), seconds(comparison.mlx)
    got, want = (launch(0).astype(mx.float32) for launch in (comparison.ours, comparison.mlx))
    difference = float((got - want).abs().max() / want.abs().max())
    share = comparison.bytes / ours / copy_speed
    return Figures(comparison.name, comparison.inputs, ours, mlx, comparison.bytes, share, difference)


def comparisons(answer: ModuleType) -> dict[str, Callable[[], Comparison]]:
    """By name, in the order of the course. Inputs are made when they are asked for, since all together would fill a GPU."""
    functions = {
        "scaled_add": _scaled_add,
        **dict.fromkeys(("matvec_thread", "matvec_simd", "matvec_vector"), _matvec),
        "fused_rms_norm": _rms_norm,
        "online_softmax": _softmax,
        "decode_attention": _decode_attention,
        **dict.fromkeys(("flash_attention", "flash_attention_simdgroup"), _flash_attention),
    }
    return {name: lambda name=name, make=make: make(name, getattr(answer, name)) for name, make in functions.items()}  # type: ignore[misc]


def _copies(bytes_of_one: int) -> int:
    return max(2, -(-_MORE_THAN_A_CACHE // bytes_of_one))


def _arrays(count: int, *shape: int) -> list[mx.array]:
    arrays = [mx.random.normal(shape, dtype=mx.float16, key=mx.random.key(i)) for i in range(count)]
    mx.eval(arrays)
    return arrays


def _scaled_add(name: str, ours: Callable[..., mx.array]) -> Comparison:
    size = 2**24
    copies = _copies(4 * size)
    x, y = _arrays(copies, size), _arrays(copies, size)
    peer = mx.compile(lambda x, y: 2.5 * x + y)
    return Comparison(name, f"{size}, f16", copies, 6 * size, lambda i: ours(2.5, x[i], y[i]), lambda i: peer(x[i], y[i]))


def _matvec(name: str, ours: Callable[..., mx.array]) -> Comparison:
    N = K = 4096
    size = N * K * _BITS // 8 + 2 * 2 * N * K // _GROUP
    copies = _copies(size)
    (x,) = _arrays(1, 1, K)
    weights = [
        QuantizedWeight(*mx.quantize(w * K**-0.5, group_size=_GROUP, bits=_BITS), _GROUP, _BITS)
        for i in range(copies)
        for w in [mx.random.normal((N, K), dtype=mx.float16, key=mx.random.key(i))]
    ]
    for w in weights:  # one by one: what they are made of is four times as large
        mx.eval(w.weight, w.scales, w.biases)

    def mlx(i: int) -> mx.array:
        w = weights[i]
        return mx.quantized_matmul(x, w.weight, w.scales, w.biases, group_size=_GROUP, bits=_BITS)

    return Comparison(name, f"{N} x {K}, {_BITS} bits, f16", copies, size, lambda i: ours(x, weights[i]), mlx)


def _rms_norm(name: str, ours: Callable[..., mx.array]) -> Comparison:
    rows = dim = 4096
    copies = _copies(2 * rows * dim)
    x, (weight,) = _arrays(copies, rows, dim), _arrays(1, dim)
    inputs = f"{rows} x {dim}, f16"
    return Comparison(
        name, inputs, copies, 4 * rows * dim, lambda i: ours(x[i], weight, 1e-5), lambda i: mx.fast.rms_norm(x[i], weight, 1e-5)
    )


def _softmax(name: str, ours: Callable[..., mx.array]) -> Comparison:
    rows = width = 4096
    copies = _copies(2 * rows * width)
    x = _arrays(copies, rows, width)
    inputs = f"{rows} x {width}, f16"
    return Comparison(
        name, inputs, copies, 4 * rows * width, lambda i: ours(x[i]), lambda i: mx.softmax(x[i], axis=-1, precise=True)
    )


def _decode_attention(name: str, ours: Callable[..., mx.array]) -> Comparison:
    B, H, KV, S, D = 8, 32, 8, 2048, 128
    size = 2 * 2 * B * KV * S * D
    copies = _copies(size)
    (q,), k, v = _arrays(1, B, H, 1, D), _arrays(copies, B, KV, S, D), _arrays(copies, B, KV, S, D)
    lengths = mx.full((B,), S, dtype=mx.int32)
    return Comparison(
        name,
        f"batch {B}, context {S}, {H}/{KV} heads of {D}, f16",
        copies,
        size,
        lambda i: ours(q, k[i], v[i], lengths),
        lambda i: mx.fast.scaled_dot_product_attention(q, k[i], v[i], scale=D**-0.5),
    )


def _flash_attention(name: str, ours: Callable[..., mx.array]) -> Comparison:
    H, KV, L, D = 32, 8, 1024, 128
    size = 2 * (2 * H + 2 * KV) * L * D
    q, k, v = _arrays(2, 1, H, L, D), _arrays(2, 1, KV, L, D), _arrays(2, 1, KV, L, D)
    return Comparison(
        name,
        f"{L} queries, {H}/{KV} heads of {D}, causal, f16",
        2,
        size,
        lambda i: ours(q[i], k[i], v[i]),
        lambda i: mx.fast.scaled_dot_product_attention(q[i], k[i], v[i], scale=D**-0.5, mask="causal"),
    )
