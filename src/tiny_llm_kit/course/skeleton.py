"""Makes the learner's package from the reference: the same files, without the answers, which are marked `@task`.

It keeps what is already in the learner's package safe, and knows nothing about what the answers compute.
"""

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from tiny_llm_kit.course.course_map import LEARNER, REFERENCE, Course, Task
from tiny_llm_kit.course.marks import find_mark, is_mark, read_mark
from tiny_llm_kit.course.metal_regions import remove_regions, stub_message

DRIFT = (
    f"src/{LEARNER} is not what `pdm run skeleton` makes of src/{REFERENCE}. If you changed the reference, run that "
    f"and commit what it writes. If you are working through the course, this is as it should be: the check is meant "
    f"for those who change the course."
)


class _RemoveAnswers(cst.CSTTransformer):
    def __init__(self, course: Course, path: Path, module: cst.Module) -> None:
        super().__init__()
        self.course = course
        self.path = path
        self.module = module
        self.found: set[Task] = set()

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        task = self._task_of(original_node)
        if task is None:
            return updated_node
        self.found.add(task)
        docstring = _docstring(updated_node)
        body = [*docstring, _raise_line(stub_message(task, self.course))]
        header = updated_node.body.header if isinstance(updated_node.body, cst.IndentedBlock) else cst.TrailingWhitespace()
        return updated_node.with_changes(body=cst.IndentedBlock(body, header=header))

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> bool:
        return False  # no function is defined in it, and most of a file is in such lines

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        for decorator in node.decorators:
            if is_mark(decorator.decorator):
                raise self._error(decorator, f"@task on the class {node.name.value}: mark its methods instead")

    def _task_of(self, function: cst.FunctionDef) -> Task | None:
        mark = find_mark(function)
        if mark is None:
            return None
        try:
            return read_mark(mark, self.course)
        except ValueError as error:
            raise self._error(mark, str(error)) from None

    def _error(self, node: cst.CSTNode, message: str) -> ValueError:
        """Only here are positions looked for: it takes longer than all the rest."""
        positions = MetadataWrapper(self.module, unsafe_skip_copy=True).resolve(PositionProvider)
        return ValueError(f"{self.path}:{positions[node].start.line}: {message}")


def _docstring(function: cst.FunctionDef) -> list[cst.BaseStatement]:
    match function.body:
        case cst.IndentedBlock(body=[cst.SimpleStatementLine(body=[cst.Expr(value=cst.SimpleString())]) as line, *_]):
            return [line]
    return []


def _raise_line(message: str) -> cst.SimpleStatementLine:
    return cst.ensure_type(cst.parse_statement(f"raise NotImplementedError({_quoted(message)})"), cst.SimpleStatementLine)


def _quoted(message: str) -> str:
    escaped = message.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@dataclass(frozen=True)
class Skeleton:
    """The learner's package as it should be: `files` by path from the package's root, and the tasks marked in it."""

    files: dict[Path, bytes]
    tasks: set[Task]


def remove_answers(source: str, path: Path, course: Course) -> tuple[str, set[Task]]:
    """`source` without the bodies of its marked functions (`.metal`: its marked regions), and the tasks it marks.

    ValueError names `path` and the line of a mark that `course` does not know, or that is not where a mark can be.
    """
    for number, line in enumerate(source.splitlines(), start=1):
        if REFERENCE in line:
            raise ValueError(f"{path}:{number}: names {REFERENCE}; learners get the same text, so import relatively")
    if path.suffix == ".metal":
        return remove_regions(source, path, course)
    module = cst.parse_module(source)
    transformer = _RemoveAnswers(course, path, module)
    return module.visit(transformer).code, transformer.found


def generate(root: Path, course: Course) -> Skeleton:
    """The skeleton of the reference in `root`; ValueError as in `remove_answers`. Writes nothing."""
    reference = root / "src" / REFERENCE
    files: dict[Path, bytes] = {}
    tasks: set[Task] = set()
    for path in _files_in(reference):
        content = path.read_bytes()
        if path.suffix in (".py", ".metal"):
            content, found = _without_answers(path, root, course)
            tasks |= found
        files[path.relative_to(reference)] = content
    return Skeleton(files, tasks)


def stub_file(root: Path, path: Path, course: Course) -> str:
    """One file of the skeleton; `path` is from the package's root."""
    return _without_answers(root / "src" / REFERENCE / path, root, course)[0].decode()


def _without_answers(path: Path, root: Path, course: Course) -> tuple[bytes, set[Task]]:
    content = path.read_bytes()
    text, found = remove_answers(content.decode(), path.relative_to(root), course)
    if found:
        content = _formatted(text, path, root) if path.suffix == ".py" else text.encode()
    return content, found


def _formatted(text: str, path: Path, root: Path) -> bytes:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    return subprocess.run(command, input=text.encode(), cwd=root, check=True, stdout=subprocess.PIPE).stdout


def _files_in(package: Path) -> Iterator[Path]:
    return (path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def find_drift(root: Path, skeleton: Skeleton) -> dict[Path, str]:
    """The files, by path from the root of the package, in which the learner's package is not the skeleton, and how."""
    package = root / "src" / LEARNER
    present = {path.relative_to(package) for path in _files_in(package)}
    drift = dict.fromkeys(skeleton.files.keys() - present, "missing")
    drift |= dict.fromkeys(present - skeleton.files.keys(), "stale")
    for path in present & skeleton.files.keys():
        if (package / path).read_bytes() != skeleton.files[path]:
            drift[path] = "differs"
    return dict(sorted(drift.items()))


def find_work(root: Path, skeleton: Skeleton) -> list[Path]:
    """The files that hold a learner's work: neither what would be generated nor what the last commit holds."""
    package = root / "src" / LEARNER
    changed = [path for path, how in find_drift(root, skeleton).items() if how != "missing"]
    return [path for path in changed if (package / path).read_bytes() != _committed(package / path)]


def _committed(path: Path) -> bytes | None:
    command = ["git", "-C", str(path.parent), "show", f"HEAD:./{path.name}"]
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, no commit, or a file that no commit knows
        return None


def write(root: Path, skeleton: Skeleton) -> None:
    """Makes the learner's package equal to the skeleton, removing files that are not part of it."""
    package = root / "src" / LEARNER
    for path, how in find_drift(root, skeleton).items():
        if how == "stale":
            (package / path).unlink()
        else:
            (package / path).parent.mkdir(parents=True, exist_ok=True)
            (package / path).write_bytes(skeleton.files[path])


def back_up(root: Path) -> Path:
    """Copies the learner's package next to itself, under the first free name, which it returns."""
    package = root / "src" / LEARNER
    names = (package.with_name(f"{LEARNER}.bak-{number}") for number in itertools.count(1))
    backup = next(path for path in names if not path.exists())
    shutil.copytree(package, backup, ignore=shutil.ignore_patterns("__pycache__"))
    return backup
