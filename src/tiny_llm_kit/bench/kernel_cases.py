"""What the course's kernels are held against: MLX's operator for the same work, and inputs for both.

It knows the names and arguments of the kernel days' functions in an answer package. Nothing is measured here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import mlx.core as mx

from metal_anywhere.backend import backend
from tiny_llm_kit.models.quantized import QuantizedWeight

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
_SHORT = {mx.float32: "f32", mx.float16: "f16", mx.bfloat16: "bf16"}
_BITS, _GROUP = 4, 64

_MORE_THAN_A_CACHE = 2**29
"""Bytes. Launches take turns on copies of their inputs that are together larger, so that they come from memory."""

_NO_MATTER_OF_CACHES = 64
"""Operations for each byte of the inputs, above which no memory is slow enough to be waited for: two copies will do."""


@dataclass(frozen=True)
class Comparison:
    """A kernel and its peer. `ours(i)` and `mlx(i)` launch on the i-th of `copies` inputs.

    bytes: the least that one launch has to move: each input read once, the output written once.
    operations: multiplications and additions, if a launch has practically nothing else to compute; otherwise 0.
    precise: MLX's operator in float32, on the same numbers; without it, the result of `mlx` counts as right.
    """

    name: str
    inputs: str
    copies: int
    bytes: int
    ours: Callable[[int], mx.array]
    mlx: Callable[[int], mx.array]
    operations: int = 0
    precise: Callable[[int], mx.array] | None = None

    def difference(self) -> float:
        """The largest difference between our numbers and the right ones, over the largest of these; on the first inputs."""
        got, want = (launch(0).astype(mx.float32) for launch in (self.ours, self.precise or self.mlx))
        return float((got - want).abs().max() / want.abs().max())


@dataclass(frozen=True)
class _Work:
    """What both sides do: `text` says what on, `arguments` makes that from a key for random numbers."""

    text: str
    arguments: Callable[[mx.array], tuple[Any, ...]]
    mlx: Callable[..., mx.array]
    operations: int = 0


def _scaled_add(dtype: mx.Dtype, size: int) -> _Work:
    def arguments(key: mx.array) -> tuple[Any, ...]:
        return 2.5, *_normal(key, dtype, (size,), (size,))

    def mlx(a: float, x: mx.array, y: mx.array) -> mx.array:
        return a * x + y

    # One kernel, as ours is; on a CPU, MLX would need g++ for that.
    return _Work(f"{size}", arguments, mlx if backend() == "cpu" else mx.compile(mlx), 2 * size)


def _matvec(dtype: mx.Dtype, N: int, K: int) -> _Work:
    def arguments(key: mx.array) -> tuple[Any, ...]:
        x, w = _normal(key, dtype, (1, K), (N, K))
        return x, QuantizedWeight(*mx.quantize(w * K**-0.5, group_size=_GROUP, bits=_BITS), _GROUP, _BITS)

    def mlx(x: mx.array, w: QuantizedWeight) -> mx.array:
        return mx.quantized_matmul(x, w.weight, w.scales, w.biases, group_size=_GROUP, bits=_BITS)

    return _Work(f"{N} × {K}, {_BITS} bits", arguments, mlx, 2 * N * K)


def _rms_norm(dtype: mx.Dtype, rows: int, dim: int) -> _Work:
    def arguments(key: mx.array) -> tuple[Any, ...]:
        return *_normal(key, dtype, (rows, dim), (dim,)), 1e-5

    return _Work(f"{rows} × {dim}", arguments, mx.fast.rms_norm)


def _softmax(dtype: mx.Dtype, rows: int, width: int) -> _Work:
    def arguments(key: mx.array) -> tuple[Any, ...]:
        return _normal(key, dtype, (rows, width))

    return _Work(f"{rows} × {width}", arguments, partial(mx.softmax, axis=-1, precise=True))


def _decode_attention(dtype: mx.Dtype, B: int, H: int, KV: int, S: int, D: int) -> _Work:
    def arguments(key: mx.array) -> tuple[Any, ...]:
        return *_normal(key, dtype, (B, H, 1, D), (B, KV, S, D), (B, KV, S, D)), mx.full((B,), S, dtype=mx.int32)

    def mlx(q: mx.array, k: mx.array, v: mx.array, _: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=D**-0.5)

    return _Work(f"batch {B}, {S} keys, {H}/{KV} heads of {D}", arguments, mlx, 4 * B * H * S * D)


def _flash_attention(dtype: mx.Dtype, H: int, KV: int, L: int, D: int) -> _Work:
    def arguments(key: mx.array) -> tuple[Any, ...]:
        return _normal(key, dtype, (1, H, L, D), (1, KV, L, D), (1, KV, L, D))

    def mlx(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=D**-0.5, mask="causal")

    pairs = L * (L + 1) // 2  # of a query and a key that it sees
    return _Work(f"{L} queries, causal, {H}/{KV} heads of {D}", arguments, mlx, 4 * H * D * pairs)


def _paged_attention(dtype: mx.Dtype, B: int, H: int, KV: int, L: int, S: int, D: int, block: int) -> _Work:
    """Every block of the pool belongs to some row, so all of it has to be read. MLX has no paged attention: it gathers
    first."""

    def arguments(key: mx.array) -> tuple[Any, ...]:
        pool = (KV, B * S // block, block, D)
        tables = mx.random.permutation(B * S // block, key=key).reshape(B, -1).astype(mx.int32)
        return *_normal(key, dtype, (B, H, L, D), pool, pool), tables, mx.full((B,), S, dtype=mx.int32)

    def mlx(q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: mx.array, _: mx.array) -> mx.array:
        k, v = (pool[:, tables].reshape(KV, B, S, D).swapaxes(0, 1) for pool in (k_pool, v_pool))
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=D**-0.5, mask="causal")

    pairs = B * (L * S - L * (L - 1) // 2)
    text = f"batch {B}, {L} of {S} keys in blocks of {block}, {H}/{KV} heads of {D}"
    return _Work(text, arguments, mlx, 4 * H * D * pairs)


def _normal(key: mx.array, dtype: mx.Dtype, *shapes: tuple[int, ...]) -> tuple[mx.array, ...]:
    keys = mx.random.split(key, len(shapes))
    return tuple(mx.random.normal(shape, dtype=dtype, key=k) for shape, k in zip(shapes, keys, strict=True))


@dataclass(frozen=True)
class _Kind:
    """Work by its size: `large` is enough to take a GPU some time, `small` is enough to count accesses.

    function: of the answer; the one of the kind's own name if it is empty.
    """

    make: Callable[..., _Work]
    large: tuple[int, ...]
    small: tuple[int, ...]
    function: str = ""


def _paged(rows: int, keys: int, *small: int) -> _Kind:
    """Decoding this many rows, each with this many keys."""
    return _Kind(_paged_attention, (rows, 32, 8, 1, keys, 128, 16), small, "paged_attention")


_MATVEC = _Kind(_matvec, large=(4096, 4096), small=(256, 1024))
_FLASH = _Kind(_flash_attention, large=(32, 8, 1024, 128), small=(4, 2, 128, 64))
_KINDS = {
    "scaled_add": _Kind(_scaled_add, large=(2**24,), small=(4096,)),
    "matvec_thread": _MATVEC,
    "matvec_simd": _MATVEC,
    "matvec_vector": _MATVEC,
    "fused_rms_norm": _Kind(_rms_norm, large=(4096, 4096), small=(16, 1024)),
    "online_softmax": _Kind(_softmax, large=(4096, 4096), small=(16, 1024)),
    "decode_attention": _Kind(_decode_attention, large=(8, 32, 8, 2048, 128), small=(2, 6, 2, 512, 64)),
    "flash_attention": _FLASH,
    "flash_attention_simdgroup": _FLASH,
    "paged_attention": _paged(8, 2048, 2, 6, 2, 1, 512, 64, 16),
    "paged_attention_1_row": _paged(1, 2048, 1, 6, 2, 1, 512, 64, 16),
    "paged_attention_32_rows": _paged(32, 2048, 32, 2, 1, 1, 128, 64, 16),
    "paged_attention_128_rows": _paged(128, 1024, 128, 2, 1, 1, 64, 64, 16),
    "paged_attention_prefill": _Kind(_paged_attention, (4, 32, 8, 256, 2048, 128, 16), (1, 4, 2, 32, 128, 64, 16)),
}
KERNELS = tuple(_KINDS)
"""In the order of the course."""


def comparisons(answer: ModuleType, dtype: mx.Dtype = mx.float16, small: bool = False) -> dict[str, Callable[[], Comparison]]:
    """By name, in the order of the course. Inputs are made when they are asked for, since all together would fill a GPU."""
    functions = {name: getattr(answer, kind.function or name) for name, kind in _KINDS.items()}
    return {name: partial(_compare, name, functions[name], kind, dtype, small) for name, kind in _KINDS.items()}


def _compare(name: str, ours: Callable[..., mx.array], kind: _Kind, dtype: mx.Dtype, small: bool) -> Comparison:
    work = kind.make(dtype, *(kind.small if small else kind.large))
    first = _evaluated(work.arguments(mx.random.key(0)))
    read = sum(array.nbytes for array in _arrays(first))
    copies = 1 if small else 2 if work.operations > _NO_MATTER_OF_CACHES * read else max(2, -(-_MORE_THAN_A_CACHE // read))
    inputs = [first, *(_evaluated(work.arguments(mx.random.key(i))) for i in range(1, copies))]
    written = work.mlx(*first).nbytes
    return Comparison(
        name,
        f"{work.text}, {_SHORT[dtype]}",
        copies,
        read + written,
        lambda i: ours(*inputs[i]),
        lambda i: work.mlx(*inputs[i]),
        work.operations,
        lambda i: work.mlx(*map(_in_float32, inputs[i])),
    )


def _evaluated(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """One set at a time: what a packed matrix is made of is larger than itself."""
    mx.eval(_arrays(arguments))
    return arguments


def _arrays(arguments: tuple[Any, ...]) -> list[mx.array]:
    packed = [w for w in arguments if isinstance(w, QuantizedWeight)]
    return [a for a in arguments if isinstance(a, mx.array)] + [a for w in packed for a in w.arrays]


def _in_float32(argument: Any) -> Any:
    """Floating-point arrays in float32; everything else as it is."""
    if isinstance(argument, QuantizedWeight):
        scales, biases = argument.scales.astype(mx.float32), argument.biases.astype(mx.float32)
        return replace(argument, scales=scales, biases=biases)
    if isinstance(argument, mx.array) and mx.issubdtype(argument.dtype, mx.floating):
        return argument.astype(mx.float32)
    return argument
