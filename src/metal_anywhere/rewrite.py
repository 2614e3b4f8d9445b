"""The little of Metal's grammar that macros cannot turn into C++: attributes, numbers, and variables in threadgroup memory.

It works on text without comments, and keeps every line where it was.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from metal_anywhere.source import STRING

_ATTRIBUTE = re.compile(r"\[\[(?:[^\[\]]|\([^()]*\))*\]\]")
_THREADGROUP = re.compile(r"\bthreadgroup\b\s*")
_STRING_OR_DOUBLE = re.compile(rf"({STRING})|(?<![\w.])((?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)(?![\w.])")
BFLOAT_LITERAL = re.compile(r"\b((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)bf\b")
_LINE_MARKER = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_NESTED = re.compile(r"\[[^\[\]]*\]|<[^<>]*>|\{[^{}]*\}|\([^()]*\)")
_CONTEXT = 4000  # characters before a word in which the end of the statement before it is looked for


def erase_attributes(text: str) -> str:
    """Without `[[buffer(0)]]` and its like: the order of the parameters says the same."""
    return _ATTRIBUTE.sub("", text)


def make_doubles_floats(text: str) -> str:
    """1.5 is a float in Metal, and in C++ a double. (clang's option for it is lost where a template is instantiated.)"""
    return _STRING_OR_DOUBLE.sub(lambda found: found[1] or f"{found[2]}f", text)


@dataclass(frozen=True)
class ThreadgroupVariables:
    """The statement `threadgroup T x[N], y;`: `declaration` is "T x[N], y", and `names` are x and y."""

    start: int
    end: int
    declaration: str
    names: list[str]


def threadgroup_variables(text: str) -> Iterator[ThreadgroupVariables]:
    """Each statement that declares variables in threadgroup memory: not pointers to it, nor parameters."""
    end = 0
    for word in _THREADGROUP.finditer(text):
        semicolon = text.find(";", word.end())
        if word.start() < end or semicolon < 0 or not _starts_statement(text, word.start()):
            continue
        declaration = text[word.end() : semicolon]
        if names := _declared_names(declaration):
            end = semicolon + 1
            yield ThreadgroupVariables(word.start(), end, declaration, names)


def replace_threadgroup_variables(text: str, declare: Callable[[str, list[str]], str]) -> str:
    """Each statement `threadgroup T x[N], y;` becomes `declare("T x[N], y", ["x", "y"])`; elsewhere the word is dropped.

    Elsewhere means pointers and parameters: on a CPU they are pointers like any other.
    """
    pieces, done = [], 0
    for found in threadgroup_variables(text):
        pieces += [_THREADGROUP.sub("", text[done : found.start]), declare(found.declaration, found.names)]
        done = found.end
    return "".join(pieces) + _THREADGROUP.sub("", text[done:])


def _starts_statement(text: str, position: int) -> bool:
    before = _LINE_MARKER.sub("", text[max(0, position - _CONTEXT) : position]).rstrip()
    return not before or before[-1] in ";{}"


def _declared_names(declaration: str) -> list[str]:
    """The variables of `T x[N], y`; none if it declares pointers, or is no declaration of variables."""
    flat = _LINE_MARKER.sub("", declaration)
    if re.search(r"\(", flat.split("[")[0]):
        return []
    while _NESTED.search(flat):
        flat = _NESTED.sub("", flat)
    if re.search(r"[*&=()]", flat):
        return []
    return [re.findall(r"\w+", part)[-1] for part in flat.split(",") if re.search(r"\w", part)]


def to_cpp(text: str) -> str:
    """Preprocessed Metal as C++ for the CPU runner: threadgroup variables are static, and make themselves known."""

    def declare(declaration: str, names: list[str]) -> str:
        # With an initializer the compiler sets the variable up before it runs anything, and puts no guard around it.
        variables = ", ".join(f"{variable} = {{}}" for variable in split_variables(declaration))
        calls = " ".join(f'msl::declare("{name}", {name});' for name in names)
        return f"static {variables}; {calls}"

    text = make_doubles_floats(BFLOAT_LITERAL.sub(r"bfloat(\1f)", erase_attributes(text)))
    return replace_threadgroup_variables(text, declare)


def split_variables(declaration: str) -> list[str]:
    """At the commas that separate variables, not at those inside of brackets."""
    parts, depth = [""], 0
    for character in declaration:
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip(" ") for part in parts]
