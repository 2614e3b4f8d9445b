"""The files of a timeline: a Chrome trace, and a page next to it."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tiny_llm_kit.cli.outputs import write_text
from tiny_llm_kit.cli.text import for_markup, harmless
from tiny_llm_kit.timeline.chrome_trace import as_trace, from_trace
from tiny_llm_kit.timeline.page import as_page
from tiny_llm_kit.timeline.recorder import Recorder
from tiny_llm_kit.timeline.run import Run


def page_beside(path: Path) -> Path:
    """Where the page of a trace is written."""
    return path.with_suffix(".html")


def write_trace(console: Console, path: Path, recorders: Sequence[Recorder]) -> None:
    """Writes what was recorded to `path` as a Chrome trace, and as a page next to it; says so."""
    write_runs(console, path, [recorder.run() for recorder in recorders])


def write_runs(console: Console, path: Path, runs: Sequence[Run]) -> None:
    """As `write_trace`."""
    document = as_trace(runs)
    events = ",\n".join(json.dumps(event, ensure_ascii=False) for event in document.pop("traceEvents"))
    rest = json.dumps(document, ensure_ascii=False)
    write_text(path, f'{{"traceEvents": [\n{events}\n],\n{rest[1:]}\n')
    _say(console, f"Written: {path} (open it at https://ui.perfetto.dev)")
    write_page(console, page_beside(path), runs)


def write_page(console: Console, path: Path, runs: Sequence[Run]) -> None:
    """The page alone."""
    write_text(path, for_markup(as_page(runs)))
    _say(console, f"Written: {path} (open it in a browser)")


def _say(console: Console, line: str) -> None:
    console.print(harmless(line), markup=False, highlight=False, soft_wrap=True)


def read_trace(path: Path) -> list[Run]:
    """The runs in a file that `write_trace` wrote.

    Raises:
        ValueError: if it cannot be read, or is something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r} ({error.strerror}): give a file that --trace wrote") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{str(path)!r} is not JSON: give a file that --trace wrote") from None
    try:
        return from_trace(document)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None
