"""Prompts files: what they may hold, and one sentence for everything that they may not."""

import json
import os
import threading
from pathlib import Path

import pytest

from tiny_llm_kit.workloads import prompts
from tiny_llm_kit.workloads.prompts import DEFAULT_MAX_TOKENS, make_prompts, read_prompts


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(path: Path) -> list[str]:
    return [item.text for item in read_prompts(path)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hello\nYou there\n", ["Hello", "You there"]),
        ("Hello\r\nYou there\r\n", ["Hello", "You there"]),
        ("Hello\n\n   \nYou there", ["Hello", "You there"]),
        ("One\u2028line, \x0cstill\x85one\n", ["One\u2028line, \x0cstill\x85one"]),
        ("\ufeffHello\n", ["Hello"]),
        ("  indented\n", ["  indented"]),
    ],
    ids=["lines", "Windows", "blank lines", "separators within a line", "byte order mark", "spaces"],
)
def test_a_text_file_holds_a_prompt_per_line(tmp_path: Path, content: str, expected: list[str]) -> None:
    assert texts(write(tmp_path, "prompts.txt", content)) == expected


def test_a_json_file_holds_strings_and_objects(tmp_path: Path) -> None:
    entries = ["Hello", {"text": "a\nb", "max_tokens": 3, "title": "Two lines"}]
    plain, full = read_prompts(write(tmp_path, "prompts.JSON", "\ufeff" + json.dumps(entries)))
    assert (plain.text, plain.max_tokens, plain.label) == ("Hello", DEFAULT_MAX_TOKENS, "Hello")
    assert (full.text, full.max_tokens, full.label) == ("a\nb", 3, "Two lines")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not valid JSON"),
        ("", "not valid JSON"),
        ("{}", "holds a dict: write a list"),
        ("[]", "no prompt"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"text": "a", "max_tokens": ' + "9" * 5000 + "}]", "not valid JSON"),
        ('["hello", ""]', "prompt 2 is empty"),
        ("[3]", "prompt 1 has no text"),
        ('[{"max_tokens": 3}]', "prompt 1 has no text"),
        ('["a", {"text": "hi", "max_token": 3}]', "prompt 2 has the key 'max_token'"),
        ('[{"text": "hi", "max_tokens": 0}]', "max_tokens is 0"),
        ('[{"text": "hi", "max_tokens": true}]', "max_tokens is True"),
        ('[{"text": "hi", "max_tokens": 2.0}]', "max_tokens is 2.0"),
        ('[{"text": "hi", "max_tokens": "3"}]', "max_tokens is '3'"),
        ('[{"text": "hi", "title": 3}]', "title is 3"),
        ('["\\ud83d is half of a smile"]', r"prompt 1: its text holds '\\ud83d'"),
        (b'["\xff"]', r"not UTF-8 \(byte 2\)"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_bad_json_file_is_named_with_what_is_wrong(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"prompts\.json'.*{message}"):
        read_prompts(write(tmp_path, "prompts.json", content))


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_a_text_file_without_a_prompt(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match="holds no prompt"):
        read_prompts(write(tmp_path, "prompts.txt", content))


@pytest.mark.parametrize("name", ["missing.txt", ".", "n" * 300, "prompts.txt/below", "\udcff"], ids=str.__repr__)
def test_a_path_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, "prompts.txt", "Hello")
    with pytest.raises(ValueError, match="cannot read the prompts file"):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize("endless", [False, True])
def test_a_file_too_large_to_be_one_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endless: bool
) -> None:
    monkeypatch.setattr(prompts, "LARGEST_FILE", 2**10)
    with pytest.raises(ValueError, match="larger than"):
        read_prompts(Path("/dev/zero") if endless else write(tmp_path, "prompts.txt", "a" * 2**11))


def test_a_pipe_is_a_file(tmp_path: Path) -> None:
    """As in `--prompts <(grep why questions.txt)`."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("Hello\n",), daemon=True)
    writer.start()
    assert texts(pipe) == ["Hello"]
    writer.join()


def test_bytes_on_the_command_line_that_are_no_text() -> None:
    with pytest.raises(ValueError, match=r"--prompt: prompt 2: its text holds '\\udcff'"):
        make_prompts(["fine", os.fsdecode(b"caf\xff")], "--prompt")
