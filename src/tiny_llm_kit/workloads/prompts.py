"""Prompts that a user wrote, in a file or on the command line. Knows no tokens and no model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_llm_kit.workloads.items import WorkItem

DEFAULT_MAX_TOKENS = 64
LARGEST_FILE = 2**26
"""Bytes. Prompts files are read whole; more than 64 MiB of prompts is probably the wrong file."""

KEYS = ("text", "max_tokens", "title")


def read_prompts(path: Path) -> list[WorkItem]:
    """Read prompts from `.json` (a list of strings, or of {"text", "max_tokens", "title"}) or from text, one per line.

    In a text file, blank lines are left out.

    Raises:
        ValueError: if the file cannot be read or understood, or holds no prompt, or a bad one; it names which.
    """
    content = _read(path)
    if path.suffix.lower() == ".json":
        entries = _json_entries(path, content)
    else:
        # Not `splitlines`, which would also cut at characters that people use within a line, such as U+2028.
        entries = [line for line in (line.removesuffix("\r") for line in content.split("\n")) if line.strip()]
    if not entries:
        raise ValueError(f"{str(path)!r} holds no prompt: write at least one")
    return make_prompts(entries, repr(str(path)))


def make_prompts(entries: Sequence[Any], source: str) -> list[WorkItem]:
    """Items from strings or {"text", "max_tokens", "title"}, without tokens yet.

    Raises:
        ValueError: naming `source`, the number of the prompt at fault, and what is wrong with it.
    """
    return [_prompt(entry, f"{source}: prompt {number}") for number, entry in enumerate(entries, start=1)]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"cannot read the prompts file {str(path)!r} ({reason}): give a .json file, or a text file with one prompt per line"
        ) from None
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{str(path)!r} is larger than {LARGEST_FILE >> 20} MiB: is it a prompts file? Split it if so")
    try:
        return content.decode("utf-8-sig")  # without the mark that some editors put at the beginning
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is not UTF-8 (byte {error.start}): save it as UTF-8 text") from None


def _json_entries(path: Path, content: str) -> list[Any]:
    try:
        entries = json.loads(content)
    except RecursionError:
        raise ValueError(f"{str(path)!r} is nested too deeply: write a list of prompts") from None
    except ValueError as error:  # a JSONDecodeError, or a number of thousands of digits
        raise ValueError(f"{str(path)!r} is not valid JSON: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{str(path)!r} holds a {type(entries).__name__}: write a list of prompts")
    return entries


def _prompt(entry: Any, where: str) -> WorkItem:
    fields = entry if isinstance(entry, dict) else {"text": entry}
    if unknown := [key for key in fields if key not in KEYS]:
        raise ValueError(f"{where} has the key {unknown[0]!r}, which means nothing here: use {', '.join(KEYS)}")
    text, title = fields.get("text"), fields.get("title", "")
    max_tokens = fields.get("max_tokens", DEFAULT_MAX_TOKENS)
    if not isinstance(text, str):
        raise ValueError(f'{where} has no text: write a string, or {{"text": "…", "max_tokens": 64}}')
    if not text.strip():
        raise ValueError(f"{where} is empty: write something to answer, or remove it")
    if not isinstance(title, str):
        raise ValueError(f"{where}: title is {title!r}, but must be a string")
    if type(max_tokens) is not int or max_tokens < 1:  # True is an int, too
        raise ValueError(f"{where}: max_tokens is {max_tokens!r}, but must be a whole number, 1 or more")
    for name, value in (("text", text), ("title", title)):
        if stray := next((character for character in value if "\ud800" <= character <= "\udfff"), None):
            raise ValueError(f"{where}: its {name} holds {stray!r}, half of a character: write it as UTF-8")
    return WorkItem((), max_tokens, text=text, title=title)
