"""The book's pages as text: their lines, which of them are code, and the report about a faulty line."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

CODE = (
    r"(?P<fence>^(?P<open> *```+)[^\n]*\n.*?^ *```+ *$)"
    r"|(?P<indented>(?<=\n\n) {4}[^\n]*(?:\n {4}[^\n]*)*)"
    r"|(?P<inline>(?P<ticks>`+)(?!`)(?P<code>.+?)(?<!`)(?P=ticks)(?!`))"
)
"""A pattern of code in a page: a block, fenced or indented, or a piece of a line. To be compiled with DOTALL and MULTILINE."""

_FENCE = re.compile(r" *```")
_INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, order=True)
class Fault:
    """What is wrong with a page, and where. `line` is 0 for what is wrong with the page as a whole."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}" if self.line else f"{self.page}: {self.text}"


@dataclass(frozen=True)
class Page:
    """`name` is the path from the project's root."""

    path: Path
    name: str
    text: str

    @classmethod
    def read(cls, path: Path, root: Path) -> "Page":
        return cls(path, path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))

    def fault(self, line: int, text: str) -> Fault:
        return Fault(self.name, line, text)

    def line_of(self, position: int) -> int:
        """The number of the line that holds a character of the text."""
        return self.text.count("\n", 0, position) + 1

    @cached_property
    def code_lines(self) -> list[tuple[int, str]]:
        """Number and text of each line in a code block, fenced or indented after a blank line."""
        found, fenced, indented, before = [], False, False, ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if _FENCE.match(line):
                fenced = not fenced
            elif fenced:
                found.append((number, line))
            else:
                indented = line.startswith("    ") and (indented or not before.strip())
                if indented:
                    found.append((number, line))
            before = line
        return found

    @cached_property
    def prose(self) -> str:
        """The text with code and comments blanked out, so that a position in it is one in the text."""
        lines = self.text.splitlines()
        for number, line in self.code_lines:
            lines[number - 1] = " " * len(line)
        blanked = _INLINE_CODE.sub(_blank, "\n".join(lines))
        return _COMMENT.sub(_blank, blanked)

    @cached_property
    def marked(self) -> str:
        """What stands out from the text: code, in blocks and between backticks, and bold words. One piece per line."""
        blocks = [line for _, line in self.code_lines]
        return "\n".join([*blocks, *(found[0] for mark in (_INLINE_CODE, _BOLD) for found in mark.finditer(self.text))])


def _blank(found: re.Match[str]) -> str:
    """A blank as long as what was found; a letter stands for it, since a sentence without its subject would read
    differently."""
    return re.sub(r"[^\n]", "¤", found[0])


def read_pages(root: Path) -> list[Page]:
    return [Page.read(path, root) for path in sorted((root / "book/src").glob("*.md"))]


def columns(line: str) -> int:
    """How wide a line is in a font of fixed width; an emoji takes two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)
