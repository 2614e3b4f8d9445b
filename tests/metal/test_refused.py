"""What Metal refuses and C++ takes, what no machine can do, and what would not end: an error, never a crash, never a wait."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from metal.broken import COUNT, caught, run
from metal_anywhere import (
    CompileError,
    KernelFault,
    MetalSource,
    NeverEnds,
    OutOfBounds,
    ThreadgroupMemoryExceeded,
    cpu_runner,
    metal_kernel,
)

WRITE = "y[thread_position_in_grid.x] = {value};"


def helpers(text: str) -> MetalSource:
    return MetalSource(text, Path("helpers.metal"))


# Recursion

FACTORIAL = "inline float factorial(float a) {\n  return a < 2 ? 1 : a * factorial(a - 1);\n}\n"
MUTUAL = """// declared first
float odd(float a);
float even(float a) { return a < 1 ? 1 : odd(a - 1); }
float odd(float a) { return a < 1 ? 0 : even(a - 1); }
"""
BY_TYPE = """template <typename T>
T down(T a) { return a < T(1) ? a : down(a - T(1)); }
"""


@pytest.mark.parametrize(
    ("header", "call", "names", "line"),
    [
        (FACTORIAL, "factorial(x[3])", ["factorial calls itself"], 1),
        (MUTUAL, "even(x[3])", ["even and odd call each other"], 3),
        (BY_TYPE, "down(x[3])", ["down calls itself"], 2),
    ],
    ids=["direct", "mutual", "template"],
)
def test_recursion_is_refused_by_the_compiler(header: str, call: str, names: list[str], line: int) -> None:
    error = caught(CompileError, WRITE.format(value=call), header=helpers(header))
    assert error.location == f"helpers.metal:{line}"
    for name in names:
        assert name in error.problem, "the message names the functions"


def test_recursion_in_a_struct_of_the_body_is_refused() -> None:
    body = "struct Walk {\n  float down(float a) const { return a < 1 ? 1 : a + down(a - 1); }\n};\nWalk walk;\n"
    error = caught(CompileError, body + WRITE.format(value="walk.down(x[3])"))
    assert error.location == "broken.metal:2"


@pytest.mark.parametrize(
    ("header", "call", "want"),
    [
        ("float f(float a) { return a + 1; }\nfloat f(float2 a) { return f(a.x) + f(a.y); }\n", "f(float2(1, 2))", 5),
        ("template <int N> float f(float a) { if constexpr (N > 0) return a + f<N - 1>(a); else return 0; }\n", "f<4>(2)", 8),
        ("// f(f(f))\nfloat f(float a) { return a; }  /* f() { f(); } */\nfloat g(float a) { return f(f(a)); }\n", "g(3)", 3),
    ],
    ids=["overloads", "templates", "comments"],
)
def test_functions_that_only_share_a_name_are_no_recursion(header: str, call: str, want: float) -> None:
    assert run(WRITE.format(value=call), header=helpers(header)).tolist() == [want] * COUNT


OPERATOR = "struct Walk { float operator()(float a) const { return a < -1e30f ? 1 : (*this)(a - 1) + a; } };\nWalk walk;\n"
LAMBDA = "auto walk_ = [](auto self, float a) -> float { return a < -1e30f ? 1 : self(self, a - 1) + a; };\n"
LARGE = """template <int N> __attribute__((noinline)) float deep(float a) {
  float big[20000];
  for (int i = 0; i < 20000; i++) big[i] = a + i;
  if constexpr (N > 0) a = deep<N - 1>(a);
  return a + big[int(a) % 20000];
}
"""


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("", OPERATOR + WRITE.format(value="walk(x[3])")),
        ("", LAMBDA + WRITE.format(value="walk_(walk_, x[3])")),
        (LARGE, WRITE.format(value="deep<8>(x[3])")),
    ],
    ids=["operator", "lambda", "large frames"],
)
def test_a_stack_that_is_too_small_is_an_error_of_the_kernel(header: str, body: str) -> None:
    """Recursion that no name shows, and frames of 80 KB, one in another: the process must survive them."""
    error = caught(KernelFault, body, header=helpers(header) if header else "")
    assert "recursion" in error.problem
    assert error.location == ("helpers.metal:4" if header else "broken.metal:1")
    assert run(WRITE.format(value="x[3]")).tolist() == [3.0] * COUNT, "the next launch works"


# Words and arrays that Metal does not have


@pytest.mark.parametrize(
    "line",
    [
        "again: if (y[0] < 10) { y[0] += 1; goto again; }",
        "forever: goto forever;",
        "thread float* a = new float[4]; y[0] = a[0];",
        "thread float* a = (thread float*)__builtin_alloca(uint(x[9])); y[0] = a[0];",
        "static thread_local float a = 1; y[0] = a;",
        "struct A { virtual float f() { return 1; } } a; y[0] = a.f();",
    ],
)
def test_words_that_metal_lacks(line: str) -> None:
    error = caught(CompileError, f"// goto, new and virtual are fine in a comment\n{WRITE.format(value=0)}\n{line}")
    assert error.location == "broken.metal:3"
    assert "Metal has no such word" in str(error)


@pytest.mark.parametrize("memory", ["", "threadgroup "], ids=["thread", "threadgroup"])
def test_an_array_whose_size_is_computed(memory: str) -> None:
    body = f"uint n = uint(x[5]);\n{memory}float a[n];\na[0] = 1;\n{WRITE.format(value='a[0]')}"
    error = caught(CompileError, body)
    assert error.location == "broken.metal:2"
    assert re.search("variable length array|known when the kernel is compiled", error.problem), "as g++ says it, or clang"


def test_an_array_whose_size_is_known_is_none_of_these() -> None:
    arrays = "const int n = N + 1;\nconstexpr int m = 2 * n;\nfloat a[n] = {}, b[m] = {};\n"
    body = arrays + WRITE.format(value="a[3] + b[7] + m")
    assert run(body, template=[("N", 3)]).tolist() == [8.0] * COUNT


# Loops that never end


@pytest.mark.parametrize(
    "loop",
    [
        "for (;;) s += 1;",
        "for (;;);",
        "for (uint i = 0; true; i++) {}",
        "for (uint i = 9; i >= 0; i--) s += x[i % 32];",
        "for (uint i = 0; i < 4;) continue;",
        "while (true);",
        "while (1) {}",
        "do {} while (1);",
        "do s += x[0]; while (s >= 0);",
        "while (s < 1) switch (int(s)) { case 0: continue; default: s = 2; }",
        "while (true) s = simd_sum(s);",
        "while (true) s = simd_shuffle_xor(s, 1);",
        "while (true) threadgroup_barrier(mem_flags::mem_none);",
        "if (thread_index_in_simdgroup == 5) while (s < 1) {}",
        "for (uint i = 0; i < 4; i++) for (uint j = 0; j < 4; i++) s += 1;",
    ],
)
def test_a_loop_that_never_ends(loop: str) -> None:
    error = caught(NeverEnds, f"float s = 0;\n{loop}\n{WRITE.format(value='s')}")
    assert error.location == "broken.metal:2"
    if "== 5" in loop:
        assert error.thread == (5, 0, 0)


def test_a_loop_that_never_ends_in_a_function() -> None:
    error = caught(NeverEnds, f"wait();\n{WRITE.format(value=0)}", header=helpers("\nvoid wait() {\n  for (;;) {}\n}\n"))
    assert error.location == "helpers.metal:3"


# Numbers of threads, and memory


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"grid": (2**32 + 32, 1, 1)}, "4294967328"),
        ({"grid": (2**31, 1, 1)}, "2147483648"),
        ({"grid": (2**31 - 1,) * 3}, "64 bits"),
        ({"grid": (64, 1)}, "three whole numbers"),
        ({"grid": 64}, "three whole numbers"),
        ({"grid": (-64, 1, 1)}, "at least 1"),
        ({"threadgroup": (2**32 + 32, 1, 1)}, "4294967328"),
        ({"output_shapes": [(2**31 - 1, 2**10)]}, r"output y of shape \(2147483647, 1024\) takes 8,192\.0 GiB"),
        ({"output_shapes": [(2**31,)]}, "2147483648"),
        ({"output_shapes": [(-64,)]}, "-64"),
        ({"output_shapes": [64]}, "a tuple of whole numbers"),
        ({"output_shapes": [(64.0,)]}, "a tuple of whole numbers"),
    ],
    ids=str,
)
def test_a_launch_that_no_machine_can_do(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        run(WRITE.format(value=0), **wrong)


def test_sizes_may_be_numbers_of_numpy() -> None:
    assert run(WRITE.format(value=1), grid=tuple(np.array([64, 1, 1])), output_shapes=[np.array([64])]).tolist() == [1.0] * 64


@pytest.mark.parametrize("size", ["100000000", "3000000000ul"])
def test_threadgroup_memory_that_not_even_this_machine_has(size: str) -> None:
    with pytest.raises((ThreadgroupMemoryExceeded, CompileError)) as error:
        run(f"threadgroup float a[{size}];\na[0] = 1;\n{WRITE.format(value='a[0]')}")
    assert error.value.kernel == "broken"


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_more_threadgroups_than_32_bits_can_count(order: str) -> None:
    error = caught(OutOfBounds, "y[0] = x[64];", order=order, grid=(2**31 - 1, 2**16, 1))
    assert error.threadgroup is not None
    x, y, _ = error.threadgroup
    assert 0 <= x < 2**26
    assert 0 <= y < 2**16
    if order == "descending":
        assert (x, y) == (2**26 - 1, 2**16 - 1), "the last threadgroup comes first"


@pytest.mark.parametrize("count", [1, 2, 3, 31, 33, 100, 1000])
def test_each_order_runs_every_threadgroup_once(count: int) -> None:
    kernel = metal_kernel(
        "visits", ["x"], ["y"], "atomic_fetch_add_explicit(&y[thread_position_in_grid.x], 1, memory_order_relaxed);",
        atomic_outputs=True,
    )  # fmt: skip
    for order in ("ascending", "descending", "shuffled"):
        with cpu_runner(order, seed=count):
            (y,) = kernel(
                inputs=[mx.zeros(1)],
                grid=(count, 1, 1),
                threadgroup=(1, 1, 1),
                output_shapes=[(count,)],
                output_dtypes=[mx.int32],
                init_value=0,
            )
        assert y.tolist() == [1] * count


# Ctrl-C, and other threads of Python

LONG = {
    "many threadgroups": (WRITE.format(value=0).replace(".x]", ".x % 64]"), (2**31 - 1, 2**31 - 1, 1), (32, 1, 1)),
    "long loops": ("float s = 0; for (uint i = 0; i < 6000000; i++) s += x[i % 64]; y[0] = s;", (1024, 99, 1), (1024, 1, 1)),
    "barriers": (
        "for (uint i = 0; i < 99999; i++) threadgroup_barrier(mem_flags::mem_none); y[0] = 0;",
        (1024, 99, 1),
        (1024, 1, 1),
    ),
}
SCRIPT = """
import sys
import mlx.core as mx
from metal_anywhere import metal_kernel
kernel = metal_kernel("long", ["x"], ["y"], sys.argv[1])
def launch(grid, threadgroup):
    return kernel(inputs=[mx.ones(64)], grid=grid, threadgroup=threadgroup, output_shapes=[(64,)], output_dtypes=[mx.float32])
