"""Prompts from a file that a user wrote. Knows no tokens and no model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """What a user asks, and how long the answer may be; `max_tokens` None leaves that to the program."""

    text: str
    max_tokens: int | None = None


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts from `.json` (a list of strings, or of {"text": …, "max_tokens": …}) or from text, one a line.

    Raises:
        ValueError: if there is no such file, it can't be understood, holds no prompt, or an empty one; it names which.
    """
    if not path.is_file():
        raise ValueError(f"there is no prompts file {str(path)!r}: give a .json file, or a text file with a prompt a line")
    content = path.read_text(encoding="utf-8")
    entries = _json_entries(path, content) if path.suffix == ".json" else content.splitlines()
    if not entries:
        raise ValueError(f"{path} holds no prompt: write at least one")
    return make_prompts(entries, str(path))


def make_prompts(entries: Sequence[Any], source: str) -> list[Prompt]:
    """Prompts from strings or {"text", "max_tokens"}; a ValueError names `source` and the number of the one at fault."""
    return [_prompt(entry, f"{source}: prompt {number}") for number, entry in enumerate(entries, start=1)]


def _json_entries(path: Path, content: str) -> list[Any]:
    try:
        entries = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds a {type(entries).__name__}: write a list of prompts")
    return entries


def _prompt(entry: Any, where: str) -> Prompt:
    fields = entry if isinstance(entry, dict) else {"text": entry}
    text, max_tokens = fields.get("text"), fields.get("max_tokens")
    if not isinstance(text, str):
        raise ValueError(f'{where} has no text: write a string, or {{"text": "…", "max_tokens": 64}}')
    if not text.strip():
        raise ValueError(f"{where} is empty: write something to answer, or remove it")
    if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
        raise ValueError(f"{where}: max_tokens is {max_tokens!r}, but must be a whole number from 1 on")
    return Prompt(text, max_tokens)
