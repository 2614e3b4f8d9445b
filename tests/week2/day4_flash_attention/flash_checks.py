"""Tasks 4 and 5 have one contract, and so the same checks."""

import mlx.core as mx

from oracles import assert_close, attention64, causal64, to_numpy
from support import refuses
from week2.day4_flash_attention.kernel_checks import (
    ROUNDED_ONCE,
    Attention,
    barrier_hint,
    bytes_read,
    check_refusals,
    in_order,
    make_qkv,
)

CASES = [
    (1, 2, 2, 40, 40, 64, True),
    (2, 4, 2, 5, 70, 64, True),
    (1, 3, 1, 1, 33, 64, True),
    (1, 2, 1, 33, 64, 64, True),
    (1, 1, 1, 64, 64, 64, True),
    (2, 2, 1, 19, 45, 64, False),
    (1, 1, 1, 50, 7, 64, False),
    (1, 2, 1, 37, 41, 128, True),
    (1, 1, 1, 16, 20, 32, True),
]


PLAIN = (
    "head h reads key/value head h // (H / KV), query i is at position S − L + i, the last tiles may be partly filled, the "
    "scale is applied once, l and o are rescaled when m grows"
)
MATRICES = f"{PLAIN}; keys are loaded transposed, the diagonal is on the left, l is summed over the four lanes of a row"


def check_formula(attend: Attention, case: tuple[int, int, int, int, int, int, bool], look_at: str) -> None:
    *dims, causal = case
    q, k, v = make_qkv(*dims)
    length, total = dims[3:5]
    hint = f"B, H, KV, L, S, D, causal = {case}: {look_at}"
    got = attend(q, k, v, causal=causal)
    assert_close(got, attention64(q, k, v, mask=causal64(length, total) if causal else 0.0), hint)


def check_scale(attend: Attention) -> None:
    q, k, v = make_qkv(1, 2, 1, 20, 40, 64)
    want = attention64(q, k, v, 0.3, causal64(20, 40))
    assert_close(attend(q, k, v, 0.3), want, "scale=0.3 takes the place of 1/√D, once; attention is causal by default")


def check_half(attend: Attention, dtype: mx.Dtype) -> None:
    q, k, v = make_qkv(1, 2, 1, 20, 40, 64, dtype)
    v = 100 * v
    out = attend(q, k, v)
    assert out.dtype == dtype, f"the result has the dtype of q, {dtype}, not {out.dtype}"
    hint = "weights and sums are float32, and only the result is rounded; if it is far off, see the test of the formula"
    assert_close(out, attention64(q, k, v, mask=causal64(20, 40)), hint, ROUNDED_ONCE[dtype])


def check_large_scores(attend: Attention) -> None:
    q, k, v = make_qkv(1, 1, 1, 40, 100, 64, size=300.0)
    want = attention64(q, k, v, mask=causal64(40, 100))
    # Scores of a few hundred have an absolute error of about 1e-4 in float32, which is a relative one in the weights.
    assert_close(attend(q, k, v), want, "scores of a few hundred: a running maximum for each row, and rescaled sums", 1e-3)


def check_traffic(attend: Attention) -> None:
    q, k, v = make_qkv(1, 1, 1, 128, 128, 64)
    everything = bytes_read(lambda: attend(q, k, v, causal=False))["k"]
    most = 128 // 8 * k.nbytes
    assert everything <= most, f"{everything} bytes read of k, more than {most}: a tile of keys serves a whole tile of queries"
    causal = bytes_read(lambda: attend(q, k, v, causal=True))["k"]
    assert causal <= 0.8 * everything, f"{causal} bytes read of k, {everything} without the mask: skip tiles that no query sees"


def check_order(attend: Attention, order: str) -> None:
    q, k, v = make_qkv(1, 2, 1, 40, 70, 64)
    assert_close(in_order(order, lambda: attend(q, k, v)), attention64(q, k, v, mask=causal64(40, 70)), barrier_hint(order))


def check_row_alone(attend: Attention) -> None:
    q, k, v = make_qkv(2, 2, 1, 20, 40, 64)
    alone = mx.concatenate([attend(q[b : b + 1], k[b : b + 1], v[b : b + 1]) for b in range(2)])
    assert_close(attend(q, k, v), to_numpy(alone), "a row's result must not depend on its neighbours", 0.0)


def check_errors(attend: Attention) -> None:
    mx.eval(attend(*make_qkv(1, 2, 1, 3, 8, 64)))
    check_refusals(attend, 3, unsupported_dim=160)
    with refuses(ValueError, "9 queries can't be the last of 8 positions", "9 queries"):
        attend(*make_qkv(1, 2, 1, 9, 8, 64))
