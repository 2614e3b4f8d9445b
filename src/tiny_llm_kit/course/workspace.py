"""What `start` and `reset` do to a learner's package: plans, made from texts alone, and then carried out after a backup."""

import codecs
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiny_llm_kit.course import backups
from tiny_llm_kit.course.answer_files import AnswerFile, Part, find_files
from tiny_llm_kit.course.backups import PACKAGE, Backup
from tiny_llm_kit.course.course_map import Course, Day, Task
from tiny_llm_kit.course.functions import decode
from tiny_llm_kit.course.swap import Change, alone, check_writable, read_or_none, swap


@dataclass
class Plan:
    """`changes` by path from the project's root, the parts that are put in place, and those that stay as they are.

    `whole`: files that are replaced with all that is in them, as their parts can't be told apart. `days`: how many there are.
    `rebound`: the lines that give functions another meaning than that of what is put in place, as "file:line: function".
    """

    changes: dict[Path, Change] = field(default_factory=dict)
    placed: list[Part] = field(default_factory=list)
    kept: list[Part] = field(default_factory=list)
    whole: list[Path] = field(default_factory=list)
    rebound: list[str] = field(default_factory=list)
    days: int = 0


def plan_start(root: Path, course: Course, day: Day, replace: bool) -> Plan:
    """The reference's answers for all days before `day`, where a learner has written none; with `replace` everywhere.

    Files that are gone come back, those of later days as stubs.
    `kept` holds what the learner has written of these days and is not the reference's. ValueError names the file and line that
    stand in the way.
    """
    days = {(found.week, found.number) for found in course.days[: course.days.index(day)]}
    plan = Plan(days=len(days))
    for file in find_files(root, course):
        wanted = [part for part in file.parts if (part.task.week, part.task.day) in days]
        if wanted:
            _plan_filling(file, wanted, replace, plan)
        elif days and _read(file) is None:  # what is given has to be there, or nothing can be imported
            _add_change(plan, file, file.stub)
    return plan


def _plan_filling(file: AnswerFile, wanted: list[Part], replace: bool, plan: Plan) -> None:
    old = _read(file)
    text = file.stub if old is None else old
    states = file.states(text)
    written = [part for part in wanted if states[part] == "written" and file.differs(part, text, file.answer)]
    chosen = [part for part in wanted if states[part] != "written" or (replace and part in written)]
    plan.kept += [part for part in written if part not in chosen]
    plan.placed += chosen
    if chosen:
        text = file.replace(text, chosen, file.answer)
        _add_change(plan, file, text)
        _add_rebound(plan, file, chosen, text)


def plan_reset(root: Path, course: Course, day: Day, task: Task | None) -> Plan:
    """The stubs of a day, or of one of its tasks. ValueError as in `plan_start`.

    A file whose answers all belong to them is replaced whole if its parts can't be told apart.
    """
    plan = Plan()
    for file in find_files(root, course):
        wanted = [part for part in file.parts if part.task == task or (task is None and part.task in day.tasks)]
        if wanted:
            _plan_reset(file, wanted, plan)
    return plan


def _plan_reset(file: AnswerFile, wanted: list[Part], plan: Plan) -> None:
    old = _read(file)
    try:
        text = file.stub if old is None else old
        chosen = [part for part in wanted if old is None or file.differs(part, old, file.stub)]
        text = file.replace(text, chosen, file.stub)
    except ValueError as error:
        if len(wanted) < len(file.parts):
            raise ValueError(f"{error}. Or reset all tasks of that file at once, and it is made again") from None
        chosen, text = wanted, file.stub
        plan.whole.append(file.shown)
    plan.placed += chosen
    if chosen:
        _add_change(plan, file, text)
    _add_rebound(plan, file, wanted, text)


def _add_rebound(plan: Plan, file: AnswerFile, parts: Collection[Part], text: str) -> None:
    found = file.find_rebound(text).items()
    plan.rebound += [f"{file.shown}:{line}: {part.name}" for part, line in found if part in parts]


def _read(file: AnswerFile) -> str | None:
    """The learner's text, None where there is no file."""
    content = read_or_none(file.root / PACKAGE / file.path)
    return None if content is None else decode(content, file.shown)


def read_answer(file: AnswerFile) -> str:
    """The learner's text, or the stub where there is no file. ValueError if it is not UTF-8."""
    text = _read(file)
    return file.stub if text is None else text


def _add_change(plan: Plan, file: AnswerFile, text: str) -> None:
    before = read_or_none(file.root / PACKAGE / file.path)
    mark = codecs.BOM_UTF8 if before and before.startswith(codecs.BOM_UTF8) else b""
    after = mark + text.encode()
    if after != before:
        plan.changes[PACKAGE / file.path] = Change(before, after)


def plan_restore(root: Path, backup: Backup, keep: Callable[[Path], bool]) -> dict[Path, Change]:
    """What makes the files be what they were; those of the package that came later go. `keep`: paths to leave alone.

    What a link led to that came later is elsewhere, and stays.
    """
    wanted = {path: backup.read(path) for path in backup.files}
    home = (root / PACKAGE).resolve()
    present_files = [path for path in backups.files_of_learner(root) if (root / path).resolve().is_relative_to(home)]
    later = [path for path in present_files if path not in wanted]
    contents: dict[Path, bytes | None] = {**wanted, **dict.fromkeys([*backup.absent, *later])}
    present = {path: read_or_none(root / path) for path in contents}
    return {
        path: Change(present[path], content, backup.mode(path) if path in wanted else None)
        for path, content in contents.items()
        if present[path] != content and not keep(path)
    }


def carry_out(root: Path, changes: Mapping[Path, Change], command: str, versions: tuple[str, ...] = ()) -> Backup:
    """Backs up the package and the files to be changed, then changes them. ValueError, OSError: nothing has changed."""
    check_writable(root, changes)
    with alone(root):
        backup = backups.create(root, command, changes, versions)
        swap(root, changes, backup)
    return backup
