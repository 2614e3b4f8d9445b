"""`metal_kernel`: one kernel source for Apple silicon, NVIDIA, and any CPU."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from metal_anywhere.backend import backend
from metal_anywhere.cpu import CpuKernel
from metal_anywhere.cuda import CudaKernel
from metal_anywhere.settings import is_forced
from metal_anywhere.source import KernelDefinition


class MetalKernel:
    """A kernel that is compiled when it is first called, for what MLX computes on by then."""

    def __init__(self, definition: KernelDefinition, compile_options: dict[str, Any] | None) -> None:
        self.definition = definition
        self.compile_options = compile_options
        self.stub = definition.find_stub()
        self.kernels: dict[str, Any] = {}

    def __call__(self, **call: Any) -> list[mx.array]:
        """Launches the kernel; see `metal_kernel`."""
        if self.stub:
            raise NotImplementedError(self.stub)
        chosen = "cpu" if is_forced() else backend()
        if chosen not in self.kernels:
            self.kernels[chosen] = self._make(chosen)
        return self.kernels[chosen](**call)

    def _make(self, chosen: str) -> Any:
        if chosen == "cpu":
            return CpuKernel(self.definition)
        if chosen == "cuda":
            return CudaKernel(self.definition)
        # Metal's math mode, which is all that compile_options can say, is "safe" everywhere else.
        options: dict[str, Any] = {} if self.compile_options is None else {"compile_options": self.compile_options}
        return mx.fast.metal_kernel(**vars(self.definition), **options)


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    compile_options: dict[str, Any] | None = None,
) -> MetalKernel:
    """A kernel in Metal's language that runs everywhere; to be used as `mx.fast.metal_kernel`, whose documentation holds.

    On Apple silicon it is `mx.fast.metal_kernel`, on NVIDIA `mx.fast.cuda_kernel` with a translation of Metal's names, and
    elsewhere the CPU runner, which computes at once and reports mistakes as `MetalError`.

    Args:
        source: the body of the kernel; `read_metal` keeps the file's name for error messages.
    Returns:
        A callable with the keyword arguments inputs, template, grid (in threads), threadgroup, output_shapes, output_dtypes,
        init_value, verbose and stream, which returns a list of arrays. It raises NotImplementedError, with the
        message, while the source holds an `#error` outside of any `#if`: whoever left it there has not written it yet.
    """
    definition = KernelDefinition(name, input_names, output_names, source, header, ensure_row_contiguous, atomic_outputs)
    return MetalKernel(definition, compile_options)
