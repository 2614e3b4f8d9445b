"""How long a kernel takes compared with MLX's operator for the same, and with what the machine can do.

It is given what to launch, and knows nothing about it; `kernel_cases` makes it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import mlx.core as mx

from tiny_llm_kit.bench.gpu_time import seconds_per_launch
from tiny_llm_kit.bench.kernel_cases import Comparison

_ROUNDS = 5
_PRODUCT = 4096


@dataclass(frozen=True)
class Figures:
    """What was measured. Times are seconds per launch; `bandwidth` is bytes moved per second, over that of a copy.

    difference: the largest difference between our numbers and MLX's, over the largest of MLX's.
    operations: of a launch, see `Comparison`.
    """

    name: str
    inputs: str
    ours: float
    mlx: float
    bytes: int
    bandwidth: float
    difference: float
    operations: int = 0

    @property
    def ratio(self) -> float:
        return self.ours / self.mlx


@dataclass(frozen=True)
class Peaks:
    """What the machine was seen to do per second: bytes of a copy, operations of a large product."""

    bytes: float
    operations: float

    def bounded_by_memory(self, row: Figures) -> bool:
        return row.bytes / self.bytes >= row.operations / self.operations

    def least_seconds(self, row: Figures) -> float:
        """For its bytes, or for its operations, whichever take longer: the roofline (Williams et al., CACM 52(4), 2009)."""
        return max(row.bytes / self.bytes, row.operations / self.operations)


def hand_over_queues_whole() -> None:
    """Lets MLX queue as much as it is given. Call it before MLX first uses the GPU, which is when it reads this.

    Otherwise it hands over a piece after 40 or 50 MB on Apple silicon, and waits for the GPU while more than ten are under way.
    """
    os.environ.update(MLX_MAX_OPS_PER_BUFFER="100000", MLX_MAX_MB_PER_BUFFER="1000000")


def copy_bandwidth(repeats: int) -> float:
    """Bytes per second, read and written, of MLX's simplest kernel on arrays of 64 MB."""
    arrays = [mx.full((2**25,), i, dtype=mx.float16) for i in range(8)]
    mx.eval(arrays)
    seconds = seconds_per_launch(lambda count: [-arrays[i % len(arrays)] for i in range(count)], len(arrays), repeats)
    return 2 * arrays[0].nbytes / seconds


def product_speed(dtype: mx.Dtype, repeats: int) -> float:
    """Multiplications and additions per second of MLX's product of two large square matrices."""
    a, b = (mx.random.normal((_PRODUCT, _PRODUCT), dtype=dtype, key=mx.random.key(i)) for i in range(2))
    mx.eval(a, b)
    return 2 * _PRODUCT**3 / seconds_per_launch(lambda count: [a @ b for _ in range(count)], 2, repeats)


def measure(comparison: Comparison, copy_speed: float, repeats: int) -> Figures:
    """Runs both sides in turn, so a machine that gets slower does so for both; times are medians.

    copy_speed: bytes that the machine can move in a second. repeats: in all; they are spread over the turns.
    """
    copies = comparison.copies
    rounds = min(repeats, _ROUNDS)

    def seconds(launch: Callable[[int], mx.array]) -> float:
        return seconds_per_launch(lambda count: [launch(i % copies) for i in range(count)], copies, -(-repeats // rounds))

    turns = [(seconds(comparison.ours), seconds(comparison.mlx)) for _ in range(rounds)]
    ours, mlx = (median(side) for side in zip(*turns, strict=True))
    return Figures(
        comparison.name,
        comparison.inputs,
        ours,
        mlx,
        comparison.bytes,
        comparison.bytes / ours / copy_speed,
        comparison.difference(),
        comparison.operations,
    )
