"""Launches kernels of MLX under the CPU runner, and compares what comes out.

MLX's wheel ships its kernels as headers. In C++ a kernel is an ordinary function, so a test includes the header and calls the
kernel from a body of its own. MLX starts it with the same grid and threadgroups on a GPU (mlx/backend/metal/*.cpp).
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from metal_anywhere import cpu_runner, metal_kernel

DTYPES = (mx.float32, mx.float16, mx.bfloat16)
EPSILON = {mx.float32: 2**-23, mx.float16: 2**-10, mx.bfloat16: 2**-7}  # between 1 and the next larger number
ORDERS = ("ascending", "shuffled")
KERNELS = "mlx/backend/metal/kernels"


def name_of(value: Any) -> str:
    return str(value).removeprefix("mlx.core.")


each_dtype = pytest.mark.parametrize("T", DTYPES, ids=name_of)


def random(*shape: int, dtype: mx.Dtype = mx.float32, seed: int = 0) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def header(*files: str, constants: dict[str, bool | int] | None = None) -> str:
    """Includes MLX's `files`, and gives Metal's function constants their values when the kernel is loaded, as Metal does."""
    text = "".join(f'#include "{KERNELS}/{file}.h"\n' for file in files)
    if constants:
        values = " ".join(f"{name} = {int(value)};" for name, value in constants.items())
        text += f"__attribute__((constructor)) MSL_UNCHECKED static void set_function_constants() {{ {values} }}\n"
    return text


def launch(
    head: str,
    body: str,
    inputs: dict[str, mx.array],
    outputs: dict[str, tuple[Sequence[int], mx.Dtype]],
    threadgroups: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    **template: mx.Dtype | int | bool,
) -> list[list[mx.array]]:
    """The outputs of `body`, for each order of threads. The grid is given in threadgroups, as MLX gives it."""
    kernel = metal_kernel("mlx_kernel", list(inputs), list(outputs), body, header=head)
    grid = tuple(groups * threads for groups, threads in zip(threadgroups, threadgroup, strict=True))
    results = []
    for order in ORDERS:
        with cpu_runner(order, seed=1):
            results.append(
                kernel(
                    inputs=list(inputs.values()),
                    template=list(template.items()),
                    grid=grid,
                    threadgroup=threadgroup,
                    output_shapes=[shape for shape, _ in outputs.values()],
                    output_dtypes=[dtype for _, dtype in outputs.values()],
                )
            )
    return results


def assert_close(got: mx.array, want: mx.array, tolerance: float) -> None:
    """The largest error, measured by the largest magnitude that is wanted, is at most `tolerance`. A NaN never is."""
    assert got.shape == want.shape
    a, b = np.array(got.astype(mx.float32)), np.array(want.astype(mx.float32))
    error = np.abs(a - b).max() / np.abs(b).max()
    assert error <= tolerance, f"the CPU runner and MLX differ by {error:.1e} of the largest value; {tolerance:.1e} is rounding"


def rounding(dtype: mx.Dtype, additions: int) -> float:
    """What rounding explains: one of the result to `dtype`, and one of float32 for each of the additions."""
    return EPSILON[dtype] / 2 + additions * EPSILON[mx.float32] / 2
