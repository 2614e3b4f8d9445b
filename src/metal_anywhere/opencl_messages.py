"""What clang says of a kernel that it took for C++ for OpenCL, in Metal's words; errors that Metal does not share have none."""

import re
from collections.abc import Callable, Sequence

WORDS = {"__global": "device", "__local": "threadgroup", "__private": "thread", "__constant": "constant"}
_SPACE = "|".join(WORDS)
_ALIAS = re.compile(r"'([^']*)' \(aka '([^']*)'\)")
_LAST_SPACE = re.compile(rf"\b({_SPACE})\b")


def explain(error: str, notes: Sequence[str]) -> str | None:
    """In plain words what Metal refuses; None where the error is clang's alone, or one that every C++ compiler reports.

    error: one message of clang's, without its place. notes: those that follow it.
    """
    error, *notes = (_ALIAS.sub(_without_alias, text) for text in (error, *notes))
    if error.startswith("no matching"):
        return _explain_call(error, notes)
    for pattern, meaning in _MEANINGS.items():
        if found := re.search(pattern, error):
            return meaning if isinstance(meaning, str) else meaning(*found.groups())
    return None


def _without_alias(found: re.Match[str]) -> str:
    """The name that the author gave to a type, unless it hides that this is a pointer or an array."""
    name, meaning = found.groups()
    return f"'{name if '*' in name or not re.search(r'[*[]', meaning) else meaning}'"


def _pointer(wanted: str, given: str) -> str | None:
    """A pointer is wanted. What is given is a pointer or an array, or else another matter."""
    return _place(wanted, given) if "*" in wanted and re.search(r"[*\[]", given) else None


def _place(wanted: str, given: str) -> str | None:
    want, have = _space_of(wanted), _space_of(given)
    if want != have:
        return f"`{_in_metal(wanted)}` needs {want} memory, and what it gets, `{_in_metal(given)}`, is in {_described(have)}"
    if _differ_inside(wanted, given):
        return f"`{_in_metal(wanted)}` and `{_in_metal(given)}` point to pointers into different memories"
    return None  # the wrong type, perhaps, but the right memory


def _described(space: str) -> str:
    return f"{space} memory{', as are inputs of fewer than 8 elements' if space == 'constant' else ''}"


def _two(first: str, second: str) -> str | None:
    if _space_of(first) == _space_of(second) or "*" not in first or "*" not in second:
        return None
    return f"`{_in_metal(first)}` and `{_in_metal(second)}` point to different memories, and have nothing in common"


def _method(wanted: str, given: str) -> str | None:
    if _space_of(wanted) == _space_of(given):
        return None
    return f"this method is for an object in {_space_of(wanted)} memory, and the object is in {_space_of(given)} memory"


def _space_of(written: str) -> str:
    """The memory that a pointer points to, or that an object is in: "thread" where the type does not say it."""
    pointee = written.rpartition("*")[0] or written
    return WORDS[(_LAST_SPACE.findall(pointee.rpartition("*")[2]) or ["__private"])[-1]]


def _differ_inside(wanted: str, given: str) -> bool:
    """Whether pointers to pointers differ further in."""
    a, b = (_LAST_SPACE.findall(written.rpartition("*")[0]) for written in (wanted, given))
    return len(a) == len(b) > 1 and a != b


def _in_metal(written: str) -> str:
    """'__global float *__private' as its author would write it, `device float*`."""
    written = re.sub(r"\*(?:const |volatile )*__private$", "*", written)
    return re.sub(r" ?([*&])", r"\1", _LAST_SPACE.sub(lambda found: WORDS[found[1]], written))


def _explain_call(error: str, notes: Sequence[str]) -> str | None:
    """A function has no form for these arguments: Metal's concern if the memory alone keeps each form from fitting."""
    forms = [note for note in notes if note.startswith("candidate") and not _WRONG_COUNT.search(note)]
    misfits = [misfit for note in forms if (misfit := _misfit(note))]
    if not misfits or len(misfits) < len(forms):
        return None
    name = re.search(r"'(?:__\w+ )?(\w+)(?:<.*>)?'$", error)
    function = f"`{name[1]}`" if name else "the function"
    given, _, argument = misfits[0]
    wanted = " or ".join(dict.fromkeys(wanted for _, wanted, _ in misfits))
    return f"{function} takes {argument} in {wanted} memory, and gets one in {_described(given)}"


