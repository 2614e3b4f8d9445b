"""The C++ compiler of this machine: finds it, compiles kernels with it, and keeps what it made.

It knows what a translation unit has to be compiled with, and not what is in it.
"""

import contextlib
import functools
import hashlib
import itertools
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mlx.core as mx

from metal_anywhere.errors import CompileError, NoCompiler

HERE = Path(__file__).parent
INCLUDES = (HERE / "include", Path(mx.__file__).parent / "include")  # ours come first: some stand in for MLX's
OLDEST = {"g++": 12, "clang": 15}
MOST_KEPT = 2000  # files of about 100 KB; all tests of the course together need about 400

_COMMON = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"]
_KERNEL = [
    *("-ffp-contract=off", "-fno-strict-aliasing", "-fwrapv", "-fsigned-char"),  # as Metal computes
    *("-fno-tree-vectorize", "-fno-tree-slp-vectorize"),  # a load in the source is one load, as it is counted
    "-fsanitize=thread,bounds,integer-divide-by-zero",  # no sanitizer's library is linked: runtime/hooks.h takes the calls
    *("-fsanitize-coverage=trace-pc", "-fno-finite-loops"),  # a loop that never ends has to be there to be found
]
# A function that wants more than half of a fiber's stack is refused.
_OF_GCC = ["-g1", "-fno-gnu-unique", "-fmax-errors=3", "-Werror=frame-larger-than=131072"]
_OF_CLANG = [
    *("-gline-tables-only", "-ferror-limit=3"),
    *("-Wno-everything", "-Wframe-larger-than=131072", "-Werror=frame-larger-than"),
    *("-mllvm", "-sanitizer-coverage-prune-blocks=0"),  # else a loop that nothing follows is not counted
    *("-mllvm", "-disable-vector-combine"),  # else the load of an int2 becomes two
    *("-mllvm", "-tsan-instrument-read-before-write=1"),  # else the read of `y[i] += 1` is neither checked nor counted
]
_DIAGNOSTIC = re.compile(
    r"^(?P<file>[^\n:]+):(?P<line>\d+):(?:\d+:)? (?P<kind>fatal error|error|note|warning): (?P<message>.*)$", re.MULTILINE
)
_HINTS = {
    r"bfloat|no viable overloaded '='": "a bfloat is made from a float by saying so: T(…)",
    r"call (of overloaded |to )'?‘?(max|min|clamp)": "all arguments must be of one type: float(…)",
    r"mem_flags|threadgroup_barrier": "a barrier says for which memory: threadgroup_barrier(mem_flags::mem_threadgroup)",
}
_LONGEST = 4000  # characters of the compiler's messages that are shown


@dataclass(frozen=True)
class Compiler:
    """`command` as a shell would split it; `version` is what it says of itself."""

    command: tuple[str, ...]
    kind: str  # a key of OLDEST
    version: str

    @property
    def flags(self) -> list[str]:
        includes = [f"-I{path}" for path in INCLUDES]
        half = ["-mf16c"] if platform.machine() in ("x86_64", "AMD64") else []
        return [*_COMMON, *(_OF_GCC if self.kind == "g++" else _OF_CLANG), *half, *includes]


def find_compiler(kernel: str) -> Compiler:
    """The compiler named by $CXX, or c++, g++ or clang++. NoCompiler says what to install, on behalf of `kernel`."""
    wanted = os.environ.get("CXX")
    candidates = [wanted] if wanted else ["c++", "g++", "clang++"]
    found = next((name for name in candidates if shutil.which(shlex.split(name)[0])), None)
    if found is None:
        missing = f"$CXX is {wanted!r}, which does not exist; " if wanted else ""
        raise NoCompiler(f"{missing}{_remedy()}", kernel=kernel)
    compiler, major = _describe(found)
    if major < OLDEST[compiler.kind]:
        name = compiler.version.splitlines()[0]
        raise NoCompiler(f"{name} is too old, g++ 12 or clang 15 is needed; {_remedy()}", kernel=kernel)
    return compiler


def _remedy() -> str:
    if sys.platform == "darwin":
        return "run `xcode-select --install`"
    return "install the package g++ (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)"


