"""What the suites of single modules compare with: formulas in float64, mlx-lm's model code, and stand-ins for our own.

Nothing here comes from an answer package, so an oracle can't repeat a learner's mistake.
"""

import functools
import importlib
import os
from collections.abc import Sequence
from typing import Any

# NVIDIA: a float32 product in float32, not in TF32 with its three digits. MLX looks at this with its first product.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import ArrayLike

from tiny_llm_kit.bench.counting_model import CountingModel as CountingModel
from tiny_llm_kit.bench.peer import mlx_lm_model as mlx_lm_model
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.load import LoadedModel, load

# Float32 has 7 digits. Sums of a few hundred numbers of size 1, and the kit's exp (1e-5), cost up to three of them.
FLOAT32 = 1e-4
# Rounding to 11 bits (float16) or 8 (bfloat16) a few times over.
HALF = {mx.float16: 4e-3, mx.bfloat16: 3e-2}
# Logits of size 10 from three layers with sums of up to 128 numbers: one digit more is lost on the way.
LOGITS = 1e-3


def to_numpy(x: Any) -> np.ndarray:
    """As float64."""
    return np.array(x.astype(mx.float32) if isinstance(x, mx.array) else x, dtype=np.float64)


def normal(*shape: int, seed: int, size: float = 1.0, dtype: mx.Dtype = mx.float32) -> mx.array:
    """Normal noise with standard deviation `size`."""
    return mx.array(size * np.random.default_rng(seed).standard_normal(shape), dtype=mx.float32).astype(dtype)


def assert_close(got: mx.array, want: ArrayLike, hint: str, tolerance: float = FLOAT32) -> None:
    """Same shape, and |got − want| ≤ tolerance · (1 + |want|) everywhere; equal infinities are equal."""
    __tracebackhide__ = True
    assert got is not None, f"{hint}: None came back: is a `return` missing?"
    a, b = to_numpy(got), to_numpy(want)
    assert a.shape == b.shape, f"{hint}: the shape is {a.shape}, expected {b.shape}"
    wrong = ~np.isclose(a, b, rtol=tolerance, atol=tolerance)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{hint}: {wrong.sum()} of {wrong.size} numbers are off, first at {at}: got {a[at]:.6g}, expected {b[at]:.6g}"
        )


def softmax64(x: ArrayLike, axis: int = -1) -> np.ndarray:
    x = to_numpy(x)
    weights = np.exp(x - x.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def attention64(q: ArrayLike, k: ArrayLike, v: ArrayLike, scale: float | None = None, mask: ArrayLike = 0.0) -> np.ndarray:
    """softmax(q kᵀ · scale + mask) v; with fewer key/value heads than query heads, each is repeated for its group."""
    q, k, v = to_numpy(q), to_numpy(k), to_numpy(v)
    if q.ndim == 4:
        k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return softmax64(scores + to_numpy(mask)) @ v


def causal64(length: int, total: int) -> np.ndarray:
    """0 and −inf, `(length, total)`: row i is position total − length + i."""
    seen = np.tril(np.ones((length, total)), k=total - length)
    return np.where(seen == 1, 0.0, -np.inf)


def rotation64(head_dim: int, base: float, offsets: Sequence[int], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines `(B, length, 1, head_dim / 2)` of the positions that start at each row's offset."""
    positions = np.array(offsets, dtype=np.float64)[:, None] + np.arange(length)
    angles = positions[:, :, None, None] * base ** (-np.arange(0, head_dim, 2) / head_dim)
    return np.cos(angles), np.sin(angles)


def rotation(head_dim: int, base: float, offsets: Sequence[int], length: int) -> tuple[mx.array, mx.array]:
    """`rotation64` as `RoPE.rotate` takes it."""
    cos, sin = rotation64(head_dim, base, offsets, length)
    return mx.array(cos, dtype=mx.float32), mx.array(sin, dtype=mx.float32)


def mlx_lm_greedy(model: nn.Module, prompt: Sequence[int], count: int) -> list[int]:
    """The `count` tokens that mlx-lm continues `prompt` with, each the most likely one."""
    cache = importlib.import_module("mlx_lm.models.cache").make_prompt_cache(model)
    tokens, answer = list(prompt), []
    for _ in range(count):
        tokens = [int(model(mx.array([tokens]), cache=cache)[0, -1].argmax())]
        answer += tokens
    return answer


@functools.cache
def embedded() -> LoadedModel:
    """The model that ships with the course, in float32 on every machine."""
    return load(keep_quantized=False)


@functools.cache
def embedded_oracle() -> nn.Module:
    return mlx_lm_model(embedded().config, embedded().weights)


class CountUp:
    """Stands in for a model: after token t it is sure of t + 1, so that it is plain to see what an answer should be."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def __call__(
        self, tokens: mx.array, offset: Any = 0, cache: Any = None, mask: Any = None, logits_to_keep: int | None = None
    ) -> mx.array:
        logits = mx.where(mx.arange(self.config.vocab_size) == (tokens[..., None] + 1), 5.0, 0.0)
        return logits if logits_to_keep is None else logits[:, tokens.shape[1] - logits_to_keep :]
