"""Files that programs write: probed first, never half there, never over somebody else's."""

import errno
import json
import os
import stat
import threading
from pathlib import Path

import click
import pytest
from rich.console import Console

from tiny_llm_kit.cli import outputs
from tiny_llm_kit.cli.outputs import check_writable, write_json, write_results


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ["new.json", "old.json", "not/there/yet.json", "link.json"])
def test_looking_changes_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.json").write_text("precious")
    (tmp_path / "link.json").symlink_to("old.json")
    before = everything(tmp_path)
    check_writable(tmp_path / name)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "Is a directory"),
        ("old.json/below.json", r"old\.json' is a file"),
        ("n" * 300, "File name too long"),
        ("not/there/" + "n" * 300, "File name too long"),
        ("n" * 300 + "/result.json", "File name too long"),
        ("/proc/result.json", "cannot write"),
    ],
    ids=lambda value: value[:20],
)
def test_a_place_where_nothing_can_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "old.json").write_text("precious")
    before = everything(tmp_path)
    with pytest.raises(ValueError, match=message):
        check_writable(tmp_path / name)
    assert everything(tmp_path) == before


def test_a_file_that_is_protected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.json").write_text("precious")
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: False)  # to root, all is allowed
    with pytest.raises(ValueError, match="Permission denied"):
        check_writable(tmp_path / "old.json")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("precious")
    (tmp_path / "link.json").symlink_to("old.json")
    write_json(tmp_path / "link.json", {"a": "é\udcff"})
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "old.json").read_text(encoding="utf-8")) == {"a": "é\udcff"}
    write_json(tmp_path / "new" / "folder" / "result.json", {})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "link.json", "new", "old.json", "result.json"]


def test_what_breaks_while_it_is_written_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("precious")

    def half(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outputs.write_file(tmp_path / "old.json", half)
    assert everything(tmp_path) == {str(tmp_path / "old.json"): b"precious"}


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As in `--json /dev/stdout`. Not tried on a real device: run by root, a wrong answer would destroy it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_json(pipe, {"a": 1})
    assert stat.S_ISFIFO(pipe.stat().st_mode), "a file was put in the place of the pipe"
    reader.join(10)
    assert json.loads(read[0]) == {"a": 1}


def test_results_survive_a_disk_that_is_full_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(outputs.tempfile, "tempdir", str(elsewhere))
    right = Path.write_text

    def full(path: Path, *arguments: str, **options: str) -> int:
        if out in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return right(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(click.ClickException, match="No space left") as error:
        write_json(out / "result.json", {"a": 1})
    (rescued,) = elsewhere.rglob("result.json")
    assert json.loads(rescued.read_text()) == {"a": 1}
    assert str(rescued) in error.value.message
    assert error.value.exit_code == 1


def test_a_second_run_leaves_what_the_first_wrote(tmp_path: Path) -> None:
    for number in range(3):  # within the same second, more or less
        write_results(Console(quiet=True), tmp_path, "bench", {"run": number}, f"run {number}", lambda path: path.touch())
    assert {json.loads(path.read_text())["run"] for path in tmp_path.glob("*.json")} == {0, 1, 2}
    assert {path.read_text() for path in tmp_path.glob("*.md")} == {"run 0\n", "run 1\n", "run 2\n"}
    assert len(list(tmp_path.glob("*.png"))) == 3