@functools.cache
def _describe(command: str) -> tuple[Compiler, int]:
    words = tuple(shlex.split(command))
    text = subprocess.run([*words, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"(\d+)\.\d+", text)
    kind = "clang" if "clang" in text else "g++"
    return Compiler(words, kind, text), int(version[1]) if version else 0


def cache_folder() -> Path:
    """Where compiled kernels are kept; it may be deleted at any time."""
    chosen = os.environ.get("TINY_LLM_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tiny-llm"
    return base / "kernels"


def build(text: str, rewrite: Callable[[str], str], kernel: str) -> Path:
    """The shared library of a kernel's translation unit, compiled now or at an earlier time.

    rewrite: applied between the preprocessor and the compiler.
    Raises CompileError, which names the line, and NoCompiler.
    """
    compiler = find_compiler(kernel)
    library = _path_of("kernel", compiler, text, ".so")
    if not library.exists():
        runtime = _build_runtime(compiler, kernel)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            unit, compiled, linked = (Path(folder) / name for name in ("kernel.cpp", "kernel.o", "kernel.so"))
            preprocess = [*compiler.command, *compiler.flags, "-E", "-x", "c++", "-"]
            unit.write_text(rewrite(_run(preprocess, kernel, text)), encoding="utf-8")
            _run([*compiler.command, *compiler.flags, *_KERNEL, "-c", str(unit), "-o", str(compiled)], kernel)
            _run([*compiler.command, "-shared", str(compiled), str(runtime), "-o", str(linked)], kernel)
            os.replace(linked, library)  # whole or not at all, also when two processes compile the same kernel
        _forget_oldest(library.parent)
    return _mark_used(library)


def _mark_used(path: Path) -> Path:
    with contextlib.suppress(OSError):  # a folder that may only be read is as good
        os.utime(path)
    return path


def _forget_oldest(folder: Path) -> None:
    """Deletes what has not been used for the longest time. A process that has loaded it keeps it."""
    with contextlib.suppress(FileNotFoundError):  # another process is at the same
        ages = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
        for path in sorted(ages, key=ages.__getitem__)[:-MOST_KEPT]:
            path.unlink()


def _build_runtime(compiler: Compiler, kernel: str) -> Path:
    path = _path_of("runtime", compiler, "", ".o")
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            compiled = Path(folder) / path.name
            source = HERE / "runtime/runtime.cpp"
            _run([*compiler.command, *compiler.flags, "-c", str(source), "-o", str(compiled)], kernel)
            os.replace(compiled, path)
    return _mark_used(path)


def _path_of(what: str, compiler: Compiler, text: str, suffix: str) -> Path:
    key = hashlib.sha256("\0".join([compiler.version, *compiler.flags, *_KERNEL, _own_sources(), text]).encode()).hexdigest()
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{what}-{key[:24]}{suffix}"


@functools.cache
def _own_sources() -> str:
    """All that goes into a kernel beside its own text; a change makes what is kept useless."""
    texts = [path for folder in ("include", "runtime") for path in sorted((HERE / folder).rglob("*"))]
    paths = [HERE / "rewrite.py", HERE / "source.py", *texts]
    return "\0".join(
        [platform.machine(), metadata.version("mlx"), *(path.read_text("utf-8") for path in paths if path.is_file())]
    )


def _run(command: list[str], kernel: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise _compile_error(done.stderr, kernel)
    return done.stdout


def _compile_error(messages: str, kernel: str) -> CompileError:
    starts = [*(found.start() for found in _DIAGNOSTIC.finditer(messages)), len(messages)]
    parts = [messages[start:end] for start, end in itertools.pairwise(starts)]
    # A kernel's own files have bare names; what our headers have to add would not help its author.
    own = [part for part in parts if "/" not in part.split(":")[0]]
    first = next((found for part in own if (found := _DIAGNOSTIC.match(part)) and "error" in found["kind"]), None)
    if first is None:
        return CompileError(f"the compiler failed:\n{messages[:_LONGEST]}", kernel=kernel)
    hint = next((f"\nHint: {hint}" for pattern, hint in _HINTS.items() if re.search(pattern, first["message"])), "")
    text = "".join(own)[:_LONGEST].rstrip()
    return CompileError(f"{first['message']}\n{text}{hint}", kernel=kernel, location=f"{first['file']}:{first['line']}")


def find_line(library: Path, code_offset: int, files: Collection[str]) -> str | None:
    """`file:line` of the instruction at `code_offset`, in the first of `files` on the way to it; None if nothing knows."""
    command = (
        ["atos", "-i", "-o", str(library), "-offset", hex(code_offset)]
        if sys.platform == "darwin"
        else ["addr2line", "-i", "-e", str(library), hex(code_offset)]
    )
    try:
        output = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:  # binutils comes with every g++, but not with every clang
        return None
    for file, line in re.findall(r"([^/\s(]+):(\d+)", output):
        if file in files:
            return f"{file}:{line}"
    return None
