"""Merges a new version of a skeleton's file into a learner's: three texts, of which the first is what both began with.

The bodies of answers are taken out before the merge and put back after it, so that a learner's code meets nothing but its own
stub, while new docstrings, signatures and given code come in around it.
"""

import codecs
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.functions import find_functions, parse, split_lines
from tiny_llm_kit.course.kernel_regions import STUB

_HOLE = re.compile(r"    # the body of (\S+)\n")


@dataclass(frozen=True)
class Merged:
    """`content` None: no file. `clash`: the learner's lines were kept in some places where the new version has others."""

    content: bytes | None
    clash: bool = False


def merge(base: bytes | None, mine: bytes | None, new: bytes | None, path: Path) -> Merged:
    """A file of a learner's package; None stands for a file that is not there."""
    if mine in (base, new) or (mine is None and new is not None):
        return Merged(new)
    if new == base:
        return Merged(mine)
    if base is None or mine is None or new is None:  # both have added it, or the course has removed what a learner changed
        return Merged(mine, clash=True)
    try:
        text, clash = _merge_texts(_plain(base), _plain(mine), _plain(new), path)
    except ValueError:  # no text, or a learner's file that is no Python for now
        return Merged(mine, clash=True)
    mark = codecs.BOM_UTF8 if mine.startswith(codecs.BOM_UTF8) else b""
    return Merged(mark + text.replace("\n", "\r\n" if b"\r\n" in mine else "\n").encode(), clash)


def _plain(content: bytes) -> str:
    return content.removeprefix(codecs.BOM_UTF8).decode().replace("\r\n", "\n")


def _merge_texts(base: str, mine: str, new: str, path: Path) -> tuple[str, bool]:
    """ValueError if the answers do not come through it whole."""
    if path.suffix == ".py":
        return _merge_python(base, mine, new, path)
    if path.suffix == ".metal":
        return _merge_kernels(base, mine, new)
    return _merge_lines(base, mine, new)


def _merge_python(base: str, mine: str, new: str, path: Path) -> tuple[str, bool]:
    marked = {function.name for text in (base, new) for function in find_functions(text, path) if function.task}
    hollow_base, base_bodies = _take_out(base, marked, path)
    hollow_mine, my_bodies = _take_out(mine, marked, path)
    hollow_new, new_bodies = _take_out(new, marked, path)
    text, clash = _merge_lines(hollow_base, hollow_mine, hollow_new)
    written = {name: bodies for name, bodies in my_bodies.items() if bodies != base_bodies.get(name)}
    bodies = {name: list(written.get(name) or new_bodies.get(name) or my_bodies.get(name, [])) for name in marked}

    def put_back(hole: re.Match[str]) -> str:
        if not bodies[hole[1]]:
            raise ValueError(f"{hole[1]} is there more often than it was")
        return bodies[hole[1]].pop(0)

    text = _HOLE.sub(put_back, text)
    if lost := [name for name in written if bodies[name]]:
        raise ValueError(f"{', '.join(lost)} would be lost")
    parse(text, path)
    return text, clash


def _take_out(text: str, names: set[str], path: Path) -> tuple[str, dict[str, list[str]]]:
    """The text with one line in the place of each body, and the bodies."""
    lines = split_lines(text)
    bodies: dict[str, list[str]] = {}
    for function in reversed(find_functions(text, path)):
        if function.name in names:
            body = "".join(lines[function.body : function.end])
            bodies.setdefault(function.name, []).insert(0, body if body.endswith("\n") else f"{body}\n")
            lines[function.body : function.end] = [f"    # the body of {function.name}\n"]
    return "".join(lines), bodies


def _merge_kernels(base: str, mine: str, new: str) -> tuple[str, bool]:
    """What a stub says may change: a learner has put code in its place, or will."""
    stubs = [line for line in split_lines(new) if STUB.fullmatch(line)]
    text, clash = _merge_lines(*(_same_stubs(part) for part in (base, mine, new)))
    lines = split_lines(text)
    holes = [number for number, line in enumerate(lines) if line.startswith("#error stub ")]
    for number in holes:
        place = int(lines[number].removeprefix("#error stub "))
        if place >= len(stubs):
            raise ValueError("the new version has fewer answers in this file")
        lines[number] = stubs[place]
    return "".join(lines), clash


def _same_stubs(text: str) -> str:
    lines = split_lines(text)
    for place, number in enumerate([number for number, line in enumerate(lines) if STUB.fullmatch(line)]):
        lines[number] = f"#error stub {place}\n"
    return "".join(lines)


def _merge_lines(base: str, mine: str, new: str) -> tuple[str, bool]:
    """Line by line; where both have changed the same lines, mine. True if that was so."""
    with tempfile.TemporaryDirectory() as folder:
        names = [str(Path(folder) / name) for name in ("mine", "base", "new")]
        for name, text in zip(names, (mine, base, new), strict=True):
            Path(name).write_bytes(text.encode())
        command = ["git", "merge-file", "--stdout", "--quiet"]
        clean = subprocess.run([*command, *names], capture_output=True)
        if clean.returncode == 0:
            return clean.stdout.decode(), False
        if clean.returncode > 127:
            raise ValueError(clean.stderr.decode(errors="replace").strip())
        return subprocess.run([*command, "--ours", *names], capture_output=True, check=True).stdout.decode(), True
