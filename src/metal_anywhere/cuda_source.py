"""A Metal kernel's source as CUDA: what `mx.fast.cuda_kernel` is to be given for it.

Most of the translation is C++: the headers in `on_cuda/` give Metal's names a meaning, and lie before the kernel's own header.
Here is the rest, which needs a look at the text or at how the kernel is called. Nothing here launches anything.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from metal_anywhere.rewrite import make_doubles_floats, replace_threadgroup_variables
from metal_anywhere.signature import ATTRIBUTES
from metal_anywhere.source import KernelDefinition, MetalSource, without_comments

HEADERS = ("scalars", "vectors", "math", "launch", "simd", "simdgroup_matrix", "atomics", "words")
"""The files of `on_cuda/`, in the order in which they need each other. They are text to MLX: no #include finds them."""

GRID = "metal_grid"
"""The input, hidden from the kernel's author, that brings the grid in threads where not all threadgroups are full."""

_ADDRESS_SPACE = re.compile(r"\b(?:device|constant|thread)\b")
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*([<\"][^>\"\n]*[>\"])", re.MULTILINE)
_SIMD = re.compile(r"\b(?:simd_\w+|simdgroup_(?!index_in_threadgroup\b)\w+|make_filled_simdgroup_matrix)")


@dataclass(frozen=True)
class CudaSource:
    """The arguments of `mx.fast.cuda_kernel` that are not the same as those of `mx.fast.metal_kernel`."""

    input_names: list[str]
    output_names: list[str]
    header: str
    source: str


def to_cuda(definition: KernelDefinition, *, scalars: Sequence[bool], partial: bool, threads: int) -> CudaSource:
    """Translates a kernel.

    Args:
        scalars: for each input whether it has no axes: Metal passes it as a reference, CUDA as a pointer like any other.
        partial: whether some threadgroups at the edge of the grid are smaller than the others.
        threads: how many a threadgroup may have at most.
    Raises:
        ValueError: if the header includes files, which MLX's CUDA compiler would not find.
    """
    name, source, names = definition.name, definition.source, definition.input_names
    if wrong := [file for file in _INCLUDE.findall(definition.header) if not file.startswith("<metal")]:
        raise ValueError(f"the header of kernel {name!r} includes {wrong[0]}: on CUDA only Metal's can be")
    inputs = [_hidden(n) if is_scalar else n for n, is_scalar in zip(names, scalars, strict=True)]
    atomics = definition.output_names if definition.atomic_outputs else ()
    outputs = [_hidden(n) if n in atomics else n for n in definition.output_names]
    body = _translate(source)
    prologue = [f"const auto& {n} = *{_hidden(n)};" for n in names if _hidden(n) in inputs]
    prologue += [f"const auto {n} = metal::on_cuda::as_atomic({_hidden(n)});" for n in atomics]
    prologue += _attributes(body, partial)
    file = source.path.name if isinstance(source, MetalSource) else f"{name}.metal"
    own_header = _INCLUDE.sub("", _translate(definition.header))
    if own_header:
        own_header = f'namespace mlx::core::cu {{\n#line 1 "header of {file}"\n{own_header}\n}}\n'
    return CudaSource(
        inputs + [GRID] * partial,
        outputs,
        _metal_on_cuda() + own_header + _bounds(threads),
        "".join(f"  {line}\n" for line in prologue) + f'#line 1 "{file}"\n{body}',
    )


def uses_simd_groups(text: str) -> bool:
    """Whether lanes of a SIMD group exchange values somewhere in it."""
    return bool(_SIMD.search(without_comments(text)))


def _bounds(threads: int) -> str:
    """Tells the compiler how many threads have to share the registers of a processor; for up to 256 there are always enough.

    MLX writes the signature, and in it `__global__`: the one place where a function's bounds can be put.
    """
    if threads <= 256:
        return ""
    return f"#undef __global__\n#define __global__ __attribute__((global)) __launch_bounds__({threads})\n"


def _attributes(body: str, partial: bool) -> list[str]:
    """Declares the attributes that the body names, as MLX does, and ends the threads outside of the grid."""
    names = [name for name in ATTRIBUTES if name in body]
    if not names and not partial:
        return []
    launch = [f"const metal::on_cuda::Launch metal_launch({GRID});", "if (metal_launch.is_outside()) return;"]
    full = ["const metal::on_cuda::Launch metal_launch;"]
    return (launch if partial else full) + [f"const {ATTRIBUTES[name]} {name} = metal_launch.{name}();" for name in names]


def _translate(text: str) -> str:
    """Threadgroup variables in CUDA's words; other address spaces need none, as one kind of pointer reaches them all.

    A macro `device` would not do: CUDA's own `__device__` is a macro with that word in it. And a double is slow.
    """
    text = replace_threadgroup_variables(without_comments(text), lambda declaration, _: f"__shared__ {declaration};")
    return make_doubles_floats(_ADDRESS_SPACE.sub("", text))


def _hidden(name: str) -> str:
    return f"metal_pointer_{name}"


@cache
def _metal_on_cuda() -> str:
    folder = Path(__file__).parent / "on_cuda"
    return "".join(f'#line 1 "{name}.h"\n{(folder / name).with_suffix(".h").read_text("utf-8")}' for name in HEADERS)
