"""What a kernel does, counted: threads, loads, bytes. The CPU runner sees every access, and knows nothing about speed."""

from dataclasses import dataclass

import mlx.core as mx

from metal_anywhere import cpu_runner
from tiny_llm_kit.bench.kernel_cases import Comparison


@dataclass(frozen=True)
class Counts:
    """What one call of a kernel does. Sizes are in bytes.

    least_read, least_written: each input once, and the output once. difference: of the result, see `Comparison`.
    """

    name: str
    inputs: str
    threads: int
    loads: int
    bytes_read: int
    bytes_written: int
    least_read: int
    least_written: int
    barriers: int
    simd_operations: int
    difference: float

    @property
    def bytes_per_load(self) -> float:
        return self.bytes_read / self.loads

    @property
    def least_bytes(self) -> int:
        return self.least_read + self.least_written

    @property
    def ratio(self) -> float:
        """Bytes that are moved for each byte that has to be."""
        return (self.bytes_read + self.bytes_written) / self.least_bytes

    @property
    def read_ratio(self) -> float:
        return self.bytes_read / self.least_read


def count(comparison: Comparison) -> Counts:
    """Runs the kernel once on the CPU runner, and then MLX's operator.

    Raises:
        ValueError: if the answer launches no kernel.
        MetalError: if the kernel is wrong, or this machine has no compiler (NoCompiler).
    """
    with cpu_runner() as launches:
        got = comparison.ours(0)
        mx.eval(got)
    buffers = [traffic for launch in launches for traffic in launch.buffers.values()]
    if not any(traffic.loads for traffic in buffers):
        raise ValueError(f"{comparison.name} gave a result without a kernel that reads its inputs: there is nothing to count")
    return Counts(
        comparison.name,
        comparison.inputs,
        sum(launch.threads for launch in launches),
        sum(traffic.loads for traffic in buffers),
        sum(traffic.bytes_read for traffic in buffers),
        sum(traffic.bytes_written for traffic in buffers),
        comparison.bytes - got.nbytes,
        got.nbytes,
        sum(launch.barriers for launch in launches),
        sum(launch.simd_operations for launch in launches),
        comparison.difference(),
    )
