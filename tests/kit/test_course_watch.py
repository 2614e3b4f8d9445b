"""`pdm run course watch`: when it runs the tests, and how it ends."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.guided_course import NUMBERS, guide, write_guided_course
from kit.small_course import write

WATCH = """\
import signal, sys
from pathlib import Path
from tiny_llm_kit.cli.course import main, opened, watch
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background may ignore it
opened.find_root = lambda: Path(sys.argv[1])
watch.run_day = lambda opened, day: 1
main(["watch", "1", "1"])
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_guided_course(tmp_path)


def later(seconds: float, action: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


def test_saves_during_a_run_make_one_more_run_and_a_mistake_makes_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    good = (root / NUMBERS).read_text()

    def run_day(opened: object, day: object) -> int:
        runs.append(str(day))
        if len(runs) == 1:  # three saves while the tests run
            for number in range(3):
                write(root / NUMBERS, f"{good}\n# {number}\n")
                time.sleep(0.05)
        elif len(runs) == 2:
            write(root / "src/tiny_llm/notes.txt", "no code")
            write(root / NUMBERS, "def double(x:\n")
            later(1.0, lambda: write(root / NUMBERS, good))
        else:
            raise KeyboardInterrupt
        return 1

    monkeypatch.setattr("tiny_llm_kit.cli.course.watch.run_day", run_day)
    done = guide(root, monkeypatch, "watch", "1", "1")
    assert done.exit_code == 0, done.exception
    assert runs == ["Week 1 Day 1: Doubling"] * 3
    assert "✗ src/tiny_llm/numbers.py:1: SyntaxError" in done.output
    assert "changed: numbers.py" in done.output
    assert "notes.txt" not in done.output, "a file that is no code is nobody's business"
    assert done.output.endswith("No longer watching.\n")


def test_ctrl_c_ends_it_with_one_line(root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-c", WATCH, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("Watching")
        process.send_signal(signal.SIGINT)
        try:
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert output.split("\n") == ["", "No longer watching.", ""]
    assert errors == ""


def test_without_a_day_it_goes_on_when_one_is_done(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny_llm_kit.cli.course.watch.run_day", lambda opened, day: 0)
    days = iter([1, 2, None])

    def choose_day(opened: object, week: object, day: object) -> object:
        number = next(days)
        return opened.course.find_day(1, number) if number else None  # type: ignore[attr-defined]

    monkeypatch.setattr("tiny_llm_kit.cli.course.watch.choose_day", choose_day)
    later(0.6, lambda: write(root / "src/tiny_llm/new.py", "x = 1\n"))
    done = guide(root, monkeypatch, "watch")
    assert "On to Week 1 Day 2: Shapes. (Read book/src/shapes.md)" in done.output
    assert "Everything is done" in done.output


def test_a_day_that_does_not_exist_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guide(root, monkeypatch, "watch", "4", "4").exit_code == 2
