"""The kernels of the course, as the reference launches them, with what they have to compute."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import ArrayLike

from metal_anywhere import MetalKernel
from oracles import attention64, normal, softmax64, to_numpy
from tiny_llm_kit.models.quantized import QuantizedWeight
from tiny_llm_ref.kernels import decode_attention, flash_attention, hello, matvec, online_softmax, paged_attention, rms_norm


def reference_kernels() -> list[MetalKernel]:
    modules = (hello, matvec, rms_norm, online_softmax, decode_attention, flash_attention, paged_attention)
    return [value for module in modules for value in vars(module).values() if isinstance(value, MetalKernel)]


def weight(dtype: mx.Dtype) -> QuantizedWeight:
    return QuantizedWeight(*mx.quantize(normal(7, 128, seed=3).astype(dtype), group_size=64, bits=4), 64, 4)


def check_hello(dtype: mx.Dtype) -> tuple[mx.array, Any]:
    x, y = normal(3, 100, seed=1, dtype=dtype), normal(3, 100, seed=2, dtype=dtype)
    return hello.scaled_add(2.5, x, y), 2.5 * to_numpy(x) + to_numpy(y)


def check_matvec(name: str) -> Callable[[mx.Dtype], tuple[mx.array, Any]]:
    def check(dtype: mx.Dtype) -> tuple[mx.array, Any]:
        x, w = normal(2, 128, seed=1, size=128**-0.5, dtype=dtype), weight(dtype)
        return getattr(matvec, name)(x, w), to_numpy(x) @ to_numpy(w.dequantize(mx.float32)).T

    return check


def check_rms_norm(dtype: mx.Dtype) -> tuple[mx.array, Any]:
    x, w = normal(2, 300, seed=1, dtype=dtype), normal(300, seed=2, dtype=dtype)
    want = to_numpy(x) / np.sqrt((to_numpy(x) ** 2).mean(axis=-1, keepdims=True) + 1e-5) * to_numpy(w)
    return rms_norm.fused_rms_norm(x, w, 1e-5), want


def check_softmax(dtype: mx.Dtype) -> tuple[mx.array, Any]:
    x = normal(2, 100, seed=1, dtype=dtype)
    return online_softmax.online_softmax(x), softmax64(x)


def check_decode(dtype: mx.Dtype) -> tuple[mx.array, Any]:
    q, k, v = (normal(2, heads, length, 32, seed=heads, dtype=dtype) for heads, length in ((6, 1), (2, 40), (2, 40)))
    mask = np.where(np.arange(40) < np.array([[40], [17]]), 0.0, -np.inf)[:, None, None]
    return decode_attention.decode_attention(q, k, v, [40, 17]), attention64(q, *repeated(k, v, 3), mask=mask)


def check_flash(name: str) -> Callable[[mx.Dtype], tuple[mx.array, Any]]:
    def check(dtype: mx.Dtype) -> tuple[mx.array, Any]:
        q, k, v = (normal(1, heads, length, 32, seed=heads, dtype=dtype) for heads, length in ((2, 19), (1, 35), (1, 35)))
        mask = np.where(np.arange(35) <= np.arange(16, 35)[:, None], 0.0, -np.inf)
        return getattr(flash_attention, name)(q, k, v), attention64(q, *repeated(k, v, 2), mask=mask)

    return check


def check_paged(name: str, queries: int) -> Callable[[mx.Dtype], tuple[mx.array, Any]]:
    def check(dtype: mx.Dtype) -> tuple[mx.array, Any]:
        q = normal(2, 6, queries, 32, seed=1, dtype=dtype)
        k_pool, v_pool = (normal(2, 4, 16, 32, seed=seed, dtype=dtype) for seed in (2, 3))
        tables, lengths = [[2, 0, 3], [1]], [40, 9]
        wanted = []
        for b, (table, length) in enumerate(zip(tables, lengths, strict=True)):
            k, v = (to_numpy(pool)[:, table].reshape(1, 2, -1, 32)[:, :, :length] for pool in (k_pool, v_pool))
            mask = np.where(np.arange(length) <= np.arange(length - queries, length)[:, None], 0.0, -np.inf)
            wanted.append(attention64(q[b : b + 1], *repeated(k, v, 3), mask=mask))
        return getattr(paged_attention, name)(q, k_pool, v_pool, tables, lengths), np.concatenate(wanted)

    return check


def repeated(k: ArrayLike, v: ArrayLike, times: int) -> Sequence[np.ndarray]:
    return [np.repeat(to_numpy(x), times, axis=1) for x in (k, v)]


COURSE = {
    "scaled_add": check_hello,
    **{name: check_matvec(name) for name in ("matvec_thread", "matvec_simd", "matvec_vector")},
    "fused_rms_norm": check_rms_norm,
    "online_softmax": check_softmax,
    "decode_attention": check_decode,
    **{name: check_flash(name) for name in ("flash_attention", "flash_attention_simdgroup")},
    **{name: check_paged(name, 1) for name in ("paged_attention_decode", "paged_attention_split")},
    "paged_attention_prefill": check_paged("paged_attention_prefill", 7),
}
