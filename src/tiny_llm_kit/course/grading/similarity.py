"""How much an answer reads like the reference. A note for a person to look at: short functions look alike anyway."""

import ast
import difflib
from pathlib import Path

from tiny_llm_kit.course.functions import Function
from tiny_llm_kit.course.grading.answers import find_answers, read_functions

ALIKE = 0.95
LONG_ENOUGH = 40
"""Nodes of a function's syntax tree. Half the answers of week 1 are longer."""


def describe_similarity(package: Path, reference: Path, tasks: set[str]) -> list[str]:
    """One line for each task with answers that read like the reference's: names and structure, not comments and layout."""
    answers = [answer for answer in find_answers(reference) if answer.task in tasks]
    files = {answer.file: read_functions(package / answer.file) for answer in answers}
    long: dict[str, int] = {}
    alike: dict[str, list[str]] = {}
    for answer in answers:
        theirs, own = _outline(answer.function), _outline(files[answer.file].get(answer.function.name))
        if len(theirs) >= LONG_ENOUGH:
            long[answer.task] = long.get(answer.task, 0) + 1
            if _ratio(theirs, own) >= ALIKE:
                alike.setdefault(answer.task, []).append(answer.function.name)
    return [
        f"Task {task}: {len(names)} of {long[task]} longer functions read like the reference's: {', '.join(sorted(names))}"
        for task, names in sorted(alike.items(), key=lambda entry: [int(number) for number in entry[0].split(".")])
    ]


def _outline(function: Function | None) -> list[str]:
    """The body as a list of what its nodes are, and which names and values they have."""
    if function is None:
        return []
    body = function.node.body[ast.get_docstring(function.node) is not None :]
    return [_describe(node) for statement in body for node in ast.walk(statement) if not isinstance(node, ast.expr_context)]


def _describe(node: ast.AST) -> str:
    fields = [
        str(value)
        for name, value in ast.iter_fields(node)
        if name in ("id", "attr", "arg", "value") and not isinstance(value, ast.AST)
    ]
    return " ".join([type(node).__name__, *fields])


def _ratio(one: list[str], other: list[str]) -> float:
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= ALIKE else 0.0
