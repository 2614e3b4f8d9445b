"""Notices calls of operators that would be the answer itself. Tests and kit call them freely.

An operator is found by its name in its module, and wrapped in a function that looks at its caller. However the answer has got
hold of it (an alias, `from … import`, getattr), it is that function, since this is done before the answer is imported.
"""

import contextlib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tiny_llm_kit.course.grading.findings import Findings
from tiny_llm_kit.course.grading.owner import Owner, caller


@dataclass(frozen=True)
class Forbidden:
    """The operators `calls` (module and name), or the modules `imports`, are no answer to the tasks ("1.1.1"), for a reason."""

    tasks: tuple[str, ...]
    reason: str
    calls: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


class Operators:
    """`find_task` says which task runs: "1.1.1", or None while nothing is tested."""

    def __init__(self, owner: Owner, findings: Findings, find_task: Callable[[], str | None]) -> None:
        self._owner = owner
        self._findings = findings
        self._find_task = find_task
        self._rules: list[Forbidden] = []

    def watch(self, rules: Iterable[Forbidden]) -> None:
        self._rules = list(rules)
        by_name: dict[str, list[Forbidden]] = {}
        for rule in self._rules:
            for name in rule.calls:
                by_name.setdefault(name, []).append(rule)
        for name, of_name in by_name.items():
            self._watch(name, of_name)

    def find_aliases(self, answers: dict[str, list[str]]) -> None:
        """Answers (names in the package, by task) that are a function of a library: only tests call it then."""
        for task, names in answers.items():
            for rule in [rule for rule in self._rules if rule.calls and task in rule.tasks]:
                for name in names:
                    answer = _unwrap(_look_up(name))
                    if self._owner.is_of_others(answer):
                        self._findings.add("unfair", f"{name} is {_describe(answer)}: {rule.reason}", _file_of(name), [task])

    def _watch(self, name: str, rules: list[Forbidden]) -> None:
        owner, attribute = find_owner(name)
        operator = getattr(owner, attribute, None)
        if operator is None:  # in this version of the library, so no answer can call it
            return
        watched = self._wrap(operator, name, rules)
        is_static = isinstance(vars(owner).get(attribute), staticmethod)
        setattr(owner, attribute, staticmethod(watched) if is_static else watched)
        root = name.partition(".")[0]
        for module in [module for key, module in sys.modules.items() if f"{key}.".startswith(f"{root}.")]:
            for key in [key for key, value in vars(module).items() if value is operator]:
                setattr(module, key, watched)

    def _wrap(self, operator: Callable[..., Any], name: str, rules: list[Forbidden]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self._note(name, rules)
            return operator(*arguments, **named)

        watched.__module__, _, watched.__qualname__ = name.rpartition(".")
        watched.__name__ = watched.__qualname__
        watched.__doc__ = operator.__doc__
        return watched

    def _note(self, name: str, rules: list[Forbidden]) -> None:
        task = self._find_task()
        broken = [rule for rule in rules if task is None or task in rule.tasks]
        place = self._owner.find_place(caller(3)) if broken else None
        if place is not None:
            for rule in broken:
                self._findings.add("unfair", f"calls {name}: {rule.reason}", place, [task] if task else rule.tasks)


def find_owner(name: str) -> tuple[Any, str]:
    """The module or class that has the operator (None if there is none), and the last part of its name."""
    *parts, attribute = name.split(".")
    owner: Any = None
    for i, part in enumerate(parts, start=1):
        with contextlib.suppress(ImportError):
            importlib.import_module(".".join(parts[:i]))
        owner = sys.modules.get(".".join(parts[:i])) or getattr(owner, part, None)
    return owner, attribute


def _look_up(name: str) -> object:
    """What the package holds under a name such as "tiny_llm.attention:softmax"; None if nothing."""
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _unwrap(answer: object) -> object:
    """What is called in the end: within decorators, partial, and objects whose class only borrows its `__call__`."""
    while inner := getattr(answer, "__wrapped__", None) or _find_part(answer):
        answer = inner
    return answer


def _find_part(answer: object) -> object:
    call = inspect.getattr_static(type(answer), "__call__", None)
    return answer.func if isinstance(answer, functools.partial) else call if isinstance(call, staticmethod) else None


def _describe(function: object) -> str:
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", type(function).__name__)
    return f"{getattr(function, '__module__', '')}.{name}"


def _file_of(name: str) -> str:
    return f"{name.partition(':')[0].replace('.', '/')}.py"
