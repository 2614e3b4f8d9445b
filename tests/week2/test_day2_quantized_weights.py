"""Week 2 Day 2: quantized weights, against MLX's own unpacking; perplexity, against the formula in float64."""

import gc
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from oracles import FLOAT32, HALF, assert_close, embedded, embedded_oracle, normal, to_numpy
from support import CountingModel, ToyModel, make_prompt, refuses
from tiny_llm_kit.models.quantized import QuantizedWeight
from tiny_llm_kit.models.tiny_random import tiny_config

FORMATS = [(bits, group_size) for bits in (4, 8) for group_size in (32, 64, 128)]
format_names = [f"{bits} bits, groups of {group_size}" for bits, group_size in FORMATS]
every_format = pytest.mark.parametrize(("bits", "group_size"), FORMATS, ids=format_names)
both_widths = pytest.mark.parametrize("bits", [4, 8])

# q · scale and its sum with bias are rounded once each, to 24 bits; sizes are about 3.
ROUNDING = 1e-6


def packed(N: int, K: int, group_size: int = 64, bits: int = 4, seed: int = 0, dtype: mx.Dtype = mx.float32) -> QuantizedWeight:
    """A matrix that MLX quantized: nothing in it comes from the package under test."""
    arrays = mx.quantize(normal(N, K, seed=seed).astype(dtype), group_size=group_size, bits=bits)
    return QuantizedWeight(*arrays, group_size=group_size, bits=bits)  # type: ignore[call-arg]


# Task 1: pack and unpack


@both_widths
def test_task_1_the_first_value_is_in_the_lowest_bits(bits: int) -> None:
    count = 32 // bits
    words = answer.pack(mx.arange(1, count + 1, dtype=mx.uint32), bits)
    want = sum((i + 1) << (i * bits) for i in range(count))
    assert words.shape == (1,), f"{count} values of {bits} bits are one word, got shape {words.shape}"
    assert words.dtype == mx.uint32, f"words are uint32, not {words.dtype}"
    got = int(words[0])
    assert got == want, f"1, 2, 3, … from the lowest bits up is {want:#010x}, got {got:#010x}: which end did you start at?"


