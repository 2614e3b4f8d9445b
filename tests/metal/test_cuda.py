"""Metal kernels as CUDA, without a GPU: they run in an emulation of CUDA on the CPU, and nvcc, where it is, compiles them.

What a kernel has to compute is what the CPU runner, which knows Metal and nothing of CUDA, computes from the same source.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from metal.course_cases import COURSE, reference_kernels
from metal.cuda_cases import CASES, DTYPES, Case
from metal.mlx_cuda import CudaBackend, Size, compile_with_nvcc, precompile_headers
from metal_anywhere import cpu_runner, read_metal
from metal_anywhere.cuda import CudaKernel
from metal_anywhere.source import KernelDefinition
from oracles import HALF, assert_close, to_numpy


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return precompile_headers(tmp_path_factory.mktemp("headers"))


@pytest.fixture
def cuda(tmp_path: Path, headers: Path) -> CudaBackend:
    return CudaBackend(tmp_path, headers)


@pytest.mark.parametrize("name", CASES)
def test_cuda_computes_what_metal_does(name: str, cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    with cpu_runner():
        want = case.run()
    cuda.use(monkeypatch)
    # Each function of the math library is good for float32's seven digits, and both compute in it.
    assert_close(case.run(), to_numpy(want), name, {**HALF, mx.float32: 1e-6}.get(case.dtype, 0))
    assert cuda.texts, "the kernel did not go through mx.fast.cuda_kernel"


@pytest.mark.parametrize("name", COURSE)
def test_the_kernels_of_the_course_run_as_cuda(name: str, cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.use(monkeypatch, reference_kernels())
    for dtype in DTYPES:
        got, want = COURSE[name](dtype)
        assert_close(got, want, f"{name}, {dtype}", {**HALF, mx.float32: 1e-5}[dtype])


# Each thread would like to keep 128 sums in registers. A processor has 65536 registers, 64 for each of 1024 threads.
GREEDY = Case(
    """
float sums[128] = {}, sum = 0;
for (int i = 0; i < x_shape[0]; ++i) {
#pragma unroll
  for (int j = 0; j < 128; ++j) sums[j] = sums[j] * x[i] + float(j);
}
#pragma unroll
for (int j = 0; j < 128; ++j) sum += sums[j] * sums[j];
out[thread_position_in_grid.x] = sum;""",
    {"x": mx.zeros((1024,))},
    shape=(1024,),
    grid=(1024, 1, 1),
    threadgroup=(1024, 1, 1),
)


def test_nvcc_compiles_every_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    cuda = CudaBackend(tmp_path, headers=None)
    cuda.use(monkeypatch, reference_kernels())
    for case in (*CASES.values(), GREEDY):
        case.run()
    for check in COURSE.values():
        check(mx.float16)
    report = compile_with_nvcc(nvcc, list(cuda.texts), tmp_path)
    resources = re.findall(r"Compiling entry function '\S+?(custom_kernel_\S+)'.*?Used (\d+) registers", report, re.DOTALL)
    assert len(resources) == len(cuda.texts), f"of {len(cuda.texts)} kernels nvcc compiled {len(resources)}"
    (greedy,) = (re.findall(r"custom_kernel_\w+", text)[0] for _, text in cuda.texts if "float sums[128]" in text)
    (registers,) = (int(count) for name, count in resources if name.startswith(greedy))
    assert registers <= 64, f"{registers} registers for each of 1024 threads: such a kernel cannot be launched"


@pytest.mark.parametrize(
    ("grid", "threadgroup", "reason"),
    [
        ((40, 1, 1), (32, 1, 1), r"SIMD groups incomplete.*round the grid up"),
        ((48, 1, 1), (48, 1, 1), r"SIMD groups incomplete"),
        ((16, 3, 1), (16, 2, 1), r"SIMD groups incomplete"),
        ((2048, 1, 1), (2048, 1, 1), r"\(2048, 1, 1\) is too large.*1024 threads"),
        ((1, 1, 128), (1, 1, 128), r"64 along the last axis"),
        ((32, 70000, 1), (32, 1, 1), r"\(32, 70000, 1\).*put the longest axis first"),
        ((32, 0, 1), (32, 1, 1), r"three positive numbers"),
    ],
)
def test_launches_that_cuda_cannot_do_are_refused(
    grid: Size, threadgroup: Size, reason: str, cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.use(monkeypatch)
    with pytest.raises(ValueError, match=reason):
        Case("out[thread_position_in_grid.x] = simd_sum(1.0f);", grid=grid, threadgroup=threadgroup).run()
    assert not cuda.texts, "a launch that was refused must not reach the GPU"


def test_without_simd_functions_any_grid_will_do(cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of an attribute, or a word in a comment, is no SIMD function."""
    cuda.use(monkeypatch)
    source = "// not with simd_sum(x)\nout[thread_position_in_grid.x] = simdgroup_index_in_threadgroup;"
    out = Case(source, shape=(40,), grid=(40, 1, 1), threadgroup=(40, 1, 1)).run()
    assert out.tolist() == [0.0] * 32 + [1.0] * 8


def test_a_header_can_include_metals_files_only(cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.use(monkeypatch)
    with pytest.raises(ValueError, match=r'includes "helpers\.h"'):
        Case("out[0] = 1;", definition={"header": '#include "helpers.h"\n'}).run()


def test_compilers_name_the_line_of_the_metal_file(tmp_path: Path, cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong.metal").write_text("/* a\ncomment */\nuint i = thread_position_in_grid.x;\nout[i] = nothing;\n")
    cuda.use(monkeypatch)
    with pytest.raises(AssertionError, match=r"wrong\.metal:4.*nothing"):
        Case(read_metal(tmp_path / "wrong.metal")).run()


def test_what_differs_in_anything_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX 0.32.0 keeps compiled kernels by name: two texts of one name, and the second would run the first's code."""
    made: dict[str, Any] = {}

    def fake(**definition: Any) -> Any:
        assert definition["name"] not in made
        made[definition["name"]] = definition
        return lambda **call: call

    monkeypatch.setattr(mx.fast, "cuda_kernel", fake)
    kernel = CudaKernel(KernelDefinition("k", ["x"], ["out"], "out[thread_position_in_grid.x] = x[0];"))
    call = {"threadgroup": (32, 1, 1), "output_shapes": [(64,)], "verbose": True, "stream": mx.cpu, "init_value": 2.0}
    for x in (mx.ones(3), mx.array(1.0), mx.ones(3, dtype=mx.int32)):
        for grid in ((64, 1, 1), (33, 1, 1), (128, 1, 1)):
            for dtype in (mx.float32, mx.float16):
                passed: Any = kernel(inputs=[x], grid=grid, output_dtypes=[dtype], **call)
                assert {key: passed[key] for key in call} == call, "arguments of the launch are handed on"
    assert len(made) == 3 * 2 * 2, "dtypes, axes, and whether all threadgroups are full make a kernel; the grid's size does not"
