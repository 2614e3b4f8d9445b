"""The smallest kernel: one thread per number. It shows how a grid is cut into threadgroups, and nothing else."""

from pathlib import Path

import mlx.core as mx

from metal_anywhere import metal_kernel, read_metal
from tiny_llm_kit.course import task

_SCALED_ADD = metal_kernel(
    name="scaled_add",
    input_names=["a", "x", "y"],
    output_names=["out"],
    source=read_metal(Path(__file__).with_suffix(".metal")),
)


def scaled_add(a: float, x: mx.array, y: mx.array) -> mx.array:
    """a · x + y, elementwise, rounded once.

    Args:
        x, y: any shape, the same for both, and one dtype: float32, float16 or bfloat16.
    Returns:
        An array like x.
    Raises:
        ValueError: if x and y differ in shape or dtype.
    """
    if (x.shape, x.dtype) != (y.shape, y.dtype):
        raise ValueError(f"x is {x.shape} of {x.dtype} and y {y.shape} of {y.dtype}: they must be alike")
    return launch_scaled_add(mx.array(a, dtype=mx.float32), x.reshape(-1), y.reshape(-1)).reshape(x.shape)


@task(week=2, day=3, number=1)
def launch_scaled_add(a: mx.array, x: mx.array, y: mx.array) -> mx.array:
    """Runs the kernel `_SCALED_ADD` with one thread per number. Write this and `hello.metal`.

    Args:
        a: a float32 scalar array, without axes.
        x, y: `(n,)`; n need not be a multiple of the threadgroup's size.
    Returns:
        `(n,)`, of x's dtype, which the kernel knows as T.
    """
    raise NotImplementedError("Week 2 Day 3, task 1: hello, grid. Read book/src/week2-03-metal-matvec.md")
