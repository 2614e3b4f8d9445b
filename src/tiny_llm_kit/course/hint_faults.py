"""Whether the hints of `course.toml` can be trusted: enough of them, short, and naming only what a learner can find."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx

from tiny_llm_kit.course.course_map import Day
from tiny_llm_kit.course.skeleton import Skeleton

FEWEST, MOST = 2, 4
LONGEST = 400

_CODE = re.compile(r"`([^`]+)`")
_MLX = re.compile(r"\bmx((?:\.\w+)+)")
_MEMBER = re.compile(r"\b([A-Z]\w*)\.(\w+)")
_WORD = re.compile(r"\w+")
# Words that are names and not English: snake_case, CamelCase, and what follows "self.".
_NAME = re.compile(r"\b(?:[A-Za-z]\w*_\w*|_\w+|[A-Z]+[a-z0-9]+[A-Z]\w*|(?<=self\.)\w+)\b")


class SkeletonNames:
    """All words in the learner's package, and what its classes have."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.words: set[str] = set()
        self._members: dict[str, set[str]] = defaultdict(set)
        self._bases: dict[str, set[str]] = defaultdict(set)
        for path, content in skeleton.files.items():
            if path.suffix in (".py", ".metal"):
                self.words.update(_WORD.findall(content.decode()))
            if path.suffix == ".py":
                for node in ast.walk(ast.parse(content)):
                    if isinstance(node, ast.ClassDef):
                        self._members[node.name].update(_members(node))
                        self._bases[node.name].update(base.id for base in node.bases if isinstance(base, ast.Name))

    def has(self, owner: str, member: str) -> bool:
        """Whether a class has a method or an attribute, its own or a base's. Of a class that comes from elsewhere: yes."""
        if owner not in self._members or member in self._members[owner]:
            return True
        return any(self.has(base, member) for base in self._bases[owner] if base in self._members)


def _members(owner: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(owner):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name


def find_hint_faults(root: Path, day: Day, names: SkeletonNames) -> list[str]:
    """One line for each fault in the hints of a day. A task without any is not looked at.

    A hint may name, in `backticks`, what the skeleton or the day's pages name, and functions that MLX has.
    """
    pages = [root / page for page in day.pages]
    known = names.words.union(*(_WORD.findall(page.read_text(encoding="utf-8")) for page in pages if page.exists()))
    lines = []
    for task in day.tasks:
        hints = day.hints.get(task.number, ())
        if hints and not FEWEST <= len(hints) <= MOST:
            lines.append(f"{task}: the number of hints is {len(hints)}, and it should be {FEWEST} to {MOST}")
        if len(set(hints)) < len(hints):
            lines.append(f"{task}: two of its hints are equal")
        for number, hint in enumerate(hints, start=1):
            if len(hint) > LONGEST:
                lines.append(f"{task}: hint {number} has {len(hint)} characters, and {LONGEST} are enough")
            lines += [f"{task}: hint {number} names `{name}`, {why}" for name, why in _unknown_names(hint, known, names)]
    return lines


def _unknown_names(hint: str, known: set[str], names: SkeletonNames) -> Iterator[tuple[str, str]]:
    for code in _CODE.findall(hint):
        for function in _MLX.findall(code):
            if not _is_in_mlx(function.removeprefix(".")):
                yield f"mx{function}", "which MLX does not have"
        for owner, member in _MEMBER.findall(code):
            if not names.has(owner, member):
                yield f"{owner}.{member}", f"and the skeleton's {owner} has no {member}"
        for name in _NAME.findall(_MLX.sub("", code)):
            if name not in known:
                yield name, "which neither the skeleton nor the chapter names"


def _is_in_mlx(function: str) -> bool:
    found: object = mx
    for part in function.split("."):
        found = getattr(found, part, None)
    return found is not None
