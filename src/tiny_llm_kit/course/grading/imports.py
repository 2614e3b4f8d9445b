"""Notices imports of the reference, and other ways to get at it, and of libraries that would be the answer."""

import builtins
import importlib
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from types import FrameType, ModuleType
from typing import Any

from tiny_llm_kit.course.course_map import REFERENCE
from tiny_llm_kit.course.grading.findings import Findings
from tiny_llm_kit.course.grading.operators import Forbidden
from tiny_llm_kit.course.grading.owner import Owner, caller

_NAMING_FILES = (
    *("open", "os.chdir", "os.link", "os.listdir", "os.scandir", "os.symlink"),
    *("os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"),
)
_NOTICED = {
    "gc.get_objects": "looks through all objects of the process",
    "gc.get_referrers": "looks for who holds an object",
    "os.exec": "replaces the process by another",
    "os.fork": "forks",
    "os.kill": "sends signals to processes",
    "os.killpg": "sends signals to processes",
    "os.posix_spawn": "starts a process",
    "os.system": "starts a process",
    "subprocess.Popen": "starts a process",
    "sys.setprofile": "sets a profiler",
    "sys.settrace": "sets a tracer",
}


class ReferenceWatch(MetaPathFinder):
    """First in `sys.meta_path`: refuses the reference, which is not there anyway, and reports who asked for it."""

    def __init__(self, owner: Owner, findings: Findings) -> None:
        self._owner = owner
        self._findings = findings

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name.partition(".")[0] == REFERENCE:
            place = self._owner.find_place(caller())
            if place is not None:
                self._findings.add("unfair", f"imports {name}", place)
                raise ImportError(f"{place or 'a thread'} imports {name}: an answer stands on its own")

    def watch(self) -> None:
        sys.meta_path.insert(0, self)
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _NAMING_FILES and REFERENCE in str(arguments[:2]):
            place = self._owner.find_place(caller())
            if place is not None:
                self._findings.add("unfair", f"reads {REFERENCE} ({event})", place)
                raise PermissionError(f"{place} reads {REFERENCE}: an answer stands on its own")
        if event in _NOTICED:
            frame = caller()
            place = self._owner.find_place(frame)
            if place and not _imports_library(frame, self._owner):
                self._findings.add("notice", _NOTICED[event], place)


def watch_imports(rules: Iterable[Forbidden], owner: Owner, findings: Findings) -> None:
    """Notices imports of the modules that the rules name, also where the tests have imported them before."""
    reasons = {name: rule for rule in rules for name in rule.imports}

    def note(name: str, frame: FrameType | None) -> None:
        rule = reasons.get(name.partition(".")[0])
        if rule and frame and owner.owns(frame):
            findings.add("unfair", f"imports {name}: {rule.reason}", owner.find_place(frame) or "")

    import_before, import_module_before = builtins.__import__, importlib.import_module

    def watched(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> ModuleType:
        if level == 0:
            note(name, caller())
        return import_before(name, globals, locals, fromlist, level)

    def watched_module(name: str, package: str | None = None) -> ModuleType:
        note(name, caller())
        return import_module_before(name, package)

    builtins.__import__ = importlib.__import__ = watched
    importlib.import_module = watched_module


def _imports_library(frame: FrameType | None, owner: Owner) -> bool:
    """Whether a library is being imported: what it does then is not the doing of who imports it."""
    while frame and not owner.owns(frame):
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
