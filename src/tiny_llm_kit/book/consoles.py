"""Blocks marked `console`: commands after `$ `, and what they print. Each is run, and must print that, numbers aside.

A command goes on for as long as a quotation mark is open, and after a backslash at the end of a line. A line `…` stands for any
lines. A reader has solved the day, so `tiny_llm` on a page works: here the reference takes its place. A block marked
`console,slow` is run only by `pdm run book-check --run-commands`.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tiny_llm_kit.book.pages import Fault, Page
from tiny_llm_kit.course.course_map import LEARNER, REFERENCE

SECONDS = 300.0
_BLOCK = re.compile(r"^```console(?P<slow>,slow)?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d+(?:[.,:-]\d+)*")

_RULE = re.compile(r"([=─━-])\1+")


@dataclass(frozen=True)
class Command:
    line: int
    command: str
    output: list[str]
    slow: bool


def find_commands(page: Page) -> Iterator[Command]:
    for block in _BLOCK.finditer(page.text):
        first = page.line_of(block.start("body"))
        command: Command | None = None
        for number, line in enumerate(block["body"].splitlines(), first):
            if line.startswith("$ "):
                if command:
                    yield command
                command = Command(number, line[2:], [], block["slow"] is not None)
            elif command and _is_open(command.command):
                command = replace(command, command=f"{command.command}\n{line}".replace("\\\n", ""))
            elif command:
                command.output.append(line)
        if command:
            yield command


def _is_open(command: str) -> bool:
    """Whether the command goes on in the next line: a quotation mark has no other yet, or a backslash is the last character."""
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


def find_faults(page: Page, root: Path, slow: bool = False) -> list[Fault]:
    """The commands of a page that fail, or print something other than the page says."""
    commands = [command for command in find_commands(page) if slow or not command.slow]
    return [page.fault(command.line, reason) for command in commands if (reason := _judge(command, root))]


def _judge(command: Command, root: Path) -> str:
    try:
        arguments = _arguments(re.sub(rf"\b{LEARNER}\b", REFERENCE, command.command), root)
        environment = {**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "88", "NO_COLOR": "1"}
        done = subprocess.run(
            arguments, cwd=root, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SECONDS
        )
    except (ValueError, subprocess.TimeoutExpired) as error:
        return f"{command.command}: {error}"
    if done.returncode:
        return f"{command.command} ends with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
    if not matches(command.output, done.stdout.splitlines()):
        return f"{command.command} does not print what the page says, numbers aside, but:\n{done.stdout.rstrip()}"
    return ""


def _arguments(command: str, root: Path) -> list[str]:
    """The command of a `pdm run NAME`, started without pdm, which would take a second each time."""
    pdm, run, name, *rest = [*shlex.split(command), "", "", ""]
    scripts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pdm"]["scripts"]
    if (pdm, run) != ("pdm", "run") or (name not in scripts and name != "python"):
        raise ValueError("a command in a console block is one of `pdm run`'s")
    words = ["python"] if name == "python" else shlex.split(scripts[name].get("cmd", ""))
    if words[:1] != ["python"]:
        raise ValueError(f"{name} is not run by Python: show it in a block marked sh")
    return [sys.executable, *words[1:], *(word for word in rest if word)]


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether the lines are the same, except for numbers, spaces, and what `…` stands for."""
    pattern = "".join("(?:.*\n)*?" if line.strip() == "…" else re.escape(_plain(line)) + "\n" for line in _trimmed(expected))
    return re.fullmatch(pattern, "".join(_plain(line) + "\n" for line in _trimmed(printed))) is not None


def _trimmed(lines: list[str]) -> list[str]:
    return "\n".join(lines).strip("\n").splitlines()


def _plain(line: str) -> str:
    """Numbers decide how long a rule next to them is, and how wide a column."""
    return _RULE.sub(r"\1", " ".join(_NUMBER.sub("0", line).split()))
