"""Metal kernels on NVIDIA: `mx.fast.cuda_kernel` under the calling convention of `mx.fast.metal_kernel`.

What Metal allows and CUDA does not is refused, never computed wrongly:

- SIMD functions need whole SIMD groups: a threadgroup size, and what is left of it at the grid's edge, that fills them.
- All 32 lanes must come to a SIMD function. That cannot be seen before the kernel runs: it is the author's to keep.
- Barriers do work in threadgroups at the grid's edge: CUDA's wait for the threads that have not ended.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np

from metal_anywhere.cuda_source import to_cuda, uses_simd_groups
from metal_anywhere.signature import check_size
from metal_anywhere.source import KernelDefinition

Size = tuple[int, int, int]

_SIMD_WIDTH = 32
_MOST_THREADS = 1024
_LARGEST_THREADGROUP: Size = (1024, 1024, 64)
_MOST_THREADGROUPS: Size = (2**31 - 1, 2**16 - 1, 2**16 - 1)


class CudaKernel:
    """A callable with the keyword arguments of `mx.fast.metal_kernel`'s, for MLX's CUDA backend.

    MLX gives a kernel one signature; ours depends on which inputs have no axes and on whether all threadgroups are full. So
    there is one of MLX's kernels for each combination, made when it is first needed.
    """

    def __init__(self, definition: KernelDefinition) -> None:
        self.definition = definition
        self.uses_simd_groups = uses_simd_groups(f"{definition.header}\n{definition.source}")
        self.kernels: dict[tuple[Any, ...], Any] = {}

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        output_dtypes: Sequence[mx.Dtype],
        grid: Sequence[int],
        threadgroup: Sequence[int],
        **call: Any,
    ) -> list[mx.array]:
        """Launches the kernel; see `mx.fast.metal_kernel`.

        ValueError if the number of inputs or the launch's sizes are not possible on CUDA, or would give wrong results there.
        """
        check_size("inputs", inputs, self.definition.input_names)
        launch = _look_at(tuple(grid), tuple(threadgroup))
        if launch.problem or (self.uses_simd_groups and launch.simd_problem):
            raise ValueError(f"kernel {self.definition.name!r}: {launch.problem or launch.simd_problem}")
        arrays = [value if isinstance(value, mx.array) else mx.array(value) for value in inputs]
        kernel = self._kernel(arrays, output_dtypes, launch)
        arrays += [mx.array(tuple(grid), dtype=mx.uint32)] * launch.partial
        return kernel(inputs=arrays, output_dtypes=output_dtypes, grid=tuple(grid), threadgroup=tuple(threadgroup), **call)

    def _kernel(self, arrays: Sequence[mx.array], output_dtypes: Sequence[mx.Dtype], launch: "_Launch") -> Any:
        scalars = [array.ndim == 0 for array in arrays]
        key = (*scalars, launch.partial, launch.threads, *(array.dtype for array in arrays), *output_dtypes)
        if key not in self.kernels:
            text = to_cuda(self.definition, scalars=scalars, partial=launch.partial, threads=launch.threads)
            # MLX 0.32.0 knows compiled kernels by their names alone: what differs in anything needs another name.
            fingerprint = hashlib.sha256(repr((text, key)).encode()).hexdigest()[:16]
            self.kernels[key] = mx.fast.cuda_kernel(
                name=f"{self.definition.name}_{fingerprint}",
                input_names=text.input_names,
                output_names=text.output_names,
                source=text.source,
                header=text.header,
                ensure_row_contiguous=self.definition.ensure_row_contiguous,
            )
        return self.kernels[key]


@dataclass(frozen=True)
class _Launch:
    """What there is to know of a launch.

    problem, simd_problem: what CUDA cannot do at all, and what it cannot do with SIMD functions.
    partial: whether some threadgroups at the edge of the grid are smaller than the others.
    threads: 256, 512 or 1024; a threadgroup has no more.
    """

    problem: str | None = None
    simd_problem: str | None = None
    partial: bool = False
    threads: int = _MOST_THREADS


@lru_cache(maxsize=4096)
def _look_at(grid: Size, threadgroup: Size) -> _Launch:
    if len(grid) != 3 or len(threadgroup) != 3 or min(*grid, *threadgroup) < 1:
        return _Launch(f"grid {grid} and threadgroup {threadgroup} must be three positive numbers each")
    block = np.minimum(threadgroup, grid)  # both APIs cut the threadgroup to the grid
    if block.prod() > _MOST_THREADS or any(block > _LARGEST_THREADGROUP):
        return _Launch(
            f"a threadgroup of {threadgroup} is too large for CUDA: it has at most {_MOST_THREADS} threads, of which "
            f"{_LARGEST_THREADGROUP[2]} along the last axis"
        )
    if any(-(-np.array(grid) // block) > _MOST_THREADGROUPS):
        return _Launch(
            f"a grid of {grid} in threadgroups of {threadgroup} is too large for CUDA, which has at most {_MOST_THREADGROUPS} "
            "threadgroups: put the longest axis first"
        )
    left_over = np.array(grid) % block
    simd_problem = None
    if not _fills_simd_groups(block, left_over):
        simd_problem = (
            f"it uses SIMD functions, and a grid of {grid} in threadgroups of {threadgroup} leaves SIMD groups incomplete, "
            f"which CUDA cannot compute with: round the grid up, and the threadgroup's size to a multiple of {_SIMD_WIDTH}"
        )
    threads = next(bound for bound in (256, 512, _MOST_THREADS) if block.prod() <= bound)
    return _Launch(simd_problem=simd_problem, partial=bool(left_over.any()), threads=threads)


def _fills_simd_groups(block: np.ndarray, left_over: np.ndarray) -> bool:
    """Whether no SIMD group of any threadgroup, in the middle or at an edge, is incomplete.

    A SIMD group is 32 threads in the order x, y, z. CUDA counts them in the full block, some of which may lie outside.
    """
    sizes = [{int(full), int(left or full)} for full, left in zip(block, left_over, strict=True)]
    for x, y, z in itertools.product(*sizes):
        inside = np.zeros(block[::-1], dtype=bool)
        inside[:z, :y, :x] = True
        lanes = np.pad(inside.ravel(), (0, -inside.size % _SIMD_WIDTH)).reshape(-1, _SIMD_WIDTH)
        if (lanes.any(axis=1) != lanes.all(axis=1)).any():
            return False
    return True
