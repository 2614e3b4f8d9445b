"""Puts functions of one Python file in the place of those of another, line by line: nothing else in the file changes.

What the new functions need and the file no longer has (imports that an editor has removed, a given helper) comes along.
"""

import ast
from collections.abc import Collection
from pathlib import Path

from tiny_llm_kit.course.functions import Function, bound_names, find_functions, parse, split_lines


def graft(text: str, source: str, names: Collection[str], path: Path) -> str:
    """`text` with the functions `names` as they are in `source`.

    ValueError names `path`, and the line that is no Python, or the class that is gone.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    source = source.replace("\r\n", "\n")
    wanted = [function for function in find_functions(source, path) if function.name in names]
    for function in [*wanted, *_missing_helpers(text, source, wanted, path)]:
        text = _put(text, source, function, newline, path)
        _check_whole(text, function, path)
    text = _add_missing_names(text, source, wanted, newline, path)
    parse(text, path)
    return text


def _check_whole(text: str, function: Function, path: Path) -> None:
    """ValueError if the lines around need what was there: the only statement of an `if`, for example."""
    try:
        parse(text, path)
    except ValueError:
        message = (
            f"{path}: {function.name} can't be put in place, as the lines around yours can't do without it: take yours out"
        )
        raise ValueError(message) from None


def _put(text: str, source: str, function: Function, newline: str, path: Path) -> str:
    """One function, in the place of its namesake, or after the one that it follows in `source`."""
    lines, present = split_lines(text), find_functions(text, path)
    block = [line.rstrip("\n") for line in split_lines(source)[function.start : function.end]]
    namesakes = [other for other in present if other.name == function.name]
    for extra in reversed(namesakes[:-1]):  # Python would take the last one
        del lines[extra.start : extra.end]
    if namesakes:
        last, removed = namesakes[-1], sum(extra.end - extra.start for extra in namesakes[:-1])
        start, end = last.start - removed, last.end - removed
        lines[start:end] = _written(block, function.indent, last.indent, newline)
        return "".join(lines)
    place, indent = _place_for(function, source, text, present, path)
    gap = [newline] * (1 if function.owner else 2)
    if place and not lines[place - 1].endswith(("\n", "\r")):
        lines[place - 1] += newline
    lines[place:place] = [*gap, *_written(block, function.indent, indent, newline)]
    return "".join(lines)


def _written(block: list[str], indent: str, wanted: str, newline: str) -> list[str]:
    """The lines with another indent and another end."""
    return [(wanted + line.removeprefix(indent) if line.strip() else line) + newline for line in block]


def _place_for(function: Function, source: str, text: str, present: list[Function], path: Path) -> tuple[int, str]:
    """The line before which a function that the file lacks belongs, and its indent there."""
    order = [other.name for other in find_functions(source, path)]
    before = set(order[: order.index(function.name)])
    siblings = [other for other in present if other.owner == function.owner]
    if earlier := [other for other in siblings if other.name in before]:
        return earlier[-1].end, earlier[-1].indent
    if not function.owner:
        return len(split_lines(text)), ""
    for node in ast.walk(parse(text, path)):
        if isinstance(node, ast.ClassDef) and node.name == function.owner.rpartition(".")[2]:
            indent = siblings[0].indent if siblings else " " * node.body[0].col_offset
            return node.end_lineno or 0, indent
    raise ValueError(f"{path}: the class {function.owner} is gone, in which {function.name} belongs. Put it back first")


def _missing_helpers(text: str, source: str, wanted: list[Function], path: Path) -> list[Function]:
    """Given methods that the wanted ones use, of the same class, and that the file lacks."""
    present = {function.name for function in find_functions(text, path)}
    given = {f.name: f for f in find_functions(source, path) if f.owner and f.task is None and f.name not in present}
    found: dict[str, Function] = {}
    queue = list(wanted)
    while queue:
        function = queue.pop()
        used = {f"{function.owner}.{node.attr}" for node in ast.walk(function.node) if isinstance(node, ast.Attribute)}
        new = [given[name] for name in sorted(used & given.keys() - found.keys())]
        found |= {helper.name: helper for helper in new}
        queue += new
    return list(found.values())


def _add_missing_names(text: str, source: str, wanted: list[Function], newline: str, path: Path) -> str:
    """Imports, constants and given functions of the module that the wanted functions use and that the file lacks."""
    below, above = parse(text, path), parse(source, path)
    have = {name for statement in below.body for name in bound_names(statement)}
    if "*" in have:
        return text
    bound = {name: statement for statement in above.body for name in bound_names(statement)}
    marked = {function.name for function in find_functions(source, path) if function.task}
    missing: set[str] = set()
    queue: list[ast.AST] = [function.node for function in wanted]
    while queue:
        used = {node.id for node in ast.walk(queue.pop()) if isinstance(node, ast.Name)}
        new = (used & bound.keys()) - have - missing - marked
        missing |= new
        queue += [bound[name] for name in new]
    if not missing:
        return text
    lines, given = split_lines(text), split_lines(source)
    imports, others = _cut(above.body, given, missing)
    place = max((node.end_lineno or 0 for node in below.body if isinstance(node, ast.Import | ast.ImportFrom)), default=None)
    if place is None:
        place = (below.body[0].end_lineno or 0) if ast.get_docstring(below) is not None else 0
    new_lines = [*imports, *[line for block in others for line in ["", "", *block]]]
    lines[place:place] = [line + newline for line in new_lines]
    return "".join(lines)


def _cut(body: list[ast.stmt], lines: list[str], names: set[str]) -> tuple[list[str], list[list[str]]]:
    """The statements of `source` that bind the names: imports of these alone, and the other statements whole."""
    imports, others = [], []
    for node in body:
        chosen = names & bound_names(node)
        if not chosen:
            continue
        match node:
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                kept = [alias for alias in aliases if (alias.asname or alias.name.partition(".")[0]) in chosen]
                whole = ast.Import(kept) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, kept, node.level)
                imports.append(ast.unparse(whole))
            case _:
                start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
                others.append([line.rstrip("\n") for line in lines[start : node.end_lineno]])
    return imports, others
