"""Traces of requests in the layout of the public Azure LLM inference traces: when, and how many tokens, but not which.

These are at github.com/Azure/AzurePublicDataset; "Splitwise" (ISCA 2024) and "DynamoLLM" (HPCA 2025) describe them. A file has
a header and a line per request: `TIMESTAMP,ContextTokens,GeneratedTokens`. A timestamp is like 2023-11-16 18:15:46.6805900, and
may end with an offset from UTC.
"""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.streams import unlike

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
LONGEST = 10_000_000
"""Tokens. With longer prompts, the wrong column was probably given."""


class AzureTrace:
    """The requests of such a file, line by line, so it may be of any length; they arrive from second 0 on.

    Lines whose answer has no token are left out: these requests failed. `left_out` counts them as they are passed.

    Args:
        path: of the file, which is opened when the first request is asked for.
    Raises:
        ValueError: when it comes to a line that cannot be understood, or is earlier than the one before; it names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out = 0

    def __iter__(self) -> Iterator[WorkItem]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield from self._read(file)
        except OSError as error:
            raise ValueError(f"cannot read the trace {str(self.path)!r} ({error.strerror}): give a .csv file") from None
        except csv.Error as error:
            raise ValueError(f"{str(self.path)!r} is not CSV ({error}): give a trace of {','.join(COLUMNS)}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the trace {str(self.path)!r} is not UTF-8 text: give a .csv file") from None

    def _read(self, file: TextIO) -> Iterator[WorkItem]:
        lines = csv.reader(file)
        header = [name.strip() for name in next(lines, [])]
        if missing := [name for name in COLUMNS if name not in header]:
            raise ValueError(f"{str(self.path)!r} has no column {missing[0]}: its first line must name {','.join(COLUMNS)}")
        places = [header.index(name) for name in COLUMNS]
        start, before, number = None, 0, 0
        for line in lines:
            if not line:
                continue
            where = f"{str(self.path)!r}, line {lines.line_num}"
            if len(line) != len(header):
                raise ValueError(f"{where}: {len(line)} values, and the first line names {len(header)} columns")
            moment, prompt, answer = (line[place].strip() for place in places)
            time = _nanoseconds(moment, where)
            start = time if start is None else start
            if time - start < before:
                raise ValueError(f"{where}: {moment} is earlier than the line before: sort the file by TIMESTAMP")
            before = time - start
            tokens, max_tokens = _count(prompt, COLUMNS[1], 1, where), _count(answer, COLUMNS[2], 0, where)
            if max_tokens:
                yield WorkItem(unlike(number, tokens), max_tokens, before / 1e9)
                number += 1
            else:
                self.left_out += 1


def _nanoseconds(text: str, where: str) -> int:
    """Since 1970. A `datetime` does not take as many digits as these timestamps have."""
    whole, point, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        if point and not digits:
            raise ValueError
        moment = datetime.fromisoformat(whole + rest[len(digits) :])
    except ValueError:
        raise ValueError(f"{where}: {_shortened(text)} is not a time such as 2023-11-16 18:15:46.6805900") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + int(digits[:9].ljust(9, "0"))


def _count(text: str, name: str, least: int, where: str) -> int:
    known = text.isascii() and text.isdigit() and len(text.lstrip("0")) <= len(str(LONGEST))
    if not known or not least <= int(text) <= LONGEST:
        raise ValueError(f"{where}: {name} is {_shortened(text)}: it must be a whole number from {least} to {LONGEST}")
    return int(text)


def _shortened(text: str) -> str:
    """A value for a message: a whole file may be between two commas."""
    return repr(text) if len(text) <= 60 else f"{text[:60]!r} …"
