"""What the guide remembers of a learner between two commands: small JSON files in `.course`, written whole or not at all."""

import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = ".course"


def read_state(root: Path, name: str, warn: Callable[[str], None]) -> dict[str, Any]:
    """The table in `.course/name`; {} where there is none. A damaged file is set aside, and `warn` told of it."""
    path = root / FOLDER / name
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError("it holds no table")
    except FileNotFoundError:
        return {}
    except OSError as error:
        warn(f"{FOLDER}/{name} cannot be read ({error.strerror}), so what it holds is not known")
        return {}
    except ValueError as error:  # of JSON and of UTF-8, too
        warn(f"{FOLDER}/{name} is damaged ({error}); {_set_aside(path)}")
        return {}
    return table


def write_state(root: Path, name: str, table: dict[str, Any], warn: Callable[[str], None]) -> None:
    """Writes `.course/name` so that another command, or one after a crash, finds the old table or the new one."""
    folder = root / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(table, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        warn(f"{FOLDER}/{name} cannot be written ({error.strerror}), so this will not be remembered")


def _set_aside(path: Path) -> str:
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    target = next(name for name in names if not name.exists())
    try:
        path.rename(target)
    except OSError as error:
        return f"it cannot be moved aside either ({error.strerror})"
    return f"it was moved to {FOLDER}/{target.name}, and a new one begins"
