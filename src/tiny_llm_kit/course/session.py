"""pytest in a process of its own that notes how far it came: `python -m tiny_llm_kit.course.session NOTE [pytest arguments]`.

The exit code of a process is no proof that the tests passed: an answer that calls `os._exit(0)` ends it with 0, too. So
the end of the session is written to a file.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_ENDED = "ended with "


class Notes:
    """A plugin of pytest that writes down the test that begins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.path.write_text(nodeid, encoding="utf-8")


@dataclass(frozen=True)
class Ending:
    """pytest's `exit_code`, or None if the process ended before the session: in the test `last`, or "" before any."""

    exit_code: int | None
    last: str

    def explain(self) -> str:
        """A sentence about a session that did not end."""
        where = f"in {self.last}" if self.last else "before the first test"
        reason = "Does something call os._exit, crash, or never end?"
        return f"The process of the tests ended {where}, so the tests are not over. {reason}"


def command(note: Path) -> list[str]:
    """The beginning of a command that runs pytest; its arguments follow."""
    return [sys.executable, "-m", "tiny_llm_kit.course.session", str(note)]


def environment(root: Path, *more_paths: Path) -> dict[str, str]:
    """The environment for it: this one, with the packages in `more_paths` and in the project at `root`."""
    paths = [*map(str, more_paths), str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def write_ending(note: Path, exit_code: int) -> None:
    note.write_text(f"{_ENDED}{exit_code}", encoding="utf-8")


def read_ending(note: Path) -> Ending:
    text = note.read_text(encoding="utf-8") if note.exists() else ""
    if text.startswith(_ENDED):
        return Ending(int(text.removeprefix(_ENDED)), "")
    return Ending(None, text)


def main(note: Path, arguments: list[str]) -> int:
    import pytest  # takes a while, in which Ctrl-C may come

    code = int(pytest.main(arguments, plugins=[Notes(note)]))
    write_ending(note, code)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
    except KeyboardInterrupt:  # pytest handles it once it runs
        sys.exit(130)
