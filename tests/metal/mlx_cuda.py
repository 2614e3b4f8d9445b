"""MLX's CUDA backend where there is none: `mx.fast.cuda_kernel`, as mlx/backend/cuda/custom_kernel.cpp has it.

It writes the same text around a kernel, and then runs it on the CPU (see cuda/on_cpu.h) instead of on a GPU. What it has
written can be given to nvcc.
"""

import ctypes
import itertools
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from metal_anywhere import MetalKernel, kernel
from metal_anywhere.compiler import find_compiler

HEADERS = Path(__file__).parent / "cuda"
FLAGS = ("-std=c++20", "-O1", "-fno-strict-aliasing", "-fPIC", "-shared", "-w")

CUDA_TYPES = {
    mx.bool_: "bool",
    mx.float32: "float",
    mx.float16: "__half",
    mx.bfloat16: "__nv_bfloat16",
    mx.int8: "int8_t",
    mx.int32: "int32_t",
    mx.int64: "int64_t",
    mx.uint8: "uint8_t",
    mx.uint16: "uint16_t",
    mx.uint32: "uint32_t",
    mx.uint64: "uint64_t",
}

Size = tuple[int, int, int]
Template = Sequence[tuple[str, mx.Dtype | int | bool]]


@dataclass(frozen=True)
class Argument:
    """What a kernel is called with: `data` itself, or a pointer to it."""

    type: str
    name: str
    data: np.ndarray
    by_value: bool = False

    @property
    def parameter(self) -> str:
        return f"const __grid_constant__ {self.type} {self.name}" if self.by_value else f"{self.type}* {self.name}"

    def from_address(self, address: str) -> str:
        return f"*({self.type}*){address}" if self.by_value else f"({self.type}*){address}"


