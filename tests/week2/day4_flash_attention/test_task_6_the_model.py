"""Week 2 Day 4, task 6: the model on the kernels, against float64 formulas and mlx-lm's model with the same weights."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from metal_anywhere import cpu_runner
from oracles import HALF, LOGITS, assert_close, attention64, causal64, mlx_lm_model, normal, to_numpy
from support import refuses
from tiny_llm_kit.models.quantized import QuantizedWeight, Weights
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


def packed(weight: mx.array, bits: int = 4) -> QuantizedWeight:
    return QuantizedWeight(*mx.quantize(weight, group_size=32, bits=bits), group_size=32, bits=bits)


# Products


@pytest.mark.parametrize("rows", [1, 3, 8, 20])
@pytest.mark.parametrize("with_bias", [False, True])
def test_task_6_a_product_with_packed_weights(rows: int, with_bias: bool) -> None:
    x, weight = normal(1, rows, 64, seed=1), packed(normal(24, 64, seed=2))
    bias = normal(24, seed=3) if with_bias else None
    want = to_numpy(x) @ to_numpy(weight.dequantize(mx.float32)).T + (0 if bias is None else to_numpy(bias))
    assert_close(answer.kernel_linear(x, weight, bias), want, f"x Wᵀ + b, x of shape {x.shape}")


@pytest.mark.parametrize("rows", [2, 9])
@pytest.mark.parametrize("dtype", HALF)
def test_task_6_a_product_has_the_dtype_of_x(rows: int, dtype: mx.Dtype) -> None:
    x, weight = normal(rows, 64, seed=1, dtype=dtype), packed(normal(24, 64, seed=2))
    out = answer.kernel_linear(x, weight)
    assert out.dtype == dtype, f"{rows} rows of {dtype} give {out.dtype}: unpack the weights to x's dtype"
    want = to_numpy(x) @ to_numpy(weight.dequantize(mx.float32)).T
    # The unpacked weights are rounded, each by as much as the result, and 64 of them are summed.
    assert_close(out, want, f"x Wᵀ for {rows} rows of {dtype}", 4 * HALF[dtype])


@pytest.mark.parametrize(
    ("shape", "by_rows"),
    [((8, 1, 64), True), ((2, 4, 64), True), ((9, 1, 64), False), ((1, 9, 64), False), ((3, 3, 64), False)],
)
def test_task_6_rows_are_counted_over_all_axes(shape: tuple[int, ...], by_rows: bool) -> None:
    x, weight = normal(*shape, seed=1), packed(normal(24, 64, seed=2))
    with cpu_runner() as launches:
        mx.eval(answer.kernel_linear(x, weight))
    rows, size = x.size // 64, weight.weight.nbytes
    most = max((traffic.bytes_read for launch in launches for traffic in launch.buffers.values()), default=0)
    if by_rows:
        assert most >= rows * size, f"x of shape {shape} has {rows} rows, for which matvec_vector reads the weights row by row"
    else:
        assert most <= size, f"x of shape {shape} has {rows} rows, more than FEW_ROWS: unpack the weights, and multiply once"


def test_task_6_a_product_with_plain_weights() -> None:
    x, weight = normal(2, 3, 16, seed=1), normal(24, 16, seed=2)
    assert_close(answer.kernel_linear(x, weight), to_numpy(x) @ to_numpy(weight).T, "what is not packed is multiplied as it is")


def test_task_6_one_row_reads_the_packed_weights_once() -> None:
    x, weight = normal(1, 1, 256, seed=1), packed(normal(64, 256, seed=2))
    with cpu_runner() as launches:
        mx.eval(answer.kernel_linear(x, weight))
    sizes = [traffic.bytes_read for launch in launches for traffic in launch.buffers.values()]
    assert weight.weight.nbytes in sizes, (
        f"no kernel read the {weight.weight.nbytes} bytes of the packed weights exactly once: for a few rows use day 3's "
        "matvec_vector, which never unpacks them"
    )


# Attention


def check_attention(length: int, total: int, mask: Any, mask64: Any, hint: str, lengths: list[int] | None = None) -> None:
    q = normal(2, 4, length, 32, seed=1)
    k, v = (normal(2, 2, total, 32, seed=seed) for seed in (2, 3))
    got = answer.kernel_attention(q, k, v, 0.3, mask, lengths)
    assert_close(got, attention64(q, k, v, 0.3, mask64), hint)


@pytest.mark.parametrize(("length", "total"), [(1, 1), (1, 9), (7, 7), (5, 12)])
def test_task_6_causal_attention(length: int, total: int) -> None:
    hint = "causal attention, in which the last query is at the last key"
    check_attention(length, total, "causal", causal64(length, total), hint)


@pytest.mark.parametrize("length", [1, 5])
def test_task_6_attention_without_a_mask(length: int) -> None:
    check_attention(length, 9, None, 0.0, "without a mask every query sees every key")


def test_task_6_rows_of_different_lengths() -> None:
    lengths = [4, 9]
    mask = mx.where(mx.arange(9) < mx.array(lengths)[:, None, None, None], 0.0, -mx.inf)
    check_attention(1, 9, mask, to_numpy(mask), "row b has lengths[b] keys", lengths)


@pytest.mark.parametrize("mask", [None, "causal"])
def test_task_6_lengths_without_an_array_of_a_mask(mask: Any) -> None:
    lengths = [4, 9]
    mask64 = np.where(np.arange(9) < np.array(lengths)[:, None, None, None], 0.0, -np.inf)
    check_attention(1, 9, mask, mask64, "row b has lengths[b] keys, whatever the mask is", lengths)


def test_task_6_lengths_are_used_in_place_of_the_mask() -> None:
    lengths, total = [4, 9], 64
    q, k, v = (normal(2, heads, n, 32, seed=heads) for heads, n in [(4, 1), (2, total), (2, total)])
    mask = mx.where(mx.arange(total) < mx.array(lengths)[:, None, None, None], 0.0, -mx.inf)
    with cpu_runner() as launches:
        mx.eval(answer.kernel_attention(q, k, v, 0.3, mask, lengths))
    assert launches, "lengths say all that the mask does: use decode_attention, where week 1's attention reads every key"
    read = sum(traffic.bytes_read for launch in launches for name, traffic in launch.buffers.items() if name in ("k", "v"))
    # A kernel that takes several keys at a time may read its last one again.
    most = 1.25 * sum(lengths) * 2 * k.shape[1] * 32 * 4
    assert read <= most, f"{read} bytes of keys and values were read, more than {most:.0f}: row b has lengths[b] keys"


@pytest.mark.parametrize(("length", "dim"), [(1, 48), (3, 48), (3, 160)])
def test_task_6_a_head_dimension_that_the_kernels_lack_is_an_error(length: int, dim: int) -> None:
    q, k, v = normal(1, 2, length, dim, seed=1), normal(1, 2, 8, dim, seed=2), normal(1, 2, 8, dim, seed=3)
    look_at = f"{length} queries of {dim} numbers: what the kernel refuses is not computed by the formula instead"
    with refuses(ValueError, look_at, str(dim)):
        answer.kernel_attention(q, k, v, 0.3, "causal")


@pytest.mark.parametrize("length", [1, 3])
def test_task_6_dtypes_that_differ_are_an_error(length: int) -> None:
    q, k, v = normal(1, 2, length, 32, seed=1), normal(1, 2, 8, 32, seed=2), normal(1, 2, 8, 32, seed=3)
    with refuses(ValueError, "k of another dtype: what the kernel refuses is not computed by the formula instead", "float16"):
        answer.kernel_attention(q, k.astype(mx.float16), v, 0.3, "causal")


@pytest.mark.parametrize("length", [1, 3])
def test_task_6_any_other_mask(length: int) -> None:
    mask = mx.where(normal(2, 1, length, 9, seed=5) > -0.5, 0.0, -mx.inf)
    mask[..., 0] = 0.0
    check_attention(length, 9, mask, to_numpy(mask), "without lengths, a mask array is added to the scores")


# The model


@pytest.fixture(scope="module")
def weights() -> Weights:
    plain = random_weights(CONFIG)
    return {name: packed(w) if w.ndim == 2 else w for name, w in plain.items() if isinstance(w, mx.array)}


CONFIG = tiny_config(num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32)
TOKENS = np.random.default_rng(7).integers(0, CONFIG.vocab_size, (1, 13)).tolist()


def test_task_6_the_model_prefills_and_decodes(weights: Weights) -> None:
    answer.kernel_linear(mx.zeros((1, 32)), packed(mx.ones((8, 32))))  # this task's own function first
    model = answer.Model(CONFIG, weights, answer.COURSE)
    cache = [answer.KvCache() for _ in range(CONFIG.num_layers)]
    pieces = [model(mx.array([row]), cache[0].offset, cache) for row in (TOKENS[0][:11], TOKENS[0][11:12], TOKENS[0][12:])]
    plain = {name: w.dequantize(mx.float32) if isinstance(w, QuantizedWeight) else w for name, w in weights.items()}
    want = mlx_lm_model(CONFIG, plain)(mx.array(TOKENS))
    assert_close(mx.concatenate(pieces, axis=1), want, "11 tokens at once and two alone, on the kernels", LOGITS)
