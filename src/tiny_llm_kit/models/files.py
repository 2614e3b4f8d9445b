"""A model's files, looked at before a reader gets them: can they be read, and is their JSON an object?

The readers (MLX's, transformers') say little about a folder in place of a file, and wait forever for a pipe.
"""

import json
import stat
from pathlib import Path
from typing import Any


def check_file(file: Path) -> None:
    """Raise ValueError, which says why, unless `file` is a file that can be read and holds something."""
    try:
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{file} is a folder, where a file belongs: download the model again")
        if not stat.S_ISREG(mode):
            raise ValueError(f"{file} is not an ordinary file: download the model again")
        with file.open("rb") as opened:
            if not opened.read(1):
                raise ValueError(f"{file} is empty: download the model again")
    except FileNotFoundError:
        reason = "is a link to a file that is not there" if file.is_symlink() else "is missing"
        raise ValueError(f"{file} {reason}: download the model again") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises ValueError that names the file."""
    check_file(file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}): download the model again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got {content!r:.80}: download the model again")
    return content
