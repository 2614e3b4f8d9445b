"""Compiles kernels with the C++ compiler of this machine, and says where a kernel is at fault when that does not work.

It knows what a translation unit has to be compiled with, and not what is in it.
"""

import functools
import hashlib
import itertools
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from importlib import metadata
from pathlib import Path

from metal_anywhere import cache
from metal_anywhere.errors import CompileError
from metal_anywhere.toolchain import CALLS, HERE, KERNEL, Compiler, find_compiler

_DIAGNOSTIC = re.compile(
    r"^(?P<file>[^\n:]+):(?P<line>\d+):(?:\d+:)? (?P<kind>fatal error|error|note|warning): (?P<message>.*)$", re.MULTILINE
)
_HINTS = {
    r"bfloat|no viable overloaded '='": "a bfloat is made from a float by saying so: T(…)",
    r"call (of overloaded |to )'?‘?(max|min|clamp)": "all arguments must be of one type: float(…)",
    r"poisoned": "Metal has no such word",
    r"variable length array": "the size of an array is a number that the compiler knows: a template's argument, or constexpr",
    r"there are no arguments to .(\w+). that depend|.(\w+). was not declared|undeclared identifier .(\w+).": (
        "neither this kernel nor the CPU runner knows `{}`: is it spelled as in Metal, and declared before it is used?"
    ),
    r"mem_flags|threadgroup_barrier": "a barrier says for which memory: threadgroup_barrier(mem_flags::mem_threadgroup)",
}
_LONGEST = 4000  # characters of the compiler's messages that are shown


def build(text: str, rewrite: Callable[[str], str], check: Callable[[Path], None], kernel: str) -> Path:
    """The shared library of a kernel's translation unit, compiled now or at an earlier time.

    rewrite: applied between the preprocessor and the compiler. check: raises what it has against the unit that comes out.
    Raises CompileError, which names the line, and NoCompiler.
    """
    compiler = find_compiler(kernel)
    key = _key("kernel", compiler, text)
    if library := cache.find(key, ".so"):
        return library
    try:
        with cache.workspace() as folder:
            unit, compiled, linked = (Path(folder) / name for name in ("kernel.cpp", "kernel.o", "kernel.so"))
            preprocess = [*compiler.command, *compiler.flags, "-E", "-x", "c++", "-"]
            unit.write_text(rewrite(_run(preprocess, kernel, text)), encoding="utf-8")
            _run([*compiler.command, *compiler.flags, *KERNEL, "-c", str(unit), "-o", str(compiled)], kernel)
            check(unit)
            runtime = _build_runtime(compiler, kernel, Path(folder) / "runtime.o")
            _run([*compiler.command, *compiler.linking, str(compiled), str(runtime), "-o", str(linked)], kernel)
            return cache.keep(linked, key)
    except OSError as error:
        problem = f"what is compiled cannot be kept: {error}. ${cache.VARIABLE} chooses another folder"
        raise CompileError(problem, kernel=kernel) from error


def list_calls(unit: Path, kernel: str) -> str:
    """Assembly of a translation unit in which every call is a call: nothing is inlined, no recursion is a loop yet."""
    compiler = find_compiler(kernel)
    return _run([*compiler.command, *compiler.flags, *CALLS, str(unit)], kernel)


def _build_runtime(compiler: Compiler, kernel: str, path: Path) -> Path:
    key = _key("runtime", compiler, "")
    if kept := cache.find(key, ".o"):
        return kept
    _run([*compiler.command, *compiler.flags, "-c", str(HERE / "runtime/runtime.cpp"), "-o", str(path)], kernel)
    return cache.keep(path, key)


def _key(what: str, compiler: Compiler, text: str) -> str:
    parts = [*compiler.command, compiler.macros, *compiler.flags, *KERNEL, _own_sources(), text]
    return f"{what}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}"


@functools.cache
def _own_sources() -> str:
    """All that goes into a kernel beside its own text; a change makes what is kept useless."""
    texts = [path for folder in ("include", "runtime") for path in sorted((HERE / folder).rglob("*"))]
    paths = [HERE / "rewrite.py", HERE / "source.py", HERE / "recursion.py", *texts]
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
    hint = _hint(first["message"])
    text = "".join(own)[:_LONGEST].rstrip()
    return CompileError(f"{first['message']}\n{text}{hint}", kernel=kernel, location=f"{first['file']}:{first['line']}")


def _hint(message: str) -> str:
    """What a compiler's message means to someone who writes Metal; "" if we have nothing to add."""
    for pattern, hint in _HINTS.items():
        if found := re.search(pattern, message):
            return f"\nHint: {hint.format(*filter(None, found.groups()))}"
    return ""


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
