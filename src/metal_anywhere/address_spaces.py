"""Pointers that do not say which memory they point to, threadgroup variables in functions: C++ takes them, Metal does not.

The CPU runner has one memory, and so can't tell `float*` from `device float*`; whoever has no Mac would see the difference
only on somebody else's. This reads the text alone: it sees a pointer without an address space. One with the wrong one is
found by clang, where there is one (opencl_check.py).
"""

import re
from collections.abc import Iterator

from metal_anywhere.rewrite import threadgroup_variables
from metal_anywhere.source import STRING, without_comments

SPACES = ("device", "constant", "threadgroup", "thread")

_OWN_TYPE = re.compile(
    r"\b(?:(?:enum\s+)?(?:struct|class)|enum|union|typename|using)\s+(\w+)|\btypedef\s[^;{}()]*?(\w+)\s*(?:\[[^;]*)?;"
)
_WORDS_BEFORE = re.compile(r"(?:\w+\s+)*(?:metal::)?$")
_WORDS = 200  # characters before a type in which its qualifiers are looked for
_SCALARS = "bool|u?char|u?short|u?int|u?long|half|bfloat|float"
_TYPES = rf"void|size_t|ptrdiff_t|u?int(?:8|16|32|64)_t|b?float16_t|(?:packed_)?(?:{_SCALARS})[234]?|(?:vec|atomic)\s*<[^<>]*>"


def find_bare_pointers(text: str, type_names: tuple[str, ...] = ()) -> Iterator[tuple[int, str]]:
    """The line and the type of each pointer or reference in `text`, which is Metal, that names no address space.

    type_names: what is a type beside Metal's own and those that `text` declares, as the arguments of a template are.
    Metal Shading Language Specification, "Address Spaces": every pointer and reference must have one.
    """
    text = re.sub(STRING, '""', without_comments(text))
    types = "|".join([_TYPES, *map(re.escape, type_names), *declared_types(text)])
    qualifiers = rf"(?:\s*\b(?:const|volatile|{'|'.join(SPACES)})\b)*"
    for found in re.finditer(rf"\b(?P<type>{types})(?P<after>{qualifiers})\s*(?P<mark>\*|&(?!&))", text):
        before = _WORDS_BEFORE.search(text, max(0, found.start() - _WORDS), found.start())
        words = f"{before[0] if before else ''} {found['after']}".split()
        if not set(words) & set(SPACES):
            yield text.count("\n", 0, found.start("mark")) + 1, f"{found['type']}{found['mark']}"


def declared_types(text: str) -> list[str]:
    """The names that `text` gives to types of its own."""
    return [name for names in _OWN_TYPE.findall(text) for name in names if name]


def find_variables_of_functions(header: str) -> Iterator[tuple[int, str]]:
    """The line and the name of each variable in threadgroup memory that `header` declares: only a kernel can have one."""
    text = re.sub(STRING, '""', without_comments(header))
    for found in threadgroup_variables(text):
        for name in found.names:
            yield text.count("\n", 0, found.start) + 1, name