def _misfit(note: str) -> tuple[str, str, str] | None:
    """The memory that is given and the one that is wanted, and for which argument; None if something else does not fit."""
    for pattern, (given, wanted, argument) in _CANDIDATES.items():
        if found := re.search(pattern, note):
            which = f"its {found[argument]} argument" if argument else "an argument"
            misfit = _space_of(found[given]), _space_of(found[wanted]), which
            return misfit if misfit[0] != misfit[1] else None
    return None


_WRONG_COUNT = re.compile(r"not viable: requires .*argument")

# What is said of a form of a function: the groups in which the given and the wanted type and the argument's number stand.
_CANDIDATES = {
    r"cannot pass pointer to address space '(\w+)' as a pointer to address space '(\w+)' in (\w+) argument": (1, 2, 3),
    r"cannot bind reference in address space '(\w+)' to object in address space '(\w+)' in (\w+) argument": (1, 2, 3),
    r"cannot bind reference in (default address space) to object in address space '(\w+)' in (\w+) argument": (1, 2, 3),
    r"deduced type '([^']*\*[^']*)' of (\w+) parameter does not match adjusted type '([^']*[*\[][^']*)' of argument": (3, 1, 2),
    r"no known conversion from '([^']*[*\[][^']*)' to '([^']*\*[^']*)' for (\w+) argument": (1, 2, 3),
    r"cannot deduce a type for '\w+' that would make '([^']*)' equal '([^']*)'": (2, 1, 0),
}

_TYPE = "'([^']*)'"
_MEANINGS: dict[str, str | Callable[..., str | None]] = {
    rf"cannot initialize object parameter of type {_TYPE} with an expression of type {_TYPE}": _method,
    rf"cannot initialize .* of type {_TYPE} with an? [lrx]+value of type {_TYPE}": _pointer,
    rf"assigning to {_TYPE} from incompatible type {_TYPE}": _pointer,
    rf"binding reference of type {_TYPE} to value of type {_TYPE} changes address space": _place,
    rf"(?:initializing|passing) {_TYPE} .* type {_TYPE} changes address space": _place,
    rf"(?:assigning|returning) {_TYPE} (?:to|from a function with result type) {_TYPE} changes address space": (
        lambda given, wanted: _place(wanted, given)
    ),
    rf"cast (?:from )?{_TYPE} to (?:type )?{_TYPE}": lambda given, wanted: _pointer(wanted, given),
    rf"(?:comparison of distinct pointer types|incompatible operand types|operands of type ) \({_TYPE} and {_TYPE}\)": _two,
    r"read-only variable is not assignable": "what is const, or in constant memory, can only be read",
    r"program scope variable must reside in constant": "a variable outside of all functions is `constant`, and has its value",
    r"extern variable must reside in constant": "a variable outside of all functions is `constant`, and has its value",
    r"function scope variable cannot be declared in global": "a function's variable is in thread or threadgroup memory",
    r"function variable cannot be declared in local": "a threadgroup variable is declared as `threadgroup T x;`, no more",
    r"parameter may not be qualified with an address": "a parameter is in thread memory: what it points to may be elsewhere",
    r"static local variable must reside in constant": "a static variable is `constant`: nothing else outlives the thread",
    r"use of type '(?:long )?double'": "Metal has no double: write float",
    r"variable length array|array size is not a constant": "the size of an array must be known when the kernel is compiled",
    r"pointers to functions are not allowed|taking address of function": "Metal has no pointers to functions",
    r"virtual functions are not supported": "Metal has no virtual functions",
    r"with exceptions disabled": "Metal has no exceptions",
    r"'(dynamic_cast|typeid)' is not supported": lambda word: f"Metal has no {word}",
    r"'default (new|delete)' is not supported": lambda word: f"Metal has no {word}: memory is an array, or a buffer",
    r"thread-local storage|'thread_local' storage": "Metal has no thread_local: a variable in a function is the thread's own",
}
