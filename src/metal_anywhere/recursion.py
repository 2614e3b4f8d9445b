"""Functions that call themselves, directly or by way of others: C++ allows it, Metal does not.

A GPU has no stack of calls. Metal Shading Language Specification, "Restrictions".
"""

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from metal_anywhere.source import STRING, without_comments

_DEFINITION = re.compile(r"\b(?P<name>\w+)\s*\((?:[^(){};]|\([^(){};]*\))*\)\s*(?:const\s*)?(?P<body>\{)")
_NO_NAMES = {"if", "for", "while", "switch", "operator"}
_LABEL_OR_CALL = re.compile(r"^(?:(?P<label>[A-Za-z_]\w*):|\s+(?:callq?|bl)\s+(?P<callee>[A-Za-z_]\w*))", re.MULTILINE)


def may_recurse(text: str) -> bool:
    """Whether names say so. Overloads and templates share a name, so only the compiler knows: `find_recursion`."""
    functions = list(_definitions(text))
    names = {name for name, _, _ in functions}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for name, _, body in functions:
        graph[name] |= names.intersection(re.findall(r"\w+", body))
    return bool(_find_cycle(graph))


def find_recursion(assembly: str, text: str) -> tuple[str, int] | None:
    """Which functions of `text` call each other in a circle, and the line in which the first of them begins.

    assembly: of a translation unit that holds `text`, with every call in it.
    """
    graph: dict[str, set[str]] = {}
    caller = ""
    for found in _LABEL_OR_CALL.finditer(assembly):
        if found["label"]:
            caller = found["label"]
        else:
            graph.setdefault(caller, set()).add(found["callee"])
    cycle = _find_cycle(graph)
    # A compiler's name for a function has the function's own in it, after its length.
    own = [(name, line) for name, line, _ in _definitions(text) if any(f"{len(name)}{name}" in symbol for symbol in cycle)]
    if not own:
        return None
    names = list(dict.fromkeys(name for name, _ in own))
    calls = "calls itself" if len(names) == 1 else "call each other"
    return f"{' and '.join(names)} {calls}: Metal has no recursion", own[0][1]


def _find_cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def _definitions(text: str) -> Iterator[tuple[str, int, str]]:
    """Name, line and body of each function that is defined in `text`, those of structs too."""
    text = re.sub(STRING, '""', without_comments(text))
    for found in _DEFINITION.finditer(text):
        if found["name"] not in _NO_NAMES:
            line = text.count("\n", 0, found.start("name")) + 1
            yield found["name"], line, text[found.end() : _closing(text, found.end())]


def _closing(text: str, start: int) -> int:
    depth = 1
    for found in re.finditer(r"[{}]", text[start:]):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return start + found.start()
    return len(text)
