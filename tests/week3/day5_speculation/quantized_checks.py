"""What the tests of task 7 share: how far off a number may be, and a model over rounded keys and values."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np

from answer import answer
from oracles import to_numpy
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

EPSILON = {mx.float32: 2**-23, mx.float16: 2**-10, mx.bfloat16: 2**-7}


def groups_of(x: Any, group_size: int) -> np.ndarray:
    """`(..., D)` to `(groups, group_size)`, in float64."""
    return to_numpy(x).reshape(-1, group_size)


def assert_near(got: mx.array, x: mx.array, bits: int, hint: str, group_size: int = 32) -> None:
    """Each number is at most half a step of its group away, and what scale, bias and result may lose in the dtype of `x`."""
    __tracebackhide__ = True
    assert got.shape == x.shape, f"{hint}: the shape is {got.shape}, expected {x.shape}"
    assert got.dtype == x.dtype, f"{hint}: the dtype is {got.dtype}, expected {x.dtype}"
    a, b = groups_of(got, group_size), groups_of(x, group_size)
    width = np.ptp(b, axis=1, keepdims=True)
    most = width / (2**bits - 1) / 2 * 1.001 + EPSILON[x.dtype] * (width + np.abs(b).max(axis=1, keepdims=True))
    wrong = ~(np.abs(a - b) <= most)
    if wrong.any():
        group, place = (int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{hint}: {wrong.sum()} of {wrong.size} numbers are further than half a step, (max − min) / {2**bits - 1} / 2, from"
            f" what was stored. The first is number {place} of group {group}, which goes from {b[group].min():.6g} to"
            f" {b[group].max():.6g}: {b[group, place]:.6g} came back as {a[group, place]:.6g}, at most"
            f" {most[group, 0]:.3g} off is right"
        )


def assert_same(got: mx.array, want: mx.array, hint: str) -> None:
    """To the last bit."""
    __tracebackhide__ = True
    a, b = to_numpy(got), to_numpy(want)
    assert a.shape == b.shape, f"{hint}: the shape is {a.shape}, expected {b.shape}"
    differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if differ.any():
        at = tuple(int(i) for i in np.argwhere(differ)[0])
        raise AssertionError(
            f"{hint}: {differ.sum()} of {differ.size} numbers differ, first at {at}: {a[at]:.6g} and {b[at]:.6g}"
        )


def roundtrip(x: mx.array, bits: int, group_size: int = 32) -> mx.array:
    """What comes back of numbers that were stored."""
    back: mx.array = answer.dequantize_rows(answer.quantize_rows(x, bits, group_size), bits, group_size, x.dtype)
    return back


def unreadable(x: mx.array) -> mx.array:
    """The same numbers, which can never be computed: a part of them belongs to a thread that is gone."""
    with ThreadPoolExecutor(1) as elsewhere:
        return x + elsewhere.submit(lambda: mx.zeros((1,), dtype=x.dtype) + 0).result()


def store_once() -> None:
    """A group of two numbers comes back exactly: a test that begins with this fails at the stub."""
    x = mx.array([[1.0, 2.0] * 16])
    assert mx.allclose(roundtrip(x, 4), x), "a group in which there are only its smallest and its largest number comes back"


class RoundedCache:
    """A sequence alone: all its keys and values at once, rounded as they should be stored, in float64."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def attend(self, q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Any, attention: Any) -> mx.array:
        return attention(q, self._rounded(k), self._rounded(v), scale, mask, None)

    def _rounded(self, x: mx.array) -> mx.array:
        numbers = groups_of(x, 32)
        low = numbers.min(axis=1, keepdims=True)
        step = np.ptp(numbers, axis=1, keepdims=True) / (2**self.bits - 1)
        return mx.array((np.round((numbers - low) / step) * step + low).reshape(x.shape), dtype=mx.float32)


@cache
def wide_model(architecture: str = "llama", num_layers: int = 3) -> Any:
    """A tiny random model with heads of 32 numbers."""
    config = tiny_config(architecture, head_dim=32, num_layers=num_layers)
    return answer.Model(config, random_weights(config))


def rounded_logits(model: Any, tokens: Sequence[int], bits: int | None) -> mx.array:
    """Logits `(L, V)` of a sequence alone, in one call, over rounded keys and values; None: over plain ones."""
    caches = None if bits is None else [RoundedCache(bits) for _ in range(model.config.num_layers)]
    logits: mx.array = model(mx.array([list(tokens)]), 0, caches)[0]
    return logits


def assert_said(model: Any, bits: int | None, *requests: Any) -> None:
    """Each token is the likeliest one after those before it, for the sequence alone over keys and values in this many bits.

    A number that lies in the middle between two integers is rounded up or down as the last digit of a sum has it, which moves
    the logits by up to 0.05, and the best one of a wrong answer is several units below.
    """
    __tracebackhide__ = True
    for request in requests:
        if request.error is not None:
            raise AssertionError(f"request {request.request_id} ended with {request.error!r}") from request.error
        said, start = request.generated_tokens, len(request.prompt) - 1
        assert len(said) == request.max_tokens, f"{len(said)} of {request.max_tokens} tokens came"
        logits = to_numpy(rounded_logits(model, [*request.prompt, *said[:-1]], bits)[start:])
        behind = logits.max(axis=1) - logits[np.arange(len(said)), said]
        assert behind.max() < 0.3, (
            f"request {request.request_id} (a prompt of {len(request.prompt)} tokens): token {int(behind.argmax())} of its"
            f" answer is not what it is told alone over keys and values in {bits} bits; its logit is {behind.max():.2f} below"
            " the best"
        )
