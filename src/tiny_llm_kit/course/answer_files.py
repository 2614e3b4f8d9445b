"""The answers in the files of a learner: which tasks' functions they are, whether they are written, and how to replace them.

Here a file is text and a part of it an answer: a function of a `.py` file, or a region of a `.metal` file. Nothing is written.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from tiny_llm_kit.course.course_map import LEARNER, REFERENCE, Course, Task
from tiny_llm_kit.course.functions import find_functions, find_names, split_lines
from tiny_llm_kit.course.grafting import graft
from tiny_llm_kit.course.kernel_regions import Marked, find_answers, is_stub, replace_regions, split_marked
from tiny_llm_kit.course.skeleton import stub_file

State = Literal["missing", "stub", "written"]


@dataclass(frozen=True)
class Part:
    """One function or region that belongs to the answer to `task`. `path`: of its file, from the package's root."""

    path: Path
    name: str
    task: Task


class AnswerFile(ABC):
    """One file as the reference has it: it knows the parts of its answers, and compares and grafts the texts of learners."""

    def __init__(self, root: Path, path: Path, course: Course) -> None:
        self.root = root
        self.path = path
        self.course = course
        self.shown = Path("src", LEARNER, path)
        self.marked = (root / "src" / REFERENCE / path).read_text(encoding="utf-8")

    @cached_property
    @abstractmethod
    def parts(self) -> list[Part]:
        """In the order of the file."""

    @cached_property
    @abstractmethod
    def answer(self) -> str:
        """The text with all answers, as a learner might have it."""

    @cached_property
    def stub(self) -> str:
        """The text of the skeleton."""
        return stub_file(self.root, self.path, self.course)

    @abstractmethod
    def states(self, text: str) -> dict[Part, State]:
        """What has become of each part in a learner's text. ValueError names the line that is no Python."""

    @abstractmethod
    def text_of(self, part: Part, text: str) -> str:
        """The lines of one part, "" where it is missing."""

    @abstractmethod
    def replace(self, text: str, parts: Collection[Part], source: str) -> str:
        """`text` with these parts as `source` has them. ValueError if they can't be put there."""

    def find_rebound(self, text: str) -> dict[Part, int]:
        """The parts to which a later statement gives another meaning, with its line: see `Function`."""
        return {}

    def differs(self, part: Part, text: str, other: str) -> bool:
        """Whether a part is not the same in two texts, spaces apart."""
        return self.text_of(part, text).split() != self.text_of(part, other).split()


class PythonFile(AnswerFile):
    """Its parts are functions."""

    @cached_property
    def parts(self) -> list[Part]:
        functions = find_functions(self.marked, Path("src", REFERENCE, self.path))
        return [Part(self.path, found.name, self.course.find_task(*found.task)) for found in functions if found.task]

    @cached_property
    def answer(self) -> str:
        return self.marked

    def states(self, text: str) -> dict[Part, State]:
        stubs = dict.fromkeys(find_names(text, self.shown), False)  # one that is imported or assigned is written elsewhere
        stubs |= dict.fromkeys((function.name for function in find_functions(text, self.shown)), True)
        for function in find_functions(text, self.shown):
            stubs[function.name] &= function.stub
        state_of: dict[bool | None, State] = {None: "missing", True: "stub", False: "written"}
        return {part: state_of[stubs.get(part.name)] for part in self.parts}

    def text_of(self, part: Part, text: str) -> str:
        lines = split_lines(text)
        found = [lines[f.start : f.end] for f in find_functions(text, self.shown) if f.name == part.name]
        return "".join(line for block in found for line in block)

    def replace(self, text: str, parts: Collection[Part], source: str) -> str:
        return graft(text, source, {part.name for part in parts}, self.shown)

    def find_rebound(self, text: str) -> dict[Part, int]:
        lines = {function.name: function.rebound for function in find_functions(text, self.shown)}
        return {part: line for part in self.parts if (line := lines.get(part.name, 0))}


class KernelFile(AnswerFile):
    """A `.metal` file: its parts are the regions between given lines."""

    @cached_property
    def parts(self) -> list[Part]:
        tasks = [self.course.find_task(*task) for task in self._marks.tasks]
        return [Part(self.path, f"the kernel's answer {number}", task) for number, task in enumerate(tasks, start=1)]

    @cached_property
    def _marks(self) -> Marked:
        return split_marked(self.marked)

    @cached_property
    def answer(self) -> str:
        return "".join(line for block in self._marks.blocks() for line in block)

    def states(self, text: str) -> dict[Part, State]:
        answers = find_answers(text, self._marks.given) or [split_lines(text)] * len(self.parts)
        states: dict[Part, State] = {}
        for part, task, lines in zip(self.parts, self._marks.tasks, answers, strict=True):
            states[part] = "stub" if is_stub(lines, task) else "written" if "".join(lines).strip() else "missing"
        return states

    def text_of(self, part: Part, text: str) -> str:
        """The whole text where the given lines have changed: then it is not clear what is the answer."""
        answers = find_answers(text, self._marks.given)
        return text if answers is None else "".join(answers[self.parts.index(part)])

    def replace(self, text: str, parts: Collection[Part], source: str) -> str:
        regions = find_answers(source, self._marks.given) or []
        new = {number: regions[number] for number, part in enumerate(self.parts) if part in parts}
        return replace_regions(text, self._marks, new, self.shown)


def find_files(root: Path, course: Course) -> Iterator[AnswerFile]:
    """The files of the reference, in the order of their names, those without a task, too. ValueError names a wrong mark."""
    reference = root / "src" / REFERENCE
    for path in sorted([*reference.rglob("*.py"), *reference.rglob("*.metal")]):
        kind = KernelFile if path.suffix == ".metal" else PythonFile
        yield kind(root, path.relative_to(reference), course)


def compare(file: AnswerFile, part: Part, text: str) -> list[str]:
    """A unified diff, whole, from a learner's answer to the reference's."""
    yours, ours = (_plain(file.text_of(part, version)) for version in (text, file.answer))
    names = (f"src/{LEARNER}/{file.path}", f"src/{REFERENCE}/{file.path}")
    return list(difflib.unified_diff(yours, ours, *names, n=len(yours) + len(ours), lineterm=""))


def _plain(text: str) -> list[str]:
    return [line.rstrip() for line in split_lines(text)]
