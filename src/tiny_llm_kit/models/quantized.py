"""A matrix in affine groups, as MLX packs it, and the rule for which machines it stays packed on.

Every `group_size` neighbouring numbers of a row share one scale and one bias; a number is `scale * q + bias`, where q is an
unsigned integer of `bits` bits, packed into uint32 words from the lowest bit up. See the documentation of `mx.quantize`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx

from tiny_llm_kit.machine.fast_math import by_columns

_GROUP_SIZES = (32, 64, 128)
_BITS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class QuantizedWeight:
    """A packed matrix whose full shape is (N, K), as in y = x @ W.T.

    weight: uint32, (N, K * bits / 32)
    scales, biases: floating, (N, K / group_size)
    Raises ValueError if the three arrays and the two numbers do not describe one matrix.
    """

    weight: mx.array
    scales: mx.array
    biases: mx.array
    group_size: int
    bits: int

    def __post_init__(self) -> None:
        if self.group_size not in _GROUP_SIZES or self.bits not in _BITS:
            raise ValueError(
                f"{self.bits} bits in groups of {self.group_size} are not supported: "
                f"MLX has {_BITS} bits in groups of {_GROUP_SIZES}"
            )
        if self.weight.dtype != mx.uint32:
            raise ValueError(f"packed weights must be uint32, got {self.weight.dtype}")
        if self.scales.shape != self.biases.shape or self.scales.ndim != 2:
            raise ValueError(
                f"scales {self.scales.shape} and biases {self.biases.shape} must have one shape, in two dimensions"
            )
        if not all(mx.issubdtype(array.dtype, mx.floating) for array in (self.scales, self.biases)):
            raise ValueError(f"scales and biases must be floating, got {self.scales.dtype} and {self.biases.dtype}")
        N, K = self.shape
        if self.weight.shape != (N, K * self.bits // 32):
            raise ValueError(
                f"packed weights of a ({N}, {K}) matrix must be ({N}, {K * self.bits // 32}), got {self.weight.shape}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the full matrix."""
        N, groups = self.scales.shape
        return N, groups * self.group_size

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array]:
        """weight, scales and biases."""
        return self.weight, self.scales, self.biases

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays together: what reading the matrix takes."""
        return sum(array.nbytes for array in self.arrays)

    def dequantize(self, dtype: mx.Dtype) -> mx.array:
        """The full matrix, (N, K). The arithmetic is done in `dtype`: float32 loses nothing of what the file holds."""
        return mx.dequantize(
            self.weight, self.scales.astype(dtype), self.biases.astype(dtype), group_size=self.group_size, bits=self.bits
        )


def full_precision(w: mx.array | QuantizedWeight) -> mx.array:
    """The full array in float32."""
    return w.dequantize(mx.float32) if isinstance(w, QuantizedWeight) else w.astype(mx.float32)


Weights = dict[str, mx.array | QuantizedWeight]


def place(weights: Mapping[str, mx.array | QuantizedWeight], keep_quantized: bool) -> Weights:
    """Give the weights the types that the machine is fast with, and read them into memory.

    On a GPU (`keep_quantized`) packed matrices stay packed, and everything else takes the type of their scales, so that a
    layer computes in one type; a checkpoint without packed matrices stays as it is. MLX's CPU backend is slow at half
    precision and at quantized products, so there everything becomes a float32 array, matrices by columns.
    """
    if keep_quantized:
        dtype = next((w.scales.dtype for w in weights.values() if isinstance(w, QuantizedWeight)), None)
        placed = {
            name: w if isinstance(w, QuantizedWeight) or dtype is None else w.astype(dtype) for name, w in weights.items()
        }
    else:
        full = ((name, full_precision(w)) for name, w in weights.items())  # one at a time: a second copy is soon gone
        placed = {name: by_columns(w) if w.ndim == 2 else w for name, w in full}
    for w in placed.values():
        mx.eval(w.arrays if isinstance(w, QuantizedWeight) else w)
    return placed