@both_widths
def test_task_1_the_lowest_value_is_read_first(bits: int) -> None:
    word = sum((i + 1) << (i * bits) for i in range(32 // bits))
    got = answer.unpack(mx.array([word], dtype=mx.uint32), bits)
    assert got.dtype == mx.uint32, f"values are uint32, not {got.dtype}"
    assert got.tolist() == list(range(1, 32 // bits + 1)), f"the word {word:#010x} holds 1, 2, 3, … from its lowest bits up"


@both_widths
def test_task_1_mlx_reads_what_was_packed(bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, (3, 64))
    words = answer.pack(mx.array(values, dtype=mx.uint32), bits)
    plain = mx.dequantize(words, mx.ones((3, 2)), mx.zeros((3, 2)), group_size=32, bits=bits)
    assert_close(plain, values, "with scale 1 and bias 0, mx.dequantize gives the packed values back", 0.0)


@both_widths
def test_task_1_what_mlx_packed_is_read(bits: int) -> None:
    weight = packed(3, 64, bits=bits)
    plain = mx.dequantize(weight.weight, mx.ones((3, 1)), mx.zeros((3, 1)), group_size=64, bits=bits)
    assert_close(answer.unpack(weight.weight, bits), plain, "the integers inside a matrix from mx.quantize", 0.0)


@settings(max_examples=60)
@given(st.data())
def test_task_1_unpack_undoes_pack(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from([4, 8]), label="bits")
    shape = (*data.draw(st.lists(st.integers(1, 3), max_size=2), label="rows"), data.draw(st.integers(1, 5)) * 32 // bits)
    size = math.prod(shape)
    numbers = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=size, max_size=size), label="values")
    values = mx.array(numbers, dtype=mx.uint32).reshape(shape)
    words = answer.pack(values, bits)
    assert words.shape == (*shape[:-1], shape[-1] * bits // 32), f"{shape} of {bits} bits: only the last axis is packed"
    back = answer.unpack(words, bits)
    assert back.shape == shape, f"unpack(pack(v)) has the shape of v, {shape}, not {back.shape}"
    assert back.tolist() == values.tolist(), "unpack(pack(v)) is v"


@pytest.mark.parametrize("dtype", [mx.uint8, mx.int16, mx.int32, mx.int64], ids=str)
def test_task_1_integers_of_any_dtype_are_packed(dtype: mx.Dtype) -> None:
    got = answer.pack(mx.array([15, 0, 1, 14, 2, 13, 3, 12], dtype=dtype), 4)
    assert int(got[0]) == 0xC3D2E10F, "widen to uint32 before you shift: a byte has no room for a word"


@pytest.mark.parametrize(
    ("values", "bits", "named"),
    [
        ([0] * 32, 3, "3"),
        ([0] * 32, 16, "16"),
        ([0] * 7 + [16], 4, "16"),
        ([0] * 7 + [256], 8, "256"),
        ([-1] + [0] * 7, 4, "-1"),
        ([1] * 12, 4, "12"),
        ([1] * 6, 8, "6"),
    ],
    ids=["3 bits", "16 bits", "16 in 4 bits", "256 in 8 bits", "negative", "12 nibbles", "6 bytes"],
)
def test_task_1_what_does_not_fit_is_refused_by_name(values: list[int], bits: int, named: str) -> None:
    with refuses(ValueError, f"{len(values)} values in {bits} bits: {named} does not fit", named):
        answer.pack(mx.array(values, dtype=mx.int32), bits)


def test_task_1_only_integers_are_packed_and_only_words_unpacked() -> None:
    with refuses(ValueError, "0.5 is no integer: look at the dtype of what is to be packed"):
        answer.pack(mx.array([0.5] * 8), 4)
    with refuses(ValueError, "words are unpacked into values of 4 or 8 bits only", named="3"):
        answer.unpack(mx.array([0], dtype=mx.uint32), 3)
    with refuses(ValueError, "packed words are uint32: int32 would be shifted with its sign"):
        answer.unpack(mx.array([0], dtype=mx.int32), 4)


# Task 2: affine groups


@every_format
def test_task_2_scale_and_bias_are_the_range_of_their_group(bits: int, group_size: int) -> None:
    w = normal(3, 256, seed=1)
    got = answer.quantize(w, group_size, bits)
    assert (got.group_size, got.bits, got.shape) == (group_size, bits, (3, 256)), "the result describes the whole matrix"
    groups = to_numpy(w).reshape(3, -1, group_size)
    low, high = groups.min(-1), groups.max(-1)
    assert_close(got.biases, low, "bias is the smallest number of the group", ROUNDING)
    assert_close(got.scales, (high - low) / (2**bits - 1), f"{2**bits} levels have {2**bits - 1} steps between them", ROUNDING)


@every_format
def test_task_2_no_number_is_further_away_than_half_a_step(bits: int, group_size: int) -> None:
    w = normal(5, 256, seed=2)
    got = answer.quantize(w, group_size, bits)
    error = np.abs(to_numpy(got.dequantize(mx.float32)) - to_numpy(w)).reshape(5, -1, group_size)
    bound = to_numpy(got.scales)[..., None] / 2 + 3 * ROUNDING
    worst = (error / (2 * bound)).max()
    assert (error <= bound).all(), f"off by {worst:.2f} steps, where rounding to the nearest level leaves at most 0.5"


@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_task_2_numbers_on_the_levels_come_back_exactly(group_size: int) -> None:
    q = np.random.default_rng(3).integers(0, 16, (4, 256)).reshape(4, -1, group_size)
    q[..., 0], q[..., -1] = 0, 15  # the range is in use
    w = mx.array((0.25 * q - 2).reshape(4, 256), dtype=mx.float32)  # exact in float32
    got = answer.quantize(w, group_size, 4)
    assert_close(got.dequantize(mx.float32), w, "levels 0.25 apart, from −2 to 1.75, need no rounding", 0.0)


def test_task_2_each_group_has_its_own_scale() -> None:
    sizes = np.repeat([1.0, 100.0, 0.01, 10.0], 64)
    w = to_numpy(normal(2, 256, seed=4)) * sizes
    got = to_numpy(answer.quantize(mx.array(w, dtype=mx.float32), 64, 4).dequantize(mx.float32))
    error = np.abs(got - w) / sizes
    assert error.max() < 0.3, "groups are 64 neighbours of one row: one of large numbers must not coarsen another"


@both_widths
@pytest.mark.parametrize("value", [0.0, 0.3, -2.5])
def test_task_2_a_group_of_equal_numbers_comes_back_exactly(value: float, bits: int) -> None:
    w = mx.concatenate([mx.full((2, 32), value), normal(2, 32, seed=5)], axis=1)
    got = answer.quantize(w, 32, bits).dequantize(mx.float32)
    assert mx.isfinite(got).all(), "a range of 0 makes a scale of 0: do not divide by it"
    assert_close(got[:, :32], w[:, :32], f"{value} everywhere is {value} again", 0.0)


@both_widths
@pytest.mark.parametrize("dtype", HALF)
def test_task_2_scales_have_the_dtype_of_the_matrix(dtype: mx.Dtype, bits: int) -> None:
    w = normal(64, 256, seed=6, dtype=dtype)
    got = answer.quantize(w, 64, bits)
    assert (got.scales.dtype, got.biases.dtype) == (dtype, dtype), f"scales and biases of a {dtype} matrix are {dtype}"
    error = np.abs(to_numpy(got.dequantize(mx.float32)) - to_numpy(w)).reshape(64, -1, 64)
    # The stored scale is off by one part in 2^12 (float16) or 2^9 (bfloat16), and the largest q multiplies that.
    slack = (2**bits - 1) * (2**-11 if dtype == mx.float16 else 2**-8)
    worst = (error / to_numpy(got.scales)[..., None]).max()
    assert worst <= 0.5 + slack, (
        f"off by {worst:.2f} steps: a scale that was rounded down makes q too large for its bits; keep it within them"
    )


@both_widths
@pytest.mark.parametrize("dtype", HALF)
def test_task_2_q_is_chosen_for_the_scale_as_it_is_stored(dtype: mx.Dtype, bits: int) -> None:
    w = normal(64, 256, seed=10, dtype=dtype)
    got = answer.quantize(w, 64, bits)
    groups = to_numpy(w).reshape(64, 4, 64, 1)
    scales, biases = (to_numpy(part)[..., None, None] for part in (got.scales, got.biases))
    nearest = np.abs(scales * np.arange(2**bits) + biases - groups).min(-1)
    error = np.abs(to_numpy(got.dequantize(mx.float32)).reshape(64, 4, 64) - groups[..., 0])
    # Numbers of size 4: float32 rounds products and sums of that size to 2^-22, some two or three times.
    wrong = error > nearest + 2.0**-20
    assert not wrong.any(), (
        f"{wrong.sum()} of {wrong.size} numbers would come back nearer with another q: the stored scale is rounded to {dtype},"
        " and q has to be chosen for that one, not for the exact one; compute in float32"
    )


def test_task_2_two_hundred_and_fifty_six_levels_are_finer_than_sixteen() -> None:
    w = normal(8, 256, seed=7)
    coarse, fine = (
        np.abs(to_numpy(answer.quantize(w, 64, bits).dequantize(mx.float32)) - to_numpy(w)).mean() for bits in (4, 8)
    )
    assert 14 < coarse / fine < 20, (
        f"a step of 1/15 of the range against one of 1/255: errors differ by 17, not {coarse / fine:.1f}"
    )


def test_task_2_mlx_can_multiply_by_it() -> None:
    w, x = normal(48, 128, seed=8), normal(2, 128, seed=9)
    got = answer.quantize(w)
    assert (got.group_size, got.bits) == (64, 4), "by default 4 bits in groups of 64"
    product = mx.quantized_matmul(x, got.weight, got.scales, got.biases, group_size=64, bits=4)
    assert_close(product, to_numpy(x) @ to_numpy(got.dequantize(mx.float32)).T, "MLX's kernels read your matrix")


@pytest.mark.parametrize(
    ("w", "group_size", "bits"),
    [
        (mx.zeros((2, 96)), 64, 4),
        (mx.zeros((2, 128)), 48, 4),
        (mx.zeros((2, 128)), 16, 4),
        (mx.zeros((2, 128)), 64, 3),
        (mx.zeros((128,)), 64, 4),
        (mx.zeros((2, 2, 64)), 64, 4),
        (mx.zeros((2, 64), dtype=mx.int32), 64, 4),
        (mx.array([[math.nan] + [0.0] * 63]), 64, 4),
        (mx.array([[math.inf] + [0.0] * 63]), 64, 4),
    ],
    ids=[
        "96 in groups of 64",
        "groups of 48",
        "groups of 16",
        "3 bits",
        "a vector",
        "three axes",
        "integers",
        "NaN",
        "infinity",
    ],
)
def test_task_2_what_cannot_be_quantized_is_refused(w: mx.array, group_size: int, bits: int) -> None:
    with refuses(ValueError, f"{w.dtype} {w.shape}, {bits} bits in groups of {group_size}: check what the docstring asks for"):
        answer.quantize(w, group_size, bits)


# Task 3: dequantize


@pytest.mark.parametrize("dtype", HALF)
@every_format
def test_task_3_bit_for_bit_what_mlx_unpacks(bits: int, group_size: int, dtype: mx.Dtype) -> None:
    # Scales of 8 or 11 bits times q of at most 8 is exact in float32, so that one rounding is left whatever the order.
    weight = packed(6, 256, group_size, bits, dtype=dtype)
    got = answer.dequantize(weight)
    assert got.dtype == mx.float32, f"float32 unless another dtype is asked for, not {got.dtype}"
    want = weight.dequantize(mx.float32)
    assert_close(got, want, "turn scales and biases into float32 first, then scale · q + bias", 0.0)


@every_format
def test_task_3_float32_scales(bits: int, group_size: int) -> None:
    weight = packed(6, 256, group_size, bits, seed=1)
    assert_close(answer.dequantize(weight), weight.dequantize(mx.float32), "scale · q + bias, a group at a time", ROUNDING)


@pytest.mark.parametrize("dtype", HALF)
def test_task_3_in_half_precision(dtype: mx.Dtype) -> None:
    weight = packed(4, 128, dtype=mx.float32, seed=2)
    got = answer.dequantize(weight, dtype)
    assert got.dtype == dtype, f"{dtype} was asked for, got {got.dtype}"
    assert_close(got, weight.dequantize(mx.float32), f"scale · q + bias in {dtype}", 2 * HALF[dtype])


def test_task_3_every_group_uses_its_own_scale_and_bias() -> None:
    rows, groups = 3, 4
    words = mx.full((rows, groups * 4), 0x11111111, dtype=mx.uint32)  # every q is 1
    scales = mx.arange(rows * groups, dtype=mx.float32).reshape(rows, groups)
    got = answer.dequantize(QuantizedWeight(words, scales, 100 * scales, group_size=32, bits=4))
    want = np.repeat(101 * to_numpy(scales), 32, axis=1)
    assert_close(got, want, "scale i and bias i of a row belong to its numbers 32 i … 32 i + 31", 0.0)


def test_task_3_a_width_that_fills_no_word_is_refused() -> None:
    with refuses(ValueError, "only 4 and 8 bits fill a word without a rest", named="3"):
        answer.dequantize(packed(2, 64, bits=3))


# Task 4: a linear layer that stays packed


@pytest.mark.parametrize("shape", [(64,), (1, 64), (5, 64), (2, 3, 64), (2, 40, 64)], ids=str)
@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
def test_task_4_it_multiplies_by_the_full_matrix(shape: tuple[int, ...], with_bias: bool) -> None:
    weight, x = packed(48, 64, 32), normal(*shape, seed=3)
    bias = normal(48, seed=4) if with_bias else None
    got = answer.QuantizedLinear(weight, bias)(x)
    want = to_numpy(x) @ to_numpy(weight.dequantize(mx.float32)).T
    assert_close(got, want + (0 if bias is None else to_numpy(bias)), f"x {shape} times (48, 64) transposed, plus the bias")


@every_format
def test_task_4_every_format(bits: int, group_size: int) -> None:
    weight, x = packed(32, 256, group_size, bits, seed=5), normal(3, 256, seed=6)
    want = to_numpy(x) @ to_numpy(weight.dequantize(mx.float32)).T
    assert_close(answer.QuantizedLinear(weight)(x), want, f"{bits} bits in groups of {group_size}")


@pytest.mark.parametrize("dtype", HALF)
def test_task_4_half_precision_stays_half(dtype: mx.Dtype) -> None:
    weight, x = packed(32, 128, dtype=dtype, seed=7), normal(2, 128, seed=8, size=0.1, dtype=dtype)
    got = answer.QuantizedLinear(weight, normal(32, seed=9, dtype=dtype))(x)
    assert got.dtype == dtype, f"{dtype} in, {dtype} out: dequantize to the dtype of x"
    want = to_numpy(x) @ to_numpy(weight.dequantize(mx.float32)).T + to_numpy(normal(32, seed=9, dtype=dtype))
    assert_close(got, want, f"x Wᵀ + b in {dtype}", 4 * HALF[dtype])


def test_task_4_the_full_matrix_does_not_stay_in_memory() -> None:
    weight, x = packed(1024, 1024), mx.ones((1, 1024))
    mx.eval(weight.weight, weight.scales, weight.biases, x)
    full = 1024 * 1024 * 4
    gc.collect()
    before = mx.get_active_memory()
    layer = answer.QuantizedLinear(weight)
    for _ in range(2):
        mx.eval(layer(x))
    gc.collect()
    kept = mx.get_active_memory() - before
    assert kept < full / 4, (
        f"after a call {kept / 2**20:.1f} MiB more are in use, and the full matrix is {full / 2**20:.0f} MiB: "
        "unpack it in the call, and let it go"
    )
    assert isinstance(layer.weight, QuantizedWeight), "what the layer holds is the packed matrix"


# Task 5: measure


def weights_by_hand(tied: bool) -> dict[str, Any]:
    """3 tokens of width 64: a table in float32, one packed matrix, a norm and a bias in float16."""
    weights: dict[str, Any] = {
        "model.embed_tokens.weight": mx.zeros((3, 64)),
        "model.layers.0.self_attn.q_proj.weight": packed(10, 64, 32, dtype=mx.float16),
        "model.layers.0.self_attn.q_proj.bias": mx.zeros(10, dtype=mx.float16),
        "model.norm.weight": mx.zeros(64, dtype=mx.float16),
    }
    return weights if tied else weights | {"lm_head.weight": mx.zeros((3, 64), dtype=mx.float16)}


LAYER = 10 * (64 // 2) + 10 * 2 * (2 + 2) + 10 * 2 + 64 * 2  # nibbles, scales and biases, bias, norm


def test_task_5_a_packed_matrix_is_read_at_its_packed_size() -> None:
    got = answer.bytes_per_token(weights_by_hand(tied=True))
    assert got == 3 * 64 * 4 + LAYER, (
        f"tied: the table is the head as well, and read whole; half a byte a packed weight, and 4 bytes a group; got {got}"
    )


def test_task_5_of_a_table_beside_the_head_one_row_is_read() -> None:
    got = answer.bytes_per_token(weights_by_hand(tied=False))
    assert got == 64 * 4 + 3 * 64 * 2 + LAYER, f"untied: one row of the table, all of the head; got {got}"


def test_task_5_one_row_of_a_packed_table() -> None:
    table, head = packed(100, 64, 32, dtype=mx.float16), packed(100, 64, 64, bits=8, dtype=mx.float16)
    got = answer.bytes_per_token({"model.embed_tokens.weight": table, "lm_head.weight": head})
    assert got == (32 + 8) + 100 * (64 + 4), f"a row of the table is 32 bytes and two groups, the head is 100 rows; got {got}"


class Bigrams:
    """A model whose logits depend on the last token alone."""

    def __init__(self, table: mx.array) -> None:
        self.table = table
        self.config = tiny_config(vocab_size=table.shape[1])

    def __call__(
        self, tokens: mx.array, offset: Any = 0, cache: Any = None, mask: Any = "causal", logits_to_keep: int | None = None
    ) -> mx.array:
        return self.table[tokens if logits_to_keep is None else tokens[:, tokens.shape[1] - logits_to_keep :]]


def perplexity64(logits: np.ndarray, targets: list[int]) -> float:
    """The formula, for logits `(n, V)` of what should be `targets`."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_likelihood = shifted[np.arange(len(targets)), targets] - np.log(np.exp(shifted).sum(-1))
    return float(np.exp(-log_likelihood.mean()))


def by_windows(model: Callable[..., mx.array], tokens: list[int], window: int) -> float:
    starts = range(0, len(tokens) - 1, window)
    logits = [to_numpy(model(mx.array([tokens[s : min(s + window, len(tokens) - 1)]])))[0] for s in starts]
    return perplexity64(np.concatenate(logits), tokens[1:])


@pytest.mark.parametrize("vocabulary", [2, 50, 1000])
def test_task_5_who_knows_nothing_wavers_between_all(vocabulary: int) -> None:
    got = answer.perplexity(Bigrams(mx.zeros((vocabulary, vocabulary))), [1, 0, 1, 1, 0, 1])
    assert got == pytest.approx(vocabulary, rel=FLOAT32), f"{vocabulary} tokens, all equally likely: perplexity {vocabulary}"


def test_task_5_who_is_sure_and_right_does_not_waver() -> None:
    next_token = 50.0 * mx.eye(6)[mx.array([1, 2, 3, 4, 5, 0])]
    got = answer.perplexity(Bigrams(next_token), [0, 1, 2, 3, 4, 5, 0, 1])
    assert got == pytest.approx(1.0, rel=FLOAT32), (
        "a model that is sure of each next token, and right: are the logits of a position matched with the token after it?"
    )


@pytest.mark.parametrize("window", [1, 3, 7, 16, 24, 25, 100])
def test_task_5_every_token_but_the_first_counts_once(window: int) -> None:
    model, tokens = Bigrams(normal(40, 40, seed=1, size=3.0)), [t % 40 for t in make_prompt(25)]
    got = answer.perplexity(model, tokens, window)
    want = by_windows(model, tokens, 24)
    assert got == pytest.approx(want, rel=FLOAT32), (
        f"25 tokens in windows of {window}: where only the last token matters, windows make no difference. "
        "The last token of a window predicts the first of the next"
    )


def printable(length: int) -> list[int]:
    """Tokens that the toy model may write; the others it finds impossible."""
    return [32 + token % 95 for token in make_prompt(length, seed=2)]


@pytest.mark.parametrize("window", [4, 10, 29, 256])
def test_task_5_a_token_is_predicted_from_its_window(window: int) -> None:
    model, tokens = ToyModel(), printable(30)
    got = answer.perplexity(model, tokens, window)
    want = by_windows(model, tokens, window)
    assert got == pytest.approx(want, rel=10 * FLOAT32), f"30 tokens: the windows start at 0, {window}, {2 * window}, …"


def test_task_5_windows_bound_what_goes_through_the_model() -> None:
    model = CountingModel(ToyModel())
    answer.perplexity(model, printable(100), 16)
    longest = max(rows * length for rows, length in model.calls)
    assert longest <= 16, f"windows of 16 tokens, but {longest} went through the model at once"


@pytest.mark.parametrize("dtype", HALF)
def test_task_5_likelihoods_are_computed_in_float32(dtype: mx.Dtype) -> None:
    model, tokens = Bigrams(normal(50, 50, seed=3, size=4.0, dtype=dtype)), [t % 50 for t in make_prompt(200)]
    got = answer.perplexity(model, tokens)
    assert got == pytest.approx(by_windows(model, tokens, 199), rel=FLOAT32), f"logits of {dtype}: widen them, then sum up"


def test_task_5_large_logits_do_not_overflow() -> None:
    model, tokens = Bigrams(1000.0 + normal(20, 20, seed=4)), [t % 20 for t in make_prompt(30)]
    got = answer.perplexity(model, tokens)
    # Logits of 1000 have steps of 6e-5 in float32, and the same steps in the formula's input.
    assert got == pytest.approx(by_windows(model, tokens, 29), rel=10 * FLOAT32), (
        "e^1000 is infinite: subtract the largest first"
    )


def test_task_5_two_tokens_are_enough() -> None:
    model = Bigrams(normal(10, 10, seed=5))
    got, want = answer.perplexity(model, [5, 6]), by_windows(model, [5, 6], 1)
    assert got == pytest.approx(want, rel=10 * FLOAT32), "one of two tokens is predicted, from the other"


@pytest.mark.parametrize(("tokens", "window"), [([], 8), ([5], 8), ([5, 6], 0), ([5, 6], -3)], ids=str)
def test_task_5_too_little_to_predict_is_refused(tokens: list[int], window: int) -> None:
    with refuses(ValueError, f"{len(tokens)} tokens in windows of {window}: there is nothing to predict, or no window"):
        answer.perplexity(Bigrams(mx.zeros((10, 10))), tokens, window)


class Oracle:
    """mlx-lm's model of the weights that ship, with the calling convention of ours."""

    config = tiny_config()

    def __call__(self, tokens: mx.array, offset: Any = 0, **ignored: Any) -> mx.array:
        return embedded_oracle()(tokens)


def test_task_5_a_real_model_prefers_english() -> None:
    encode = embedded().tokenizer.encode
    text = "The keeper of the lighthouse climbed the stairs, lit the lamp, and wrote the hour into the book."
    shuffled = " ".join(sorted(text.split()))
    plain, mixed = (answer.perplexity(Oracle(), encode(words)) for words in (text, shuffled))
    assert 1 < plain < 100, f"{plain:.0f} is not the perplexity of plain English for this model"
    assert mixed > 5 * plain, f"the same words in alphabetical order should be far less likely: {mixed:.0f} against {plain:.0f}"
    want = by_windows(Oracle(), encode(text), 256)
    # A float32 sum over 49152 tokens is off by one part in 10^4.
    assert plain == pytest.approx(want, rel=10 * FLOAT32), "mlx-lm's logits, and the formula in float64"
