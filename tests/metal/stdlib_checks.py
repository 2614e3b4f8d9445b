"""Many checks in one kernel: each is an expression of Metal, and what NumPy says it is for every thread."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from metal_anywhere import cpu_runner, metal_kernel

THREADS = 64  # two SIMD groups, in one threadgroup

Check = tuple[str, Any]  # an expression of `i`, the inputs' names, `lane`; an array that broadcasts to (THREADS,)


def evaluate(
    expressions: Sequence[str], inputs: dict[str, mx.array], dtype: mx.Dtype, before: str = "", order: str = "ascending"
) -> np.ndarray:
    """(expressions, THREADS) values of `dtype`, widened to float32 from half precision. `before` are statements."""
    lines = [
        "uint i = thread_position_in_grid.x, lane = thread_index_in_simdgroup;",
        before,
        *(f"result[{n * THREADS} + i] = {expression};" for n, expression in enumerate(expressions)),
    ]
    kernel = metal_kernel("checks", list(inputs), ["result"], "\n".join(lines))
    with cpu_runner(order, partial_simd_groups=True):
        [result] = kernel(
            inputs=list(inputs.values()),
            grid=(THREADS, 1, 1),
            threadgroup=(THREADS, 1, 1),
            output_shapes=[(len(expressions), THREADS)],
            output_dtypes=[dtype],
        )
    return np.array(result.astype(mx.float32) if dtype in (mx.float16, mx.bfloat16) else result)


def verify(
    checks: Sequence[Check],
    inputs: dict[str, mx.array],
    dtype: mx.Dtype = mx.float32,
    tolerance: float = 0.0,
    before: str = "",
    order: str = "ascending",
) -> None:
    """Each expression has the value wanted, up to `tolerance` times its magnitude (or times 1), and NaN only if wanted."""
    got = evaluate([expression for expression, _ in checks], inputs, dtype, before, order)
    for (expression, wanted), row in zip(checks, got, strict=True):
        want = np.broadcast_to(np.asarray(wanted), (THREADS,)).astype(np.float64)
        with np.errstate(invalid="ignore"):
            far = np.abs(row.astype(np.float64) - want) > tolerance * np.maximum(1, np.abs(want))
        wrong = (far & (row != want)) | (np.isnan(row) != np.isnan(want))
        first = int(wrong.argmax())
        assert not wrong.any(), f"{expression} is {row[first]} and not {want[first]} in thread {first} (order: {order})"
