"""`metal_kernel`: one kernel source for Apple silicon, NVIDIA, and any CPU."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from tiny_llm_kit.machine import backend
from tiny_llm_kit.metal.cpu import CpuKernel
from tiny_llm_kit.metal.cuda import cuda_kernel
from tiny_llm_kit.metal.settings import is_forced
from tiny_llm_kit.metal.source import MetalSource, find_stub


class MetalKernel:
    """A kernel that is compiled when it is first called, for what MLX computes on by then."""

    def __init__(self, **definition: Any) -> None:
        self.definition = definition
        self.kernels: dict[str, Any] = {}

    def __call__(self, **call: Any) -> list[mx.array]:
        """Launches the kernel; see `metal_kernel`."""
        for text in (self.definition["header"], self.definition["source"]):
            if stub := find_stub(text):
                file = f" (in {text.path.name})" if isinstance(text, MetalSource) else ""
                raise NotImplementedError(f"{stub}{file}")
        chosen = "cpu" if is_forced() else backend()
        if chosen not in self.kernels:
            self.kernels[chosen] = _make(chosen, self.definition)
        return self.kernels[chosen](**call)


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
        init_value, verbose and stream, which returns a list of arrays. It raises NotImplementedError while the source holds
        the stub of a task.
    """
    definition: dict[str, Any] = {
        "name": name,
        "input_names": input_names,
        "output_names": output_names,
        "source": source,
        "header": header,
        "ensure_row_contiguous": ensure_row_contiguous,
        "atomic_outputs": atomic_outputs,
    }
    if compile_options is not None:
        definition["compile_options"] = compile_options
    return MetalKernel(**definition)


def _make(chosen: str, definition: dict[str, Any]) -> Any:
    if chosen == "metal":
        return mx.fast.metal_kernel(**definition)
    # What compile_options can say, Metal's math mode, is "safe" everywhere else.
    definition = {key: value for key, value in definition.items() if key != "compile_options"}
    return CpuKernel(**definition) if chosen == "cpu" else cuda_kernel(**definition)
