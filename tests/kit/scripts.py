"""Scripts are no package, so a test imports one by its path."""

import importlib.util
from types import ModuleType

from tiny_llm_kit.course.course_map import find_root


def load_script(name: str) -> ModuleType:
    """A new module from `scripts/<name>.py`."""
    spec = importlib.util.spec_from_file_location(name, find_root() / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
