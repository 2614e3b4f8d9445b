"""RMSNorm in one kernel: a row is read once, where the plain formula reads and writes it several times."""

from pathlib import Path

import mlx.core as mx

from metal_anywhere import metal_kernel, read_metal

_SIMD_WIDTH = 32
_MOST_THREADS = 1024
_NUMBERS = 4
"""Numbers of a row that each thread handles, as long as a threadgroup has enough threads."""

_KERNEL = metal_kernel(
    name="rms_norm",
    input_names=["x", "weight", "eps"],
    output_names=["out"],
    source=read_metal(Path(__file__).with_suffix(".metal")),
)


def fused_rms_norm(x: mx.array, weight: mx.array, eps: float = 1e-5) -> mx.array:
    """x / √(mean(x²) + eps) · weight over the last axis (arXiv 1910.07467), in float32, rounded once.

    Args:
        x: `(..., D)`, any D; float32, float16 or bfloat16.
        weight: `(D,)`.
        eps: keeps the division finite for a row of zeros.
    Returns:
        An array like x.
    Raises:
        ValueError: if the weight is not `(D,)`.
    """
    dim = x.shape[-1]
    if weight.shape != (dim,):
        raise ValueError(f"a weight of shape {weight.shape} does not fit x of shape {x.shape}: it must be ({dim},)")
    if x.size == 0:  # a grid can't be empty
        return x
    numbers = max(_NUMBERS, -(-dim // _MOST_THREADS))
    threads = -(-dim // (numbers * _SIMD_WIDTH)) * _SIMD_WIDTH
    (out,) = _KERNEL(
        inputs=[x, weight, mx.array(eps, dtype=mx.float32)],
        template=[("T", x.dtype), ("N", numbers)],
        grid=(x.size // dim * threads, 1, 1),
        threadgroup=(threads, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return out
