"""Says in one line what to do if the environment is incomplete; it imports only the standard library."""

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from tiny_llm_kit.course.course_map import find_root

NEEDED = ("click", "hypothesis", "libcst", "mlx_lm", "pytest", "rich", "ruff")


def require_packages() -> None:
    """Returns if every command can be imported; otherwise prints what to run, and exits with 2."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    try:
        importlib.import_module("mlx.core")  # may be installed without its backend, which only an import shows
    except ImportError:
        missing.append("mlx")
    if not missing:
        return
    print(f"tiny-llm: {sys.executable} lacks {', '.join(missing)}. Run: pdm run setup", file=sys.stderr)
    if other := _other_environment():
        print(
            f"pdm used the environment that is active, {other}, not this project's own. To get rid of that, "
            "run `deactivate` (or `conda deactivate`), or set PDM_IGNORE_ACTIVE_VENV=1; then: pdm run setup",
            file=sys.stderr,
        )
    raise SystemExit(2)


def _other_environment() -> Path | None:
    this = Path(sys.prefix).resolve()
    active = [Path(os.environ[name]).resolve() for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(name)]
    return this if this in active and this != find_root() / ".venv" else None
