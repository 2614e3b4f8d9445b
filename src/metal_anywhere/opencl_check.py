"""A second opinion on a kernel before it meets a Mac: clang reads it as C++ for OpenCL, which has Metal's address spaces.

`device`, `constant`, `threadgroup` and `thread` are OpenCL's `__global`, `__constant`, `__local` and `__private`, so clang
finds a pointer to the wrong memory, which a C++ compiler takes. Nothing is compiled, and nothing runs. What clang says about
anything that OpenCL and Metal do not share is no problem of the kernel's: a C++ compiler reads it as well.
"""

import functools
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from metal_anywhere.errors import CompileError
from metal_anywhere.opencl_messages import explain
from metal_anywhere.opencl_rewrite import to_opencl
from metal_anywhere.signature import Signature

OLDEST_CLANG = 14  # the first with C++ for OpenCL 2021

_HERE = Path(__file__).parent
_INCLUDES = [f"-I{path}" for path in (_HERE / "on_opencl", Path(mx.__file__).parent / "include", _HERE / "include")]
_FLAGS = [
    *("-x", "clcpp", "-cl-std=clc++2021", "-target", "spir64", "-cl-no-stdinc"),
    # Without double and variables outside of functions, as Metal. Without generic pointers clang could not return a struct from
    # a function: it has them, and what it says about them is not asked for.
    *("-Xclang", "-cl-ext=-all,+cl_khr_fp16,+__opencl_c_generic_address_space"),
    *("-D__METAL__", "-D__METAL_VERSION__=320"),
]
_CHECK = ["-include", str(_HERE / "on_opencl/metal.h"), "-fsyntax-only", "-w", "-ferror-limit=0", "-fno-caret-diagnostics"]
_PRELUDE = '#include "mlx/backend/metal/kernels/utils.h"\nusing namespace metal;'
_DIAGNOSTIC = re.compile(r"^(?P<file>[^\n:]+):(?P<line>\d+):\d+: (?P<kind>fatal error|error|note): (?P<text>.*)$", re.MULTILINE)

_COPY = re.compile(r"candidate constructor .* to 'const __(generic|constant) [^'*]*' for 1st argument")  # not what was meant
_GENERIC = re.compile(r"\b__generic\b")  # where OpenCL has `this` when nothing is said, and Metal thread memory
_KERNEL = re.compile(r"\[\[kernel\b[^\]]*\]\]\s*void\s+(\w+)")


@dataclass(frozen=True)
class Problem:
    """What clang objects to: where ("matvec.metal:12"), in its own words, and in Metal's where Metal would object too."""

    location: str
    message: str
    meaning: str | None


def find_clang() -> str | None:
    """The path of a clang that knows C++ for OpenCL, which is any from version 14 on, but not Apple's."""
    return _find_clang(os.environ.get("PATH"))


@functools.cache
def _find_clang(path: str | None) -> str | None:
    names = ["clang", "clang++", *(f"clang-{version}" for version in range(40, OLDEST_CLANG - 1, -1))]
    found = (shutil.which(name, path=path) for name in names)
    return next((clang for clang in found if clang and _version(clang) >= OLDEST_CLANG), None)


def _version(clang: str) -> int:
    found = re.match(r"(?!Apple).*clang version (\d+)", _run([clang, "--version"], "").stdout)
    return int(found[1]) if found else 0


def find_problems(clang: str, signature: Signature, header_file: str, body_file: str) -> list[Problem]:
    """All that clang objects to in a kernel, in the order of its messages.

    header_file, body_file: what the kernel's two texts are called in the locations.
    """
    unit = [
        _PRELUDE,
        *(f'#line 1 "{header_file}"', signature.header),
        *('#line 1 "<generated>"', signature.head.rstrip("\n")),
        *(f'#line 1 "{body_file}"', signature.body),
        *('#line 1 "<generated>"', signature.tail, ""),
    ]
    preprocessed = _run([clang, *_FLAGS, *_INCLUDES, "-E", "-"], "\n".join(unit))
    if preprocessed.returncode:
        return _problems(preprocessed, {header_file, body_file})
    if not set(_KERNEL.findall(preprocessed.stdout)).isdisjoint(re.findall(r"\w+", signature.body)):
        return []  # a kernel that calls another, as tests of the CPU runner do, is C++ and not Metal
    checked = _run([clang, *_FLAGS, *_CHECK, "-"], to_opencl(preprocessed.stdout))
    return _problems(checked, {header_file, body_file})


def check(clang: str, signature: Signature, header_file: str, body_file: str, kernel: str) -> None:
    """CompileError, on behalf of `kernel`, when there is something that Metal would refuse."""
    found = find_problems(clang, signature, header_file, body_file)
    if problems := list(dict.fromkeys((problem.location, problem.meaning) for problem in found if problem.meaning)):
        (location, meaning), *others = problems
        also = "".join(f"\n{location}: {meaning}" for location, meaning in others)
        raise CompileError(f"{meaning}{also}", kernel=kernel, location=location)


def checked_first(
    rewrite: Callable[[str], str], signature: Signature, header_file: str, body_file: str, kernel: str
) -> Callable[[str], str]:
    """A `rewrite` that `check` comes before, where there is a clang: what is compiled already was checked then."""

    def check_and_rewrite(text: str) -> str:
        if clang := find_clang():
            check(clang, signature, header_file, body_file, kernel)
        return rewrite(text)

    return check_and_rewrite


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", errors="replace")


def _problems(done: subprocess.CompletedProcess[str], own_files: Collection[str]) -> list[Problem]:
    """One for each error. Its place is the first of the author's own files on the way to it."""
    found = list(_DIAGNOSTIC.finditer(done.stderr))
    errors = [index for index, message in enumerate(found) if message["kind"] != "note"]
    problems = {}  # each once: clang may report a template where it is defined, and where it is used
    for start, end in itertools.pairwise([*errors, len(found)]):
        error, *notes = [message for message in found[start:end] if not _COPY.match(message["text"])]
        if any(_GENERIC.search(message["text"]) for message in (error, *notes)):
            continue
        place = next((message for message in (error, *notes) if message["file"] in own_files), None)
        location = f"{place['file']}:{place['line']}" if place else f"{error['file']}:{error['line']}"
        meaning = explain(error["text"], [note["text"] for note in notes]) if place else None
        problems[location, error["text"]] = Problem(location, error["text"], meaning)
    if done.returncode and not errors:
        return [Problem(done.args[0], f"clang failed: {done.stderr[:1000]}", None)]
    return list(problems.values())
