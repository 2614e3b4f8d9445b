"""What a learner is told of a test that failed: what was called, what came back, what was expected, and how these differ.

It runs in the process of the tests, where the values still are; what it makes of them is text.
"""

import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from tiny_llm_kit.course.calls import Called, Frames, find_called, find_compared, is_in, is_one_statement
from tiny_llm_kit.course.differences import TOLERANCE, WIDTH, as_array, clip, compare, describe, draw_mask
from tiny_llm_kit.course.failure import STUB, Failure, Kind, is_drawn

_GOT, _EXPECTED = ("got",), ("want", "expected", "wanted")


@dataclass(frozen=True)
class Comparison:
    """The last one that an assert found to be false, and where that was."""

    operator: str
    left: object
    right: object
    frame: FrameType
    line: int


def explain(error: BaseException, compared: Comparison | None, tests: Path, package: str) -> Failure:
    """The failure of a test that ended with `error`; `why`, `where`, `kept` and `printed` are added by others."""
    frames = list(traceback.walk_tb(error.__traceback__))
    kind = kind_of(error)
    if kind == "stub":
        return Failure(kind, str(error))
    called = find_called(frames, tests, package, kind == "wrong")
    failure = Failure(kind, "", called.text, called.checked, called.given, where=called.place)
    if "NoneType" in str(error) and called.place and not called.may_be_none and is_in(frames[-1][0], tests):
        return replace(failure, got="None, it seems: is a `return` missing?")  # the test has stumbled over what came back
    if kind != "wrong":
        return failure
    got, expected, picture = _values(frames, compared, called)
    return replace(failure, got=got, expected=expected, picture=picture)


def kind_of(error: BaseException) -> Kind:
    if isinstance(error, NotImplementedError) and STUB.match(str(error)):
        return "stub"
    if type(error).__name__ == "DidNotEnd":
        return "endless"
    return "wrong" if isinstance(error, AssertionError) or type(error).__name__ == "Failed" else "raised"


def _values(frames: Frames, compared: Comparison | None, called: Called) -> tuple[str, str, tuple[str, ...]]:
    """What came back, what was expected, and how they differ."""
    objects = _name_objects(frames)
    if compared and compared.frame is frames[-1][0] and is_one_statement(compared.frame, compared.line, frames[-1][1]):
        about = find_compared(*frames[-1])
        about = "" if about in ("got", called.name) else about
        got = describe(compared.left) if compared.right is None else _describe_result(compared.left, called)
        expected = describe(compared.right)
        picture = compare(compared.left, compared.right, names=objects) if compared.operator == "==" else ()
        got = f"{got}   ({about})" if about else got
        expected = expected if compared.operator == "==" else f"{compared.operator} {expected}"
        if picture and as_array(compared.left) is not None:
            return got, expected, picture
        if about and is_drawn(picture):
            picture = (clip(f"{about}:", WIDTH), *picture)
        return got, expected, picture + _mask(frames, called)
    for frame, _ in reversed(frames):
        names = frame.f_locals
        mine, right = (next((names[name] for name in known if name in names), ...) for known in (_GOT, _EXPECTED))
        if mine is not ... and right is not ...:
            tolerance = names.get("tolerance")
            picture = compare(mine, right, tolerance if isinstance(tolerance, float) else TOLERANCE, objects)
            return _describe_result(mine, called), describe(right), picture
    value = _result(frames, called)
    return (_describe_result(value, called) if value is not ... else ""), "", _mask(frames, called)


def _name_objects(frames: Frames) -> dict[int, str]:
    """What the test, and what it calls, call their objects, by their ids: `first`, `queue[2]`. Numbers and arrays speak for
    themselves."""
    names: dict[int, str] = {}
    for frame, _ in frames[-3:]:
        for name, value in frame.f_locals.items():
            items = {f"{name}[{i}]": item for i, item in enumerate(value)} if type(value) in (list, tuple) else {name: value}
            for shown, item in items.items():
                if type(item).__module__ != "builtins" and as_array(item) is None:
                    names.setdefault(id(item), shown)
    return names


def _describe_result(value: object, called: Called) -> str:
    return "None: is a `return` missing?" if value is None and not called.may_be_none else describe(value)


def _mask(frames: Frames, called: Called) -> tuple[str, ...]:
    """The mask that came back, if one did."""
    drawn = draw_mask(_result(frames, called))
    return (f"{called.name}:", *drawn) if drawn else ()


def _result(frames: Frames, called: Called) -> object:
    """What the call gave, if the test has it under a name; ... if not."""
    names = [frame.f_locals for frame, _ in reversed(frames) if called.name in frame.f_locals]
    return names[0][called.name] if called.name and names else ...
