"""Week 1 Day 2: rotary positions, against the formula in float64 and MLX's own."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import HALF, assert_close, normal, rotation, rotation64, to_numpy
from support import refuses

LAYOUTS = pytest.mark.parametrize("traditional", [False, True], ids=["halves", "neighbours"])


@pytest.mark.parametrize("head_dim", [2, 8, 64, 128])
@pytest.mark.parametrize("base", [10000.0, 500000.0, 1e6])
def test_task_1_frequencies_fall_from_1_to_almost_1_over_base(head_dim: int, base: float) -> None:
    got = answer.rope_frequencies(head_dim, base)
    want = base ** (-np.arange(0, head_dim, 2) / head_dim)
    assert got.shape == (head_dim // 2,), "one frequency a pair of numbers"
    assert got.dtype == mx.float32, f"frequencies are float32, not {got.dtype}"
    # Relative, because the smallest are below 1e-5; a power in float32 is good to about 1e-6.
    assert_close(got / mx.array(want, dtype=mx.float32), np.ones(head_dim // 2), "base^(−2i / head_dim), i = 0 … ", 1e-5)


@pytest.mark.parametrize("head_dim", [1, 7])
def test_task_1_an_odd_head_dimension_is_refused(head_dim: int) -> None:
    with refuses(ValueError, f"{head_dim} numbers can't be turned in pairs: refuse an odd head dimension"):
        answer.rope_frequencies(head_dim, 10000.0)


def assert_rotation(got: tuple[mx.array, mx.array], base: float, offsets: Sequence[int], length: int, hint: str) -> None:
    # An angle of size p in float32 is off by up to p · 2^-24, after two roundings (frequency, product) twice that.
    tolerance = max(1e-5, (max(offsets) + length) * 2.0**-22)
    for name, part, want in zip(("cos", "sin"), got, rotation64(16, base, offsets, length), strict=True):
        assert part.dtype == mx.float32, f"{name} is {part.dtype}: angles need float32"
        assert_close(part, want, f"{name}: {hint}", tolerance)


@pytest.mark.parametrize("base", [10000.0, 1e6])
def test_task_2_angles_are_position_times_frequency(base: float) -> None:
    got = answer.RoPE(16, base).rotation(0, 10)
    assert_rotation(got, base, [0], 10, "angle = position · frequency, (1, length, 1, head_dim/2), positions from 0")


@pytest.mark.parametrize("offset", [1, 17, 300])
def test_task_2_an_offset_is_the_first_position(offset: int) -> None:
    assert_rotation(answer.RoPE(16).rotation(offset, 5), 10000.0, [offset], 5, f"positions {offset} … {offset + 4}")


@pytest.mark.parametrize("offsets", [[5], [0, 3, 40], [7, 7]])
def test_task_2_every_row_has_its_own_offset(offsets: list[int]) -> None:
    got = answer.RoPE(16).rotation(mx.array(offsets), 4)
    assert_rotation(got, 10000.0, offsets, 4, f"row b starts at offset[b] of {offsets}: (B, length, 1, head_dim/2)")


def test_task_2_one_token_a_row_as_in_decoding() -> None:
    got = answer.RoPE(16).rotation(mx.array([9, 0, 130], dtype=mx.int32), 1)
    assert_rotation(got, 10000.0, [9, 0, 130], 1, "length 1, one offset per row: (B, 1, 1, head_dim/2)")


@pytest.mark.parametrize("offset", [4095, 100_000])
def test_task_2_far_positions_stay_exact(offset: int) -> None:
    hint = "half precision can't count above 2048: keep positions whole numbers or float32"
    assert_rotation(answer.RoPE(16).rotation(offset, 3), 10000.0, [offset], 3, hint)
    assert_rotation(answer.RoPE(16).rotation(mx.array([0, offset]), 3), 10000.0, [0, offset], 3, hint)


@pytest.mark.parametrize("positions", [[[4, 0, 9, 300, 1]], [[0, 1, 2], [7, 7, 40]]])
def test_task_2_every_token_may_have_its_own_position(positions: list[list[int]]) -> None:
    length = len(positions[0])
    got = answer.RoPE(16).rotation(mx.array(positions), length)
    for name, part, i in (("cos", got[0], 0), ("sin", got[1], 1)):
        want = np.concatenate([np.concatenate([rotation64(16, 10000.0, [p], 1)[i] for p in row], axis=1) for row in positions])
        # As in `assert_rotation`: positions up to 300.
        assert_close(part, want, f"{name}: positions (B, length) are taken as they are, one for each token", 300 * 2.0**-22)


@pytest.mark.parametrize("shape", [(1, 4), (2, 1), (2, 6)])
def test_task_2_there_is_a_position_for_each_token(shape: tuple[int, int]) -> None:
    look_at = f"positions {shape} for 5 tokens per row: there must be one for each token, or one offset per row"
    with refuses(ValueError, look_at, named="5"):
        answer.RoPE(16).rotation(mx.zeros(shape, dtype=mx.int32), 5)


def rotate64(x: mx.array, offsets: Sequence[int], traditional: bool) -> np.ndarray:
    """Pairs as complex numbers, each multiplied by cos + i·sin."""
    y = to_numpy(x)
    half = y.shape[-1] // 2
    first, second = (slice(0, None, 2), slice(1, None, 2)) if traditional else (slice(0, half), slice(half, None))
    cos, sin = rotation64(y.shape[-1], 10000.0, offsets, y.shape[1])
    turned = (y[..., first] + 1j * y[..., second]) * (cos + 1j * sin)
    y[..., first], y[..., second] = turned.real, turned.imag
    return y


@LAYOUTS
@pytest.mark.parametrize("offsets", [[0], [12], [3, 0, 50]])
def test_task_3_pairs_are_turned(traditional: bool, offsets: list[int]) -> None:
    x = normal(3, 5, 2, 16, seed=1)
    rope = answer.RoPE(16, traditional=traditional)
    pair = "2i and 2i + 1" if traditional else "i and i + D/2"
    hint = f"the numbers {pair} become a·cos − b·sin and b·cos + a·sin"
    want = rotate64(x, offsets, traditional)
    assert_close(rope.rotate(x, rotation(16, 10000.0, offsets, 5)), want, hint)
    offset = offsets[0] if len(offsets) == 1 else mx.array(offsets)
    assert_close(rope(x, offset), want, f"rope(x, {offsets}) is rotate(x, rotation({offsets}, L))")


@LAYOUTS
def test_task_3_it_is_what_mlx_computes(traditional: bool) -> None:
    x = normal(2, 7, 3, 32, seed=2)
    got = answer.RoPE(32, 500.0, traditional).rotate(x, rotation(32, 500.0, [11, 0], 7))
    # MLX has the heads before the positions.
    want = mx.fast.rope(
        x.swapaxes(1, 2), 32, traditional=traditional, base=500.0, scale=1.0, offset=mx.array([11, 0])
    ).swapaxes(1, 2)
    assert_close(got, want, "x is (B, L, H, D): positions along axis 1, the same angles for every head")


@LAYOUTS
def test_task_3_position_0_is_left_alone(traditional: bool) -> None:
    x = normal(2, 1, 2, 8, seed=3)
    got = answer.RoPE(8, traditional=traditional).rotate(x, rotation(8, 10000.0, [0], 1))
    assert_close(got, x, "at position 0 all angles are 0: the numbers must also come back in their old order")


@LAYOUTS
def test_task_3_only_the_difference_of_positions_counts(traditional: bool) -> None:
    q, k = normal(1, 1, 1, 16, seed=4), normal(1, 1, 1, 16, seed=5)
    rope = answer.RoPE(16, traditional=traditional)

    def score(at_q: int, at_k: int) -> mx.array:
        turned = [rope.rotate(x, rotation(16, 10000.0, [at], 1)) for x, at in ((q, at_q), (k, at_k))]
        return mx.sum(turned[0] * turned[1])

    hint = "q at m times k at n depends on m − n alone: are queries and keys turned in the same direction, by the same angles?"
    for shift in (1, 30, 900):
        assert_close(score(7 + shift, 2 + shift), score(7, 2), hint)
    assert abs(score(7, 2).item() - score(2, 7).item()) > 1e-2, (
        "a key 5 positions before and one 5 after should score differently"
    )


@LAYOUTS
def test_task_3_a_rotation_keeps_the_length(traditional: bool) -> None:
    x = normal(2, 4, 2, 16, seed=6)
    got = answer.RoPE(16, traditional=traditional).rotate(x, rotation(16, 10000.0, [100, 3], 4))
    assert_close(
        mx.linalg.norm(got, axis=-1), np.linalg.norm(to_numpy(x), axis=-1), "turning must not stretch: check the signs"
    )


@LAYOUTS
@pytest.mark.parametrize("dtype", HALF)
def test_task_3_half_precision_is_kept(traditional: bool, dtype: mx.Dtype) -> None:
    x = normal(1, 4, 2, 16, seed=7, dtype=dtype)
    got = answer.RoPE(16, traditional=traditional).rotate(x, rotation(16, 10000.0, [3000], 4))
    assert got.dtype == dtype, f"the result should have the dtype of x, {dtype}, not {got.dtype}"
    assert_close(got, rotate64(x, [3000], traditional), "the rotation of half-precision numbers", HALF[dtype])
