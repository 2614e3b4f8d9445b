"""Where a measuring program leaves what it found: for programs, for a README, and as a picture."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console


def write_results(
    console: Console, out: Path, name: str, document: dict[str, Any], text: str, draw: Callable[[Path], None] | None = None
) -> None:
    """Writes `document` as JSON, `text` as Markdown and what `draw` draws as PNG, all named after `name` and the time.

    A second run leaves what the first one wrote.
    """
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    stem.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(f"{text}\n", encoding="utf-8")
    if draw:
        draw(stem.with_suffix(".png"))
    console.print(f"Written: {stem}.json, .md and .png" if draw else f"Written: {stem}.json and .md")