class CudaBackend:
    """Stands in for MLX's backend. `texts` are the kernels that were called, without duplicates: (header, function).

    Without `headers`, which `precompile_headers` makes, nothing runs: all outputs are their initial values.
    """

    def __init__(self, folder: Path, headers: Path | None) -> None:
        self.folder = folder
        self.headers = headers
        self.texts: dict[tuple[str, str], None] = {}
        self._numbers = itertools.count()

    def use(self, monkeypatch: pytest.MonkeyPatch, kernels: Sequence[MetalKernel] = ()) -> None:
        """Until the end of the test `metal_kernel`, and the `kernels` made before, take this for an NVIDIA machine."""
        monkeypatch.setattr(mx.fast, "cuda_kernel", self.cuda_kernel)
        monkeypatch.setattr(kernel, "backend", lambda: "cuda")
        for made_before in kernels:
            monkeypatch.setattr(made_before, "kernels", {})

    def cuda_kernel(
        self,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str = "",
        ensure_row_contiguous: bool = True,
    ) -> Any:
        def call(
            *,
            inputs: Sequence[mx.array],
            output_shapes: Sequence[Sequence[int]],
            output_dtypes: Sequence[mx.Dtype],
            grid: Size,
            threadgroup: Size,
            template: Template | None = None,
            init_value: float | None = None,
        ) -> list[mx.array]:
            named_inputs = zip(input_names, inputs, strict=True)
            arguments = [argument for n, array in named_inputs for argument in _input(n, array, source)]
            outputs = [
                Argument(CUDA_TYPES[dtype], n, _bytes(mx.full(shape, init_value or 0, dtype=dtype)))
                for n, shape, dtype in zip(output_names, output_shapes, output_dtypes, strict=True)
            ]
            arguments += outputs
            function = "_".join(["custom_kernel", name, *(_name(value) for _, value in template or ())])
            text = _function(function, arguments, source, template or ())
            self.texts[header, text] = None
            if self.headers:
                self._run(header + text, function, arguments, grid, threadgroup)
            return [
                mx.array(output.data).view(dtype).reshape(shape)
                for output, dtype, shape in zip(outputs, output_dtypes, output_shapes, strict=True)
            ]

        return call

    def _run(self, text: str, function: str, arguments: Sequence[Argument], grid: Size, threads: Size) -> None:
        passed = ", ".join(argument.from_address(f"addresses[{i}]") for i, argument in enumerate(arguments))
        entry = f"""using namespace mlx::core::cu;
extern "C" bool launch(const unsigned* grid, const unsigned* threads, void** addresses) {{
  return on_cpu::launch(grid, threads, [=] {{ {function}({passed}); }});
}}
"""
        library = self._compile(f'#include "mlx_utils.h"\n{text}{entry}')
        library.launch.restype = ctypes.c_bool
        blocks = [-(-size // n) for size, n in zip(grid, threads, strict=True)]
        block = [min(size, n) for size, n in zip(grid, threads, strict=True)]
        addresses = [argument.data.ctypes.data for argument in arguments]
        sizes = ctypes.c_uint * 3
        met = library.launch(sizes(*blocks), sizes(*block), (ctypes.c_void_p * len(addresses))(*addresses))
        assert met, f"{function}: some lanes wait in a SIMD function, or threads at a barrier, for others that do not come"

    def _compile(self, text: str) -> ctypes.CDLL:
        stem = self.folder / f"kernel{next(self._numbers)}"
        unit, library = stem.with_suffix(".cpp"), stem.with_suffix(".so")
        unit.write_text(text, encoding="utf-8")
        _compile([*_cpp(), f"-I{self.headers}", str(unit), "-o", str(library)])
        return ctypes.CDLL(str(library))


def precompile_headers(folder: Path) -> Path:
    """Puts CUDA's names for the CPU into `folder`, ready to use: g++ would spend most of its time on them, for each kernel."""
    for header in HEADERS.iterdir():
        shutil.copy(header, folder)
    _compile([*_cpp(), "-x", "c++-header", str(folder / "mlx_utils.h"), "-o", str(folder / "mlx_utils.h.gch")])
    return folder


def compile_with_nvcc(nvcc: str, texts: Sequence[tuple[str, str]], folder: Path) -> str:
    """Compiles kernels to machine code, all that share a header in one go; returns what nvcc says of their resources."""
    report = ""
    for number, header in enumerate(dict.fromkeys(header for header, _ in texts)):
        unit = folder / f"kernels{number}.cu"
        functions = "".join(text for of, text in texts if of == header)
        unit.write_text(f'#include "mlx_utils.h"\n{header}{functions}', encoding="utf-8")
        flags = ["-arch=sm_90", "-std=c++17", f"-I{HEADERS}", "-Xptxas", "-v", "-cubin"]
        report += _compile([nvcc, *flags, str(unit), "-o", str(unit.with_suffix(".cubin"))])
    return report


def _cpp() -> list[str]:
    return [*find_compiler("CUDA on the CPU").command, *FLAGS]


def _compile(command: list[str]) -> str:
    compiled = subprocess.run(command, capture_output=True, text=True)
    output = compiled.stdout + compiled.stderr
    assert compiled.returncode == 0, f"{' '.join(command)} says\n{output[:3000]}"
    return output


def _input(name: str, array: mx.array, source: str) -> list[Argument]:
    arguments = [Argument(f"const {CUDA_TYPES[array.dtype]}", name, _bytes(array))]
    if array.ndim:
        strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
        arguments += [
            Argument("Shape", f"{name}_shape", np.resize(np.array(array.shape, dtype=np.int32), 10), by_value=True),
            Argument("Strides", f"{name}_strides", np.resize(np.array(strides, dtype=np.int64), 10), by_value=True),
            Argument("int", f"{name}_ndim", np.array(array.ndim, dtype=np.int32), by_value=True),
        ]
    return [argument for argument in arguments if not argument.by_value or argument.name in source]


def _function(function: str, arguments: Sequence[Argument], source: str, template: Template) -> str:
    parameters = ",\n".join(f"    {argument.parameter}" for argument in arguments)
    constants = "".join(f"  {_constant(name, value)};\n" for name, value in template)
    return (
        "namespace mlx::core::cu {\n\nnamespace cg = cooperative_groups;\n\n"
        f"__global__ void {function}(\n{parameters}) {{\n{constants}\n{source}\n}}\n\n}} // namespace mlx::core::cu\n"
    )


def _constant(name: str, value: mx.Dtype | int | bool) -> str:
    if isinstance(value, mx.Dtype):
        return f"using {name} = {CUDA_TYPES[value]}"
    return f"constexpr {type(value).__name__} {name} = {str(value).lower()}"


def _name(value: mx.Dtype | int | bool) -> str:
    return CUDA_TYPES[value] if isinstance(value, mx.Dtype) else str(value).lower().replace("-", "m")


def _bytes(array: mx.array) -> np.ndarray:
    """Row-contiguous, whatever the array's own strides."""
    return np.array(mx.contiguous(array).reshape(-1).view(mx.uint8))
