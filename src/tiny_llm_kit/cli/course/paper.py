"""What the guide prints on: a console that knows its width, and plain signs where the terminal has no others."""

import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tiny_llm_kit.cli.text import harmless

NARROWEST, WIDEST = 60, 100

_PLAIN = str.maketrans(
    {
        "■": "#", "·": ".", "…": "...", "—": "-", "–": "-", "−": "-", "√": "sqrt ", "≤": "<=", "≥": ">=", "×": "x", "→": "->",
        "✓": "+", "✗": "x", "ᵀ": "^T", "“": '"', "”": '"', "’": "'", "≈": "~", "∞": "inf", "½": "1/2", "²": "^2",
    }
)  # fmt: skip


class Paper:
    """Lines, labelled lines and tables. Text of others is never taken for markup, and cannot upset the terminal."""

    def __init__(self) -> None:
        console = Console(highlight=False, markup=False, emoji=False)
        width = min(max(console.width, NARROWEST), WIDEST)
        self.console = Console(highlight=False, markup=False, emoji=False, width=width)
        self.unicode = (self.console.encoding or "").lower().replace("-", "").startswith("utf")

    @property
    def is_terminal(self) -> bool:
        return self.console.is_terminal

    def plain(self, text: str) -> str:
        """The text as this terminal can show it."""
        text = harmless(text)
        if self.unicode:
            return text
        encoding = self.console.encoding or "ascii"
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)

    def line(self, text: str = "", style: str = "", indent: int = 0) -> None:
        """A line, broken between words and indented. What follows a ✗ or ✓ stays to the right of it."""
        if text[:2] not in ("✗ ", "✓ "):
            self.show(self._text(text, style), indent)
            return
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(self._text(text[0], style), self._text(text[2:], style))
        self.show(table, indent)

    def show(self, thing: RenderableType, indent: int = 0) -> None:
        padded = Padding(thing, (0, 0, 0, indent)) if indent else thing
        if self.is_terminal:
            self.console.print(padded)
            return
        with self.console.capture() as captured:
            self.console.print(padded)
        print(*(line.rstrip() for line in captured.get().splitlines()), sep="\n", flush=True)

    def labelled(self, rows: Iterable[tuple[str, str | tuple[str, ...]]], indent: int) -> None:
        """Labels, each with its text next to it; the lines of a picture stay as they are. Rows without a text are left out."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for label, text in rows:
            if not text:
                continue
            if isinstance(text, tuple):
                table.add_row(self._text(label, "dim"), self._text("\n".join(text), "cyan"))
            else:
                table.add_row(self._text(label, "dim"), self._text(text))
        if table.row_count:
            self.show(table, indent)

    def _text(self, text: str, style: str = "") -> Text:
        return Text(self.plain(text), style=style)


def warn(text: str) -> None:
    """To stderr, out of the way of a program that reads the output."""
    encoding = sys.stderr.encoding or "ascii"
    print(f"course: {harmless(text)}".encode(encoding, "replace").decode(encoding), file=sys.stderr)
