"""The little of Metal's grammar that clang's C++ for OpenCL does not have, written in other words, line by line.

Vectors are OpenCL's own, which every address space can hold; what they lack is Metal's way to make one, `float4(x, y, z, w)`.
A struct of C++ for OpenCL is copied within one address space only, so each gets the copies that Metal knows.
"""

import re

from metal_anywhere.rewrite import BFLOAT_LITERAL, erase_attributes, make_doubles_floats, split_variables, threadgroup_variables

_SCALARS = "bool|u?char|u?short|u?int|u?long|half|bfloat|float"
_VECTOR = rf"(?:metal::)?(?:(?:{_SCALARS})[234]|vec\s*<[^<>;(){{}}]*(?:<[^<>;(){{}}]*>[^<>;(){{}}]*)?>)"
_ALIAS = re.compile(rf"\busing\s+(\w+)\s*=\s*{_VECTOR}\s*;|\btypedef\s+{_VECTOR}\s+(\w+)\s*;")
_THREAD_METHOD = re.compile(r"(\)\s*(?:const\s*)?)\bthread\b")
_CLASS = re.compile(
    r"(?<!enum )\b(?P<key>struct|class|union)\s+(?:alignas\s*\([^;{}]*\)\s*)?(?P<name>\w+)(?:\s*<[^;{}]*>)?\s*(?::[^;{}]+)?\{"
)


def to_opencl(text: str) -> str:
    """Preprocessed Metal as C++ for OpenCL; the qualifiers, and all of Metal's names, are left to on_opencl/metal.h."""
    text = make_doubles_floats(BFLOAT_LITERAL.sub(r"bfloat(\1f)", erase_attributes(text)))
    text = _THREAD_METHOD.sub(r"\1", text)  # it is the default, and clang takes it for no temporary object when it is said
    return _replace_threadgroup_variables(_make_vectors(_add_copies(text)))


def _make_vectors(text: str) -> str:
    """float4(x, y) becomes metal::make<float4>(x, y), also under the names that the text gives to vector types."""
    text = re.sub(r"\bvec\s*<\s*bool\b", "vec<int", text)
    aliases = [name for found in _ALIAS.findall(text) for name in found if name]
    return re.sub(rf"(?<!operator )(?<![\w.:])({'|'.join([_VECTOR, *aliases])})\s*\(", r"metal::make<\1>(", text)


def _add_copies(text: str) -> str:
    """Each struct gets a constructor for copies from every address space, and an assignment in each that can be written.

    (OpenCL's generic space is all but constant.)
    """
    pieces, done = [], 0
    for found in _CLASS.finditer(text):
        name, body = found["name"], text[found.end() : _closing_brace(text, found.end())]
        own_constructors = re.findall(rf"(?<![~\w]){name}\s*\(([^()]*)", body)
        members = []
        if not any(re.search(rf"\b{name}\b.*&", parameters) for parameters in own_constructors):
            members += [f"{name}(const {space} {name}&) = default;" for space in ("__generic", "constant")]
        if not own_constructors:
            members.append(f"{name}() = default;")
        if not re.search(r"\boperator\s*=(?!=)", body):
            members.append(f"{name}& operator=({name});")
            members += [f"{space} {name}& operator=({name}) {space};" for space in ("device", "threadgroup")]
        access = ("public: ", " private:") if found["key"] == "class" else ("", "")
        pieces += [text[done : found.end()], access[0], *members, access[1]]
        done = found.end()
    return "".join(pieces) + text[done:]


def _closing_brace(text: str, position: int) -> int:
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, position):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    return len(text)


def _replace_threadgroup_variables(text: str) -> str:
    """`threadgroup T x[N];` becomes a reference x: OpenCL lets no function have such a variable that is not a kernel.

    And it knows no kernels that are templates, so that ours are functions like any other.
    """
    pieces, done = [], 0
    for found in threadgroup_variables(text):
        types = []
        for name, variable in zip(found.names, split_variables(found.declaration), strict=True):
            types.append(re.sub(rf"\b{name}\b(?=\s*(?:\[|$))", f"metal_type_of_{name}", variable))
        references = (f"threadgroup metal_type_of_{n}& {n} = metal::variable<metal_type_of_{n}>();" for n in found.names)
        pieces += [text[done : found.start], f"typedef {', '.join(types)}; ", *references]
        done = found.end
    return "".join(pieces) + text[done:]
