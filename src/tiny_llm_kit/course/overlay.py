"""Lays the functions of one file over those of another: what both have comes from the overlay.

An overlay looks like the module that it changes, and holds only what differs: imports, functions, classes with the methods that
differ. What only the overlay has is added. Answers of the module whose names begin with an underscore, and which nothing names
any more, are removed: how an answer is divided is up to it, and no test may ask for them.
"""

import re
from collections import Counter

import libcst as cst

from tiny_llm_kit.course.marks import find_mark

PRIVATE = re.compile("_[^_]")

Statement = cst.BaseStatement | cst.BaseSmallStatement


def lay_over(source: str, overlay: str) -> str:
    """The source with the overlay on it.

    Raises:
        ValueError: if the overlay marks an answer that the source does not have: it is made for another source.
    """
    below, above = cst.parse_module(source), cst.parse_module(overlay)
    merged = below.with_changes(body=_merge(list(below.body), list(above.body), ""))
    while True:
        names = _Names()
        merged.visit(names)
        unused = {name for name in names.private_answers if names.counts[name] == 0}
        if not unused:
            return merged.code
        merged = merged.visit(_Remove(unused))


class _Names(cst.CSTVisitor):
    """Counts how often each name is used, and finds the answers with private ones."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.private_answers: set[str] = set()

    def visit_Name(self, node: cst.Name) -> None:
        self.counts[node.value] += 1

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.counts[node.name.value] -= 1
        if _is_answer(node) and PRIVATE.match(node.name.value):
            self.private_answers.add(node.name.value)


class _Remove(cst.CSTTransformer):
    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self.names = names

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.RemovalSentinel:
        gone = _is_answer(original_node) and original_node.name.value in self.names
        return cst.RemoveFromParent() if gone else updated_node


def _merge(below: list[Statement], above: list[Statement], where: str) -> list[Statement]:
    """The statements of a module or class, with those of the overlay."""
    replacing = {name: statement for statement in above if (name := _name(statement))}
    new = [statement for statement in above if not _name(statement) and not _is_docstring(statement)]
    merged: list[Statement] = []
    for statement in below:
        name = _name(statement)
        if name not in replacing:
            merged.append(statement)
        elif isinstance(statement, cst.ClassDef):
            merged.append(_merge_classes(statement, replacing.pop(name)))
        else:
            overlaid = replacing.pop(name)
            if _is_answer(overlaid) and not _is_answer(statement):
                raise ValueError(f"{where}{name} is not an answer")
            merged.append(overlaid)
    missing = [name for name, statement in replacing.items() if _is_answer(statement)]
    if missing:
        raise ValueError(f"there is no {where}{missing[0]}")
    # Imports, constants and fields go to the others of their kind, before the first function or class that may need them.
    start = next((i for i, statement in enumerate(merged) if _name(statement)), len(merged))
    return [*merged[:start], *new, *merged[start:], *replacing.values()]


def _merge_classes(below: cst.ClassDef, above: Statement) -> cst.ClassDef:
    if not isinstance(above, cst.ClassDef):
        raise ValueError(f"{below.name.value} is a class")
    body = _merge(list(below.body.body), list(above.body.body), f"{below.name.value}.")
    return below.with_changes(body=below.body.with_changes(body=body))


def _name(statement: Statement) -> str:
    """The name of a function or class; "" for anything else."""
    return statement.name.value if isinstance(statement, cst.FunctionDef | cst.ClassDef) else ""


def _is_answer(statement: Statement) -> bool:
    return isinstance(statement, cst.FunctionDef) and find_mark(statement) is not None


def _is_docstring(statement: Statement) -> bool:
    match statement:
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.SimpleString())]):
            return True
    return False
