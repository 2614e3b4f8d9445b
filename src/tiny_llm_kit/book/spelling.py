"""Common misspellings, by codespell and its dictionary, and repeated words."""

import re
import subprocess
import sys
from pathlib import Path

from tiny_llm_kit.book.pages import Fault, Page

_TWICE = re.compile(r"\b([A-Za-z]{2,})\s+\1\b")
_FOUND = re.compile(r"(.+?):(\d+): (.+)")
_RIGHT_TWICE = {"that", "had", "log"}


def find_misspelled(pages: list[Page], root: Path) -> list[Fault]:
    """What codespell finds in prose, with the word that was meant. It reads all pages at once, since starting it takes
    longest."""
    command = [sys.executable, "-m", "codespell_lib", *(page.name for page in pages)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode not in (0, 65):  # 65: it has found something
        raise ValueError(f"codespell cannot run (pdm run setup): {done.stderr.strip()}")
    prose = {page.name: page.prose.splitlines() for page in pages}
    faults = []
    for match in filter(None, map(_FOUND.fullmatch, done.stdout.splitlines())):
        name, line, word = match[1].removeprefix("./"), int(match[2]), match[3].partition(" ")[0]
        if word in prose[name][line - 1]:
            faults.append(Fault(name, line, f"spelling: {match[3]}"))
    return faults


def find_repeated(page: Page) -> list[Fault]:
    return [
        page.fault(page.line_of(found.start()), f"{found[1]!r} is written twice")
        for found in _TWICE.finditer(page.prose)
        if found[1] not in _RIGHT_TWICE
    ]
