"""The answers in the files of a learner: which tasks' functions they are, whether they are written, and how to replace them.

Here a file is text and a part of it an answer: a function of a `.py` file, or a region of a `.metal` file. Nothing is written.
"""

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from tiny_llm_kit.course import kernel_regions
from tiny_llm_kit.course.course_map import LEARNER, REFERENCE, Course, Task
from tiny_llm_kit.course.functions import find_functions, split_lines
from tiny_llm_kit.course.grafting import graft
from tiny_llm_kit.course.skeleton import stub_file

State = Literal["missing", "stub", "written"]
KERNEL = "the kernel"


@dataclass(frozen=True)
class Part:
    """One function or region that belongs to the answer to `task`. `path`: of its file, from the package's root."""

    path: Path
    name: str
    task: Task


class AnswerFile:
    """One file as the reference has it: it knows the parts of its answers, and compares and grafts the texts of learners."""

    def __init__(self, root: Path, path: Path, course: Course) -> None:
        self.root = root
        self.path = path
        self.course = course
        self.shown = Path("src", LEARNER, path)
        self.marked = (root / "src" / REFERENCE / path).read_text(encoding="utf-8")

    @property
    def is_kernel(self) -> bool:
        return self.path.suffix == ".metal"

    @cached_property
    def parts(self) -> list[Part]:
        """In the order of the file."""
        if self.is_kernel:
            tasks = kernel_regions.split_marked(self.marked)[2]
            names = [KERNEL, *(f"{KERNEL}, part {number}" for number in range(2, len(tasks) + 1))]
            return [Part(self.path, name, self.course.find_task(*task)) for name, task in zip(names, tasks, strict=False)]
        functions = find_functions(self.marked, Path("src", REFERENCE, self.path))
        return [Part(self.path, found.name, self.course.find_task(*found.task)) for found in functions if found.task]

    @cached_property
    def answer(self) -> str:
        """The text with all answers."""
        if not self.is_kernel:
            return self.marked
        given, answers, _ = kernel_regions.split_marked(self.marked)
        return "".join(line for pair in zip(given, [*answers, []], strict=True) for part in pair for line in part)

    @cached_property
    def stub(self) -> str:
        """The text of the skeleton."""
        return stub_file(self.root, self.path, self.course)

    def states(self, text: str) -> dict[Part, State]:
        """What has become of each part in a learner's text. ValueError names the line that is no Python."""
        if self.is_kernel:
            answers = kernel_regions.find_answers(text, kernel_regions.split_marked(self.marked)[0])
            regions = answers or [split_lines(text)] * len(self.parts)
            return {part: _kernel_state(lines, part.task) for part, lines in zip(self.parts, regions, strict=True)}
        stubs: dict[str, bool] = {}
        for function in find_functions(text, self.shown):
            stubs[function.name] = function.stub and stubs.get(function.name, True)
        return {part: "missing" if part.name not in stubs else "stub" if stubs[part.name] else "written" for part in self.parts}

    def text_of(self, part: Part, text: str) -> str:
        """The lines of one part, "" where it is missing; all of a kernel's file if its given lines were changed."""
        if self.is_kernel:
            answers = kernel_regions.find_answers(text, kernel_regions.split_marked(self.marked)[0])
            return text if answers is None else "".join(answers[self.parts.index(part)])
        lines = split_lines(text)
        found = [lines[f.start : f.end] for f in find_functions(text, self.shown) if f.name == part.name]
        return "".join(line for block in found for line in block)

    def differs(self, part: Part, text: str, other: str) -> bool:
        """Whether a part is not the same in two texts, spaces apart."""
        return self.text_of(part, text).split() != self.text_of(part, other).split()

    def replace(self, text: str, parts: Collection[Part], source: str) -> str:
        """`text` with these parts as `source` has them. ValueError if they can't be put there."""
        if not self.is_kernel:
            return graft(text, source, {part.name for part in parts}, self.shown)
        regions = kernel_regions.find_answers(source, kernel_regions.split_marked(self.marked)[0]) or []
        new = {number: regions[number] for number, part in enumerate(self.parts) if part in parts}
        return kernel_regions.replace_regions(text, self.marked, new, self.shown)


def _kernel_state(lines: list[str], task: Task) -> State:
    if kernel_regions.is_stub(lines, (task.week, task.day, task.number)):
        return "stub"
    return "written" if any(line.strip() for line in lines) else "missing"


def find_files(root: Path, course: Course) -> Iterator[AnswerFile]:
    """The files of the reference, in the order of their names, those without a task, too. ValueError names a wrong mark."""
    reference = root / "src" / REFERENCE
    for path in sorted([*reference.rglob("*.py"), *reference.rglob("*.metal")]):
        yield AnswerFile(root, path.relative_to(reference), course)


def compare(file: AnswerFile, part: Part, text: str) -> list[str]:
    """A unified diff, whole, from a learner's answer to the reference's."""
    yours, ours = (_plain(file.text_of(part, version)) for version in (text, file.answer))
    names = (f"src/{LEARNER}/{file.path}", f"src/{REFERENCE}/{file.path}")
    return list(difflib.unified_diff(yours, ours, *names, n=len(yours) + len(ours), lineterm=""))


def _plain(text: str) -> list[str]:
    return [line.rstrip() for line in split_lines(text)]
