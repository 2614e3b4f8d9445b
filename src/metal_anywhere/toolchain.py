"""The C++ compiler of this machine: which one it is, and what kernels have to be compiled with."""

import functools
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from metal_anywhere.errors import NoCompiler

HERE = Path(__file__).parent
INCLUDES = (HERE / "include", Path(mx.__file__).parent / "include")  # ours come first: some stand in for MLX's
OLDEST = {"g++": 12, "clang": 15}

_COMMON = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"]
KERNEL = [
    *("-ffp-contract=off", "-fno-strict-aliasing", "-fwrapv", "-fsigned-char"),  # as Metal computes
    *("-fno-tree-vectorize", "-fno-tree-slp-vectorize"),  # a load in the source is one load, as it is counted
    "-fsanitize=thread,bounds,integer-divide-by-zero",  # no sanitizer's library is linked: runtime/hooks.h takes the calls
    *("-fsanitize-coverage=trace-pc", "-fno-finite-loops"),  # a loop that never ends has to be there to be found
]
# A larger frame is refused: runtime/fiber.h keeps that much of each stack in reserve.
_OF_GCC = ["-g1", "-fno-gnu-unique", "-fmax-errors=3", "-Werror=vla", "-Werror=frame-larger-than=131072"]
_OF_CLANG = [
    *("-gline-tables-only", "-gdwarf-4", "-ferror-limit=3"),  # of DWARF 5, addr2line misses inlined calls
    *("-Wno-everything", "-Werror=vla", "-Wframe-larger-than=131072", "-Werror=frame-larger-than"),
    *("-mllvm", "-sanitizer-coverage-prune-blocks=0"),  # else a loop that nothing follows is not counted
    *("-mllvm", "-disable-vector-combine"),  # else the load of an int2 becomes two
    *("-mllvm", "-tsan-instrument-read-before-write=1"),  # else the read of `y[i] += 1` is neither checked nor counted
]
CALLS = ["-O0", "-w", "-S", "-o", "-"]  # prints assembly in which each call of the source is a call
QUICK_LINKERS = ("lld", "gold")  # GNU's usual one takes four times as long, nearly all of it to read libstdc++


@dataclass(frozen=True)
class Compiler:
    """`command` as a shell would split it; `macros` are what it defines by itself: its version, and what it compiles for."""

    command: tuple[str, ...]
    kind: str  # a key of OLDEST
    major: int
    macros: str

    @property
    def flags(self) -> list[str]:
        includes = [f"-I{path}" for path in INCLUDES]
        half = ["-mf16c"] if platform.machine() in ("x86_64", "AMD64") else []
        return [*_COMMON, *(_OF_GCC if self.kind == "g++" else _OF_CLANG), *half, *includes]

    @property
    def linking(self) -> list[str]:
        """What makes a shared library: on Linux with a quick linker, where there is one."""
        there = [linker for linker in QUICK_LINKERS if sys.platform == "linux" and shutil.which(f"ld.{linker}")]
        return ["-shared", *(f"-fuse-ld={linker}" for linker in there[:1])]


def find_compiler(kernel: str) -> Compiler:
    """The compiler named by $CXX, or c++, g++ or clang++. NoCompiler says what to install, on behalf of `kernel`."""
    wanted = os.environ.get("CXX", "").strip()
    try:
        commands = [tuple(shlex.split(wanted))] if wanted else [("c++",), ("g++",), ("clang++",)]
    except ValueError as error:
        raise NoCompiler(f"$CXX is {wanted!r}, which a shell would not understand: {error}", kernel=kernel) from None
    command = next((words for words in commands if words and shutil.which(words[0])), None)
    if command is None:
        missing = f"$CXX is {wanted!r}, which does not exist; " if wanted else ""
        raise NoCompiler(f"{missing}{_remedy()}", kernel=kernel)
    compiler = _describe(command)
    if compiler is None:
        raise NoCompiler(f"{shlex.join(command)!r} does not work as a C++ compiler; {_remedy()}", kernel=kernel)
    if compiler.major < OLDEST[compiler.kind]:
        found = f"{shlex.join(command)!r} is {compiler.kind} {compiler.major}"
        raise NoCompiler(f"{found}, which is too old: g++ 12 or clang 15 is needed; {_remedy()}", kernel=kernel)
    return compiler


def _remedy() -> str:
    if sys.platform == "darwin":
        return "run `xcode-select --install`"
    return "install the package g++ (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)"


@functools.cache
def _describe(command: tuple[str, ...]) -> Compiler | None:
    """None if it is no C++ compiler that we know."""
    try:
        done = subprocess.run([*command, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, text=True)
    except OSError:
        return None
    for kind, macro in (("clang", "__clang_major__"), ("g++", "__GNUC__")):  # clang defines both
        if version := re.search(rf"^#define {macro} (\d+)$", done.stdout, re.MULTILINE):
            return Compiler(command, kind, int(version[1]), done.stdout)
    return None
