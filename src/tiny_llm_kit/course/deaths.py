"""How a process of tests died, and where: what its exit code and its last words say."""

import re
import signal
from pathlib import Path


def describe_end(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name if -exit_code in list(signal.Signals) else f"signal {-exit_code}"
        more = ": was there enough memory?" if name == "SIGKILL" else ""
        return f"the process crashed ({name}){more}"
    return f"the process ended with exit code {exit_code}: does something call os._exit?"


def find_line(output: str, root: Path) -> str:
    """The line of the answer that Python names when a signal ends it: `name (file:line)`; "" if it has named none."""
    place = rf'File "{re.escape(str(root))}/(src/(?!tiny_llm_kit|metal_anywhere)[^"]+)", line (\d+) in (\w+)'
    found = re.search(place, output)
    return f"{found[3]} ({found[1]}:{found[2]})" if found else ""
