"""Failures as a learner reads them: task by task, equal ones folded, with one hint and the section to read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tiny_llm_kit.cli.course.opened import Opened
from tiny_llm_kit.course.course_map import Day, task_number
from tiny_llm_kit.course.failure import STUB, Failure, is_drawn
from tiny_llm_kit.course.guided_run import Ended, Run
from tiny_llm_kit.course.sections import find_section

IN_FULL = 2
"""Failures of one task that are shown with all that is known; of others one line each."""

_LISTED = 8
_VARYING = re.compile(r"-?\b\d[\d.e+-]*|\bnan\b|-?\binf\b|True|False|\[[^\[\]]*\]|'[^']*'")

_FIRST_DIFFERENCE = re.compile(r": \d+ of \d+ numbers are off, first at .*$")


@dataclass
class Fold:
    """Failures that say the same, by the first of them."""

    first: Ended
    failure: Failure
    others: list[Ended] = field(default_factory=list)


def fold(failures: Iterable[Ended]) -> list[Fold]:
    """Those of one test function, and those whose reasons differ by numbers alone, fold into one."""
    folds: list[Fold] = []
    known: dict[tuple[str, ...], Fold] = {}
    for ended in failures:
        failure = ended.failure
        if failure is None:
            continue
        function = ended.test.partition("[")[0]
        keys = [(failure.kind, function), (failure.kind, _VARYING.sub("#", failure.why), _line_free(failure.where))]
        found = next((known[key] for key in keys if key in known), None)
        if found is None:
            found = Fold(ended, failure)
            folds.append(found)
        else:
            found.others.append(ended)
        for key in keys:
            known.setdefault(key, found)
    return folds


def _line_free(place: str) -> str:
    return place.partition(" (")[0]


def show_failures(opened: Opened, day: Day, run: Run, everything: bool = False) -> None:
    """The failures of each task of the day. `everything`: each failure in full, none folded."""
    paper = opened.paper
    for failure in run.unimportable:
        show_unimportable(opened, failure)
    unwritten = [task.number for task in opened.find_unwritten(day)]
    told_of, before = 0, -1
    for number in (*day.order, 0):
        own = [ended for ended in run.failures if task_number(ended.test) == number]
        left_out = [reason for test, reason in run.left_out.items() if task_number(test) == number]
        if own or left_out:
            if before and all(ended.failure and ended.failure.kind == "stub" for ended in own):
                paper.line()  # lines about stubs are kept together
            before = _show_task(opened, day, number, own, everything, number in unwritten)
            told_of = before or told_of
        if left_out:
            paper.line(f"{_count(len(left_out), 'test')} of this task not run: {left_out[0]}.", "yellow", 2)
    if run.failures and not told_of and (first := task_number(run.failures[0].test)):
        paper.line()
        show_help(opened, day, first)
    if run.uses:
        paper.line()
        paper.line("the answer uses the reference, so this run does not count:", "bold red")
        for use in run.uses:
            paper.line(use, indent=2)


def _show_task(opened: Opened, day: Day, number: int, failures: list[Ended], everything: bool, untouched: bool) -> int:
    """The number of the task, if it was told how to go on with it."""
    paper = opened.paper
    stubs = [ended for ended in failures if ended.failure and ended.failure.kind == "stub"]
    others = [ended for ended in failures if ended not in stubs]
    if others:
        title = f"Task {number}: {day.tasks[number - 1].title}" if number else "Other tests"
        paper.line()
        paper.line(f"{title}: {_count(len(failures), 'test')} failed", "bold")
    if stubs:
        _show_stubs(opened, stubs, day, number, alone=not others, untouched=untouched)
    if not others:
        return 0
    folds = [Fold(ended, ended.failure) for ended in others if ended.failure] if everything else fold(others)
    full = len(folds) if everything else IN_FULL
    for found in folds[:full]:
        _show_fold(opened, found)
    if len(folds) > full:
        paper.line()
        paper.line("Also in this task (in full with -v):", indent=2)
    for found in folds[full : full + _LISTED]:
        more = f" (and {len(found.others)} more)" if found.others else ""
        paper.line(f"✗ {_sentence(found.first.test)}: {_clipped(found.failure.why, 160)}{more}", indent=2)
    if len(folds) > full + _LISTED:
        paper.line(f"… and {len(folds) - full - _LISTED} others", indent=2)
    if number:
        paper.line()
        show_help(opened, day, number)
    return number


def _show_stubs(opened: Opened, stubs: list[Ended], day: Day, number: int, alone: bool, untouched: bool) -> None:
    """One line for each task that is not written, with the number of tests that wait for it.

    `alone`: the task fails in no other way. `untouched`: no function of it is written.
    """
    waiting: dict[str, list[Failure]] = {}
    for ended in stubs:
        if ended.failure:
            waiting.setdefault(ended.failure.why.removeprefix("NotImplementedError: ").partition(". Read ")[0], []).append(
                ended.failure
            )
    for name, failures in waiting.items():
        own = STUB.match(name)
        key = tuple(map(int, own.groups())) if own else ()
        place = next((failure.where for failure in failures if failure.where), "")
        here = f" {place}" if place else ""
        tests = _count(len(failures), "test")
        if key == (day.week, day.number, number):
            how = "not written yet" if untouched else "only partly written"
            opened.paper.line(f"✗ Task {number} is {how} ({tests}):{here}")
        else:
            who = f"Task {number}" if alone else "It"
            name = f"task {key[2]}" if key[:2] == (day.week, day.number) else name.partition(":")[0]
            opened.paper.line(f"✗ {who} needs {name}, not written yet ({tests}):{here}")


def _show_fold(opened: Opened, found: Fold) -> None:
    paper, failure = opened.paper, found.failure
    paper.line()
    paper.line(f"✗ {_sentence(found.first.test)}", "red", 2)
    drawn = is_drawn(failure.picture)
    first = failure.example[0] if failure.example else ""
    rows: list[tuple[str, str | tuple[str, ...]]] = [
        ("called", failure.called),
        *(("with" if i == 0 else "", text) for i, text in enumerate(failure.given)),
        ("checked", failure.checked),
        ("got", "" if drawn else failure.got),
        ("expected", "" if drawn else failure.expected),
        ("", failure.picture),
        (_WHY[failure.kind], _without_repetition(failure)),
        ("example", failure.example if first.startswith("Falsifying") else ()),
        ("also", failure.kept),
        ("printed", failure.printed),
        ("where", failure.where if failure.where not in failure.why else ""),
    ]
    paper.labelled(rows, 4)
    if found.others:
        same = "test fails" if len(found.others) == 1 else "tests fail"
        paper.line(f"and {len(found.others)} more {same} the same way", "dim", 4)


def _without_repetition(failure: Failure) -> str:
    """What the test says; without the first difference, if the picture begins with that. Nothing if it only repeats the
    comparison that is shown: that is what pytest makes of an assert without a message."""
    if failure.why.startswith("assert ") and (failure.got or failure.picture):
        return ""
    told = bool(failure.picture) and " differ, first at " in failure.picture[0]
    return _FIRST_DIFFERENCE.sub("", failure.why) if told else failure.why


_WHY = {"wrong": "says", "raised": "raised", "endless": "endless", "crashed": "crashed", "stub": "", "unimportable": ""}


def show_unimportable(opened: Opened, failure: Failure) -> None:
    """A package, or a file of tests, that cannot be loaded."""
    paper = opened.paper
    paper.line()
    headline = failure.example[0] if failure.kind == "unimportable" and failure.example else failure.why
    paper.line(f"✗ {headline}", "red")
    for line in failure.example[1:] if failure.kind == "unimportable" else failure.example:
        paper.line(line.rstrip().replace(f"{opened.root}/", ""), indent=2)


def show_help(opened: Opened, day: Day, number: int) -> None:
    """One hint, and the section of the chapter."""
    section = find_section(opened.root, day, number)
    hints = day.hints.get(number, ())
    more = f"pdm run course hint {day.week} {day.number} {number}"
    rows: list[tuple[str, str | tuple[str, ...]]] = [
        ("hint", f"{hints[0]} (More: {more})" if len(hints) > 1 else hints[0] if hints else ""),
        ("read", f"{section}" + (f" ({section.heading})" if section.heading else "")),
    ]
    opened.paper.labelled(rows, 2)


def _sentence(test: str) -> str:
    """The name of a test as the sentence that it is, with its parameters as they are."""
    name, bracket, parameters = test.rpartition("::")[2].partition("[")
    words = re.sub(r"^test_(task_\d+_)?", "", name).replace("_", " ")
    return f"{words} {bracket}{parameters}".strip()


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