try:
    launch((1, 1, 1), (1, 1, 1))  # compiles it
except Exception:
    pass
try:
    print("launching", flush=True)
    launch(eval(sys.argv[2]), eval(sys.argv[3]))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def launching(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that has just begun a launch which takes minutes."""
    command = [sys.executable, "-c", SCRIPT, *map(str, LONG[request.param])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "launching\n"
        time.sleep(0.5)
        yield process
        process.kill()


@pytest.mark.parametrize("launching", LONG, indirect=True)
def test_ctrl_c_ends_a_long_launch(launching: subprocess.Popen[str]) -> None:
    assert launching.poll() is None, "the launch is to take longer than this test"
    launching.send_signal(signal.SIGINT)
    output, _ = launching.communicate(timeout=20)  # it takes a fraction of a second on a quiet machine
    assert output == "interrupted\n"


def test_a_signal_whose_handler_returns_changes_nothing() -> None:
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        body = f"float s = 0;\nfor (uint i = 0; i < 64000; i++) s += x[i % 64] > 31;\n{WRITE.format(value='s')}"
        y = run(body, "shuffled", grid=(1024, 1, 1), threadgroup=(1024, 1, 1), output_shapes=[(1024,)])
        assert y.tolist() == [32000.0] * 1024
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard, "the handler ran while the kernel did, or right after it"


def test_a_signal_handler_cannot_launch_the_kernel_that_it_interrupts() -> None:
    body = f"float s = 0;\nfor (uint i = 0; i < 64000; i++) s += x[i % 64];\n{WRITE.format(value='s')}"
    kernel = metal_kernel("busy", ["x"], ["y"], body)

    def launch(*_: Any) -> None:
        call = {"grid": (1024, 1, 1), "threadgroup": (1024, 1, 1), "output_shapes": [(1024,)], "output_dtypes": [mx.float32]}
        with cpu_runner():
            kernel(inputs=[mx.ones(64)], **call)

    launch()  # compiles it
    before = signal.signal(signal.SIGALRM, launch)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(RuntimeError, match="signal handler"):
            launch()
    finally:
        signal.signal(signal.SIGALRM, before)
    launch()


def test_launches_from_several_threads_do_not_disturb_each_other() -> None:
    body = """threadgroup float part[32];
float s = 0;
for (uint round = 0; round < 500; round++) {
  part[thread_index_in_simdgroup] = x[thread_position_in_grid.x] + round;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  s = part[31 - thread_index_in_simdgroup];
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
y[thread_position_in_grid.x] = s;"""
    kernel = metal_kernel("shared", ["x"], ["y"], body)
    results: dict[int, list[float]] = {}

    def launch(number: int) -> None:
        with cpu_runner():
            (y,) = kernel(
                inputs=[mx.full((2048,), 1000.0 * number)],
                grid=(2048, 1, 1),
                threadgroup=(32, 1, 1),
                output_shapes=[(2048,)],
                output_dtypes=[mx.float32],
            )
        results[number] = y.tolist()

    launch(0)  # compiles it, so that all have the same library
    workers = [threading.Thread(target=launch, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == {number: [1000.0 * number + 499] * 2048 for number in range(4)}
