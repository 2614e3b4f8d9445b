"""Finds `@task` marks in source code, without importing it."""

import libcst as cst

from tiny_llm_kit.course.course_map import Course, Task

_NAMES = ["week", "day", "number"]


def is_mark(decorator: cst.BaseExpression) -> bool:
    return isinstance(decorator, cst.Call) and isinstance(decorator.func, cst.Name) and decorator.func.value == "task"


def find_mark(function: cst.FunctionDef) -> cst.Call | None:
    """The `@task` on a function, if it has one."""
    calls = [decorator.decorator for decorator in function.decorators if is_mark(decorator.decorator)]
    return cst.ensure_type(calls[0], cst.Call) if calls else None


def read_mark(mark: cst.Call, course: Course) -> Task:
    """The task that a mark names; ValueError if it names none."""
    given = {
        arg.keyword.value if arg.keyword else name: arg.value.evaluated_value
        for name, arg in zip(_NAMES, mark.args, strict=False)
        if isinstance(arg.value, cst.Integer)
    }
    if len(mark.args) != len(_NAMES) or given.keys() != set(_NAMES):
        raise ValueError("@task takes three plain numbers: week, day, number")
    return course.find_task(*(given[name] for name in _NAMES))
