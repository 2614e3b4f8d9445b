"""Every kernel of the course before Metal's address spaces, as clang's C++ for OpenCL knows them. (`apt install clang`)"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from metal.course_cases import COURSE, reference_kernels
from metal.opencl_cases import RIGHT, WRONG, Wrong
from metal_anywhere import CompileError, MetalSource, cpu_runner, kernel, metal_kernel, opencl_check
from metal_anywhere.errors import NO_CLANG
from metal_anywhere.opencl_check import Problem, find_clang, find_problems
from metal_anywhere.signature import Signature, generate
from metal_anywhere.source import KernelDefinition
from oracles import normal
from tiny_llm_kit.models.quantized import QuantizedWeight
from tiny_llm_ref.kernels import decode_attention, flash_attention, hello, matvec, online_softmax, paged_attention, rms_norm

DTYPES = (mx.float32, mx.float16, mx.bfloat16)
X, FEW, ONE = mx.zeros(64), mx.zeros(3), mx.array(1.0)


@pytest.fixture
def clang() -> str:
    if found := find_clang():
        return found
    pytest.skip(
        f"{NO_CLANG} 14 or later: it checks which memory a kernel's pointers point to. Debian, Ubuntu: apt install clang"
    )


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Signature]:
    """Filled with each kernel that is launched, by its name, instead of running it."""
    launched: dict[str, Signature] = {}

    class Recorder:
        def __init__(self, definition: KernelDefinition) -> None:
            self.definition = definition

        def __call__(
            self, *, inputs: Any, output_shapes: Any, output_dtypes: Any, template: Any = (), **_: Any
        ) -> list[mx.array]:
            launched[self.definition.name] = generate(self.definition, inputs, output_dtypes, template)
            return [mx.zeros(shape, dtype) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)]

    monkeypatch.setattr(kernel, "CpuKernel", Recorder)
    monkeypatch.setattr(kernel, "backend", lambda: "cpu")
    for made_before in reference_kernels():
        monkeypatch.setattr(made_before, "kernels", {})
    return launched


def problems_of(clang: str, signature: Signature) -> list[Problem]:
    return find_problems(clang, signature, "header", "kernel.metal")


# The course's kernels


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", COURSE)
def test_the_kernels_of_the_course(name: str, dtype: mx.Dtype, clang: str, signatures: dict[str, Signature]) -> None:
    COURSE[name](dtype)
    assert signatures, f"{name} launched no kernel"
    for signature in signatures.values():
        assert not problems_of(clang, signature), f"clang objects to this kernel, as Metal would:\n{signature.text}"


def test_no_kernel_of_the_reference_is_left_out(signatures: dict[str, Signature]) -> None:
    for check in COURSE.values():
        check(mx.float32)
    assert set(signatures) == {made.definition.name for made in reference_kernels()}


# Arrays of fewer than 8 elements, which MLX puts into constant memory. `matvec_vector` does not take so small a matrix.
SMALL: dict[str, Callable[[], Any]] = {
    "scaled_add": lambda: hello.scaled_add(2.0, mx.zeros(3), mx.zeros(3)),
    "matvec_thread": lambda: matvec.matvec_thread(mx.zeros((1, 32)), small_weight()),
    "matvec_simd": lambda: matvec.matvec_simd(mx.zeros((1, 32)), small_weight()),
    "rms_norm": lambda: rms_norm.fused_rms_norm(mx.zeros((1, 5)), mx.zeros(5)),
    "online_softmax": lambda: online_softmax.online_softmax(mx.zeros((1, 5))),
    "decode_attention": lambda: decode_attention.decode_attention(*3 * [mx.zeros((1, 1, 1, 32))], [1]),
    "flash_attention": lambda: flash_attention.flash_attention(*3 * [mx.zeros((1, 1, 1, 32))]),
    "flash_attention_simdgroup": lambda: flash_attention.flash_attention_simdgroup(*3 * [mx.zeros((1, 1, 1, 32))]),
    "paged_attention_split": lambda: paged_attention.paged_attention_split(*3 * [mx.zeros((1, 1, 1, 32))], [[0]], [1]),
    "paged_attention_prefill": lambda: paged_attention.paged_attention_prefill(*3 * [mx.zeros((1, 1, 1, 32))], [[0]], [1]),
}


def small_weight() -> QuantizedWeight:
    return QuantizedWeight(*mx.quantize(normal(1, 32, seed=0), group_size=32, bits=4), 32, 4)


@pytest.mark.parametrize("name", SMALL)
def test_the_kernels_of_the_course_on_small_arrays(name: str, clang: str, signatures: dict[str, Signature]) -> None:
    SMALL[name]()
    for signature in signatures.values():
        assert not problems_of(clang, signature), f"clang objects to this kernel, as Metal would:\n{signature.text}"


# Wrong kernels, and right ones


TEMPLATE = [("T", mx.float32)]


@pytest.mark.parametrize(
    ("name", "template"),
    [(name, template) for name, wrong in WRONG.items() for template in ([], TEMPLATE) if template or "T*" not in wrong.body],
)
def test_a_kernel_that_metal_refuses(name: str, template: list[Any], clang: str) -> None:
    wrong = WRONG[name]
    error = refused(wrong, template)
    assert error.location == f"{'header' if wrong.in_header else 'wrong'}.metal:{wrong.line}", error
    assert all(word in error.problem for word in wrong.words), f"{wrong.words} should be in the message: {error}"
    assert "__" not in error.problem, f"OpenCL's words mean nothing to a kernel's author: {error}"


def refused(wrong: Wrong, template: list[Any]) -> CompileError:
    body, header = MetalSource(wrong.body, Path("wrong.metal")), MetalSource(wrong.header, Path("header.metal"))
    with pytest.raises(CompileError) as error:
        launch(body, header, template)
    return error.value


def launch(body: str, header: str = "", template: list[Any] | None = None, few: mx.array = FEW) -> list[mx.array]:
    made = metal_kernel("wrong", ["x", "few", "one"], ["y"], body, header)
    grid = {"grid": (1, 1, 1), "threadgroup": (1, 1, 1)}
    with cpu_runner():
        return made(
            inputs=[X, few, ONE], template=template, output_shapes=[(64,)], output_dtypes=[mx.float32], init_value=0, **grid
        )


@pytest.mark.parametrize("name", RIGHT)
def test_a_kernel_that_metal_takes(name: str, clang: str) -> None:
    header, body = RIGHT[name]
    definition = KernelDefinition("right", ["x", "few", "one"], ["y"], body, header)
    assert not problems_of(clang, generate(definition, [X, FEW, ONE], [mx.float32], TEMPLATE))


def test_the_size_of_an_input_decides_where_it_is(clang: str) -> None:
    body = "const device float* p = few;\ny[0] = p[0] + x[0] * one;"
    assert launch(body, few=mx.ones(8))[0][0].item() == 1
    with pytest.raises(CompileError, match="fewer than 8"):
        launch(body, few=mx.ones(7))


def test_all_that_is_wrong_is_said_at_once(clang: str) -> None:
    error = refused(Wrong("const threadgroup float* p = x;\nfloat a = 0;\ndevice float* q = &a;", 1, ()), [])
    assert error.location == "wrong.metal:1"
    assert "\nwrong.metal:3: " in error.problem


def test_what_is_no_matter_of_memory_is_left_to_the_compiler(clang: str) -> None:
    for statement in ("y[0] = nothing;", "float4 v = x[0] + few;", "threadgroup_barrier();", "y[0] = min(1, 2u);"):
        assert "memory" not in refused(Wrong(statement, 1, ()), []).problem.splitlines()[0]


# Kernels of MLX, which Apple's compiler takes: each header with an instance of its kernel, as MLX makes one

MLX = {
    "softmax": ["softmax_single_row<half>", "softmax_looped<bfloat16_t, float>"],
    "logsumexp": ["logsumexp<float, float>", "logsumexp_looped<half, float>"],
    "unary_ops unary": [f"unary_v<T, T, {name}, 1>".replace("T", "half") for name in ("Exp", "Erf", "Sigmoid")],
    "sdpa_vector": ["sdpa_vector<bfloat16_t, 64>", "sdpa_vector_2pass_1<half, 128>", "sdpa_vector_2pass_2<float, 64>"],
    "quantized_utils steel/gemm/gemm quantized": [
        "affine_qmv_fast<half, 64, 4, false>",
        "affine_qmm_t<bfloat16_t, 64, 4, true, false>",
        "affine_quantize<float, 64, 4>",
    ],
    "steel/attn/kernels/steel_attention": ["attention<half, 32, 32, 64, 64, 4, 1, half>"],
    "steel/gemm/gemm steel/gemm/kernels/steel_gemm_fused": ["gemm<float, 64, 64, 16, 2, 2, false, true>"],
}


@pytest.mark.parametrize("headers", MLX)
def test_kernels_of_mlx_raise_no_false_alarm(headers: str, clang: str) -> None:
    head = "".join(f'#include "mlx/backend/metal/kernels/{name}.h"\n' for name in headers.split())
    for instance in MLX[headers]:
        # In the kernel's header, so that whatever clang says about the instance is taken for its author's.
        header = f'{head}template [[host_name("instance")]] [[kernel]] decltype({instance}) {instance};\n'
        definition = KernelDefinition("around", ["x"], ["y"], "y[0] = x[0];", header)
        found = problems_of(clang, generate(definition, [X], [mx.float32]))
        assert [problem for problem in found if problem.meaning] == [], instance
        assert not any(instance.split("<")[0] in problem.message for problem in found), f"{instance} was not made: {found}"


# The clang


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def pretend(path: Path, version: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize("version", ["clang version 13.0.1", "Apple clang version 17.0.0 (clang-1700.0.13.3)", "gcc 12", ""])
def test_a_clang_that_does_not_know_the_language_is_none(version: str, alone: Path) -> None:
    pretend(alone / "clang", version)
    assert find_clang() is None


def test_the_first_clang_that_knows_it_is_taken(alone: Path) -> None:
    pretend(alone / "clang", "Debian clang version 11.0.1-2")
    pretend(alone / "clang-15", "Ubuntu clang version 15.0.7")
    assert find_clang() == str(alone / "clang-15")


def test_what_was_compiled_without_a_clang_is_checked_when_there_is_one(clang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "const threadgroup float* p = x;\ny[0] = p[0];"
    with monkeypatch.context() as without:
        without.setattr(opencl_check, "find_clang", lambda: None)
        assert launch(body)[0][0].item() == 0
    with pytest.raises(CompileError, match="threadgroup"):
        launch(body)
