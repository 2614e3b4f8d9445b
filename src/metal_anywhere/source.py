"""A kernel as its author gives it: its text, the file that this comes from, whether it is still to be written.

A `.metal` file holds the body of one kernel; `metal_kernel` puts the signature around it. Nothing here compiles.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STRING = r'"(?:[^"\\\n]|\\.)*"'
_STRING_OR_COMMENT = re.compile(rf"({STRING})|//[^\n]*|/\*.*?\*/", re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|endif|error)\b[ \t]*(.*?)[ \t]*$", re.MULTILINE)


class MetalSource(str):
    """The text of the file `path`, so that whoever reports a mistake in it can name the file."""

    path: Path

    def __new__(cls, text: str, path: Path) -> "MetalSource":
        source = super().__new__(cls, text)
        source.path = path
        return source


@dataclass(frozen=True)
class KernelDefinition:
    """What a kernel is made from on every machine: arguments of `mx.fast.metal_kernel`, whose documentation holds."""

    name: str
    input_names: Sequence[str]
    output_names: Sequence[str]
    source: str
    header: str = ""
    ensure_row_contiguous: bool = True
    atomic_outputs: bool = False

    def find_stub(self) -> str | None:
        """The message of the first stub, with the file that it is in; None when the kernel is written."""
        for text in (self.header, self.source):
            if stub := find_stub(text):
                return f"{stub} (in {text.path.name})" if isinstance(text, MetalSource) else stub
        return None


def read_metal(path: Path) -> MetalSource:
    """Reads a kernel's body from a `.metal` file.

    ValueError when `path` is not a `.metal` file, or is not text; FileNotFoundError when there is no such file.
    """
    if path.suffix != ".metal":
        raise ValueError(f"{path} is not a .metal file: kernels are read from files that end in .metal")
    try:
        return MetalSource(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path}: a kernel's .metal file lies beside the module that reads it") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None


def without_comments(text: str) -> str:
    """The same with a space for each comment, and every line where it was."""
    return _STRING_OR_COMMENT.sub(lambda found: found[1] or " " + "\n" * found[0].count("\n"), text)


def stub_line(message: str) -> str:
    """What stands in place of a kernel, or of a part of it, that is still to be written: an error with this message."""
    escaped = message.replace("\\", "\\\\").replace('"', '\\"')
    return f'#error "{escaped}"'


def find_stub(text: str) -> str | None:
    """The message of the first `#error` that is not inside of an `#if`: no compiler would take it. None without one."""
    depth = 0
    for directive, rest in _DIRECTIVE.findall(without_comments(text)):
        if directive == "error" and depth == 0:
            quoted = re.fullmatch(r'"(.*)"', rest)
            return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else rest
        depth += {"error": 0, "endif": -1}.get(directive, 1)
    return None
