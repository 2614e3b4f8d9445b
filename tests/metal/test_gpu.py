"""Metal kernels on the GPU of this machine, against the CPU runner: what a translation, or our idea of Metal, gets wrong."""

import mlx.core as mx
import pytest

from metal.course_cases import COURSE
from metal.cuda_cases import CASES, DTYPES
from metal_anywhere import cpu_runner
from metal_anywhere.backend import backend
from oracles import FLOAT32, HALF, assert_close, to_numpy

pytestmark = pytest.mark.skipif(backend() == "cpu", reason="MLX has no GPU here")


@pytest.mark.parametrize("name", CASES)
def test_the_gpu_computes_what_the_cpu_runner_does(name: str) -> None:
    case = CASES[name]
    with cpu_runner():
        want = case.run()
    # fast:: functions are good for four digits; integers are exact.
    assert_close(case.run(), to_numpy(want), name, {**HALF, mx.float32: FLOAT32}.get(case.dtype, 0))


@pytest.mark.parametrize("name", COURSE)
def test_the_kernels_of_the_course_run_on_the_gpu(name: str) -> None:
    for dtype in DTYPES:
        got, want = COURSE[name](dtype)
        assert_close(got, want, f"{name}, {dtype}", HALF.get(dtype, FLOAT32))
