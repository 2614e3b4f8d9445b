"""What commands measured, as `book/figures` keeps it."""

import json
from pathlib import Path
from typing import Any


def load(root: Path, name: str) -> dict[str, Any]:
    """The measurement `name`. Raises ValueError if it is missing or no JSON object."""
    path = root / "book" / "figures" / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); copy there what the command wrote to results/") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, found a {type(found).__name__}")
    return found
