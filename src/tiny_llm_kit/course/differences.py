"""Values in a few words, and how two of them differ: the first place, and a small picture where one says more.

Pictures and lines stay within 56 columns, so that they can be indented in a terminal of 60.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from tiny_llm_kit.course.failure import EXPECTED

WIDTH = 56
TOLERANCE = 1e-4
MOST_ROWS, MOST_COLUMNS = 12, 24
_FEW = 12

SEEN, HIDDEN, EXTRA, MISSING, OFF = "■", "·", "+", "-", "X"


def as_array(value: object) -> np.ndarray | None:
    """An array of NumPy or MLX as NumPy's, floats as float64; None for anything else."""
    if type(value).__module__.startswith("mlx.") and type(value).__name__ == "array":
        import mlx.core as mx

        assert isinstance(value, mx.array)
        value = np.array(value.astype(mx.float32) if mx.issubdtype(value.dtype, mx.floating) else value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        return None
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def describe(value: object, most: int = 120) -> str:
    """One line: type and shape of an array, with its numbers when these are few; anything else as Python writes it."""
    array = as_array(value)
    if array is None:
        if type(value).__module__.startswith("mlx.") and type(value).__name__ == "Dtype":
            return str(value).removeprefix("mlx.core.")
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value) if field.repr}
            if any(as_array(item) is not None for item in fields.values()):  # which as Python writes them tell nothing
                return clip(f"{type(value).__name__}({', '.join(f'{n}={describe(item)}' for n, item in fields.items())})", most)
        if isinstance(value, list | tuple) and value and all(as_array(item) is not None for item in value):
            return clip(f"[{', '.join(map(describe, value))}]", most)
        return clip(repr(value), most)
    dtype = f"{getattr(value, 'dtype', array.dtype)} ".replace("mlx.core.", "").replace("float64 ", "")  # that of oracles
    numbers = f": {_numbers(array)}" if 0 < array.size <= _FEW else ""
    if len(numbers) > WIDTH - 8:  # of long numbers, the first difference says more
        numbers = ""
    strange = [f"{count} {name}" for name, count in (("nan", np.isnan(array).sum()),) if count and not numbers]
    return clip(f"{dtype}{array.shape}{numbers}{''.join(f', with {text}' for text in strange)}", most)


def compare(got: object, expected: object, tolerance: float = TOLERANCE, names: Mapping[int, str] = {}) -> tuple[str, ...]:
    """How the two differ, in lines; none where their descriptions say all.

    `names`: what to call objects that are items of sequences, by their ids.
    """
    a, b = as_array(got), as_array(expected)
    if (a is None) != (b is None):  # an array against a list
        a = _list_as_array(got) if a is None else a
        b = _list_as_array(expected) if b is None else b
    if a is not None and b is not None:
        return _compare_arrays(a, b, tolerance)
    if isinstance(got, str) and isinstance(expected, str):
        return _compare_sequences(got, expected, names)
    if isinstance(got, list | tuple) and isinstance(expected, list | tuple):
        return _compare_sequences(got, expected, names)
    if isinstance(got, Mapping) and isinstance(expected, Mapping):
        return _compare_mappings(got, expected)
    if isinstance(got, Set) and isinstance(expected, Set):
        return _compare_sets(got, expected)
    return ()


def draw_mask(value: object) -> tuple[str, ...]:
    """A small mask (bools, or zeros and minus infinities) as a picture: a row for each query; none for anything else."""
    array = as_array(value)
    if array is None or not _is_mask(array) or (plane := _only_plane(array)) is None:
        return ()
    rows = ["".join(SEEN if cell else HIDDEN for cell in row) for row in _seen(plane)]
    return (*rows, f"{SEEN} seen  {HIDDEN} hidden")


def _list_as_array(value: object) -> np.ndarray | None:
    try:
        array = np.array(value)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _compare_arrays(got: np.ndarray, expected: np.ndarray, tolerance: float) -> tuple[str, ...]:
    if expected.ndim == 0:
        expected = np.broadcast_to(expected, got.shape)
    if got.shape != expected.shape:
        return (f"the shape is {got.shape}, expected {expected.shape}",)
    wrong = ~np.isclose(got.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance)
    if not wrong.any():
        return ()
    if got.ndim == 0:
        return ()
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    lines = [f"{wrong.sum()} of {wrong.size} differ, first at {list(at)}: {_number(got[at])}, expected {_number(expected[at])}"]
    return (*lines, *_draw(got, expected, wrong, at))


def _draw(got: np.ndarray, expected: np.ndarray, wrong: np.ndarray, at: tuple[int, ...]) -> list[str]:
    """The plane of the last two axes in which the first difference lies."""
    plane = wrong.reshape(-1, wrong.shape[-1]) if _is_thin(wrong) else wrong[at[:-2]]
    if plane.ndim != 2 or (plane.all() and not _is_mask(expected)):
        return []
    if plane.shape[0] > MOST_ROWS or plane.shape[1] > MOST_COLUMNS or wrong.size < 4:
        return []
    where = [] if wrong.ndim <= 2 or _is_thin(wrong) else [f"in [{', '.join(map(str, at[:-2]))}]:"]
    if plane.shape[0] == 1 and not _is_mask(expected):
        return []
    planes = [array.reshape(-1, array.shape[-1]) if _is_thin(array) else array[at[:-2]] for array in (got, expected)]
    if _is_mask(got) and _is_mask(expected):
        return [*where, *_two_masks(*map(_seen, planes))]
    cells = ["".join(OFF if cell else HIDDEN for cell in row) for row in plane]
    return [*where, *cells, f"{OFF} differs  {HIDDEN} equal"]


def _is_thin(array: np.ndarray) -> bool:
    """Whether all but two axes at most have one element: then one picture shows the whole."""
    return sum(size > 1 for size in array.shape[:-1]) <= 1


def _only_plane(array: np.ndarray) -> np.ndarray | None:
    if array.ndim < 2 or not _is_thin(array):
        return None
    plane = array.reshape(-1, array.shape[-1])
    return plane if plane.shape[0] <= MOST_ROWS and 1 < plane.shape[1] <= MOST_COLUMNS else None


def _is_mask(array: np.ndarray) -> bool:
    if array.dtype == bool:
        return True
    return array.dtype.kind == "f" and bool(np.isin(array, [0.0, -np.inf]).all()) and bool(np.isinf(array).any())


def _seen(array: np.ndarray) -> np.ndarray:
    return array if array.dtype == bool else array == 0


def _two_masks(got: np.ndarray, expected: np.ndarray) -> list[str]:
    """Side by side; in the first one, what differs stands out."""
    signs = {(True, True): SEEN, (False, False): HIDDEN, (True, False): EXTRA, (False, True): MISSING}
    width = max(got.shape[1], len("yours"))
    rows = [f"{'yours':{width}}  expected"]
    for mine, right in zip(got.tolist(), expected.tolist(), strict=True):
        cells = "".join(signs[pair] for pair in zip(mine, right, strict=True))
        rows.append(f"{cells:{width}}  {''.join(SEEN if cell else HIDDEN for cell in right)}")
    return [*rows, f"{SEEN} seen  {HIDDEN} hidden  {EXTRA} should be hidden  {MISSING} should be seen"]


def _compare_sequences(got: Sequence[Any], expected: Sequence[Any], names: Mapping[int, str]) -> tuple[str, ...]:
    """Both from a little before the first difference on, one over the other, and a caret under it."""
    first = next((i for i, pair in enumerate(itertools.zip_longest(got, expected, fillvalue=...)) if _unequal(*pair)), None)
    if first is None:
        return ()
    text = isinstance(got, str)
    for start in range(first + 1):  # the latest start is the difference itself
        lines, place = _aligned(got[start:], expected[start:], first - start, text, start > 0, names)
        if place < WIDTH * 2 // 3:
            break
    about = f"first difference: {'character' if text else 'item'} {first}"
    if len(got) != len(expected):
        about += f" (yours has {len(got)}, expected {len(expected)})"
    return (*(clip(line, WIDTH) for line in lines), " " * place + "^", about)


def _unequal(one: object, other: object) -> bool:
    try:
        return not bool(one == other)
    except Exception:  # of arrays within lists, say
        return repr(one) != repr(other)


def _aligned(
    got: Sequence[Any], expected: Sequence[Any], first: int, text: bool, cut: bool, names: Mapping[int, str]
) -> tuple[tuple[str, str], int]:
    """The two lines, and the column of item `first`, to which both are padded."""
    labels = ("yours     ", EXPECTED)
    if text:
        pieces = [[repr(letter)[1:-1] for letter in one[: first + WIDTH]] for one in (got, expected)]
        gap, left = "", "…" if cut else ""
    else:
        pieces = [[_item(item, names) for item in one[: first + WIDTH]] for one in (got, expected)]
        gap, left = ", ", "… " if cut else ""
    wide = [max(map(len, pair)) for pair in itertools.zip_longest(*pieces, fillvalue="")]
    lines = [
        f"{label}{left}{gap.join(piece.rjust(wide[i]) for i, piece in enumerate(one)) or '(nothing)'}"
        for label, one in zip(labels, pieces, strict=True)
    ]
    place = len(labels[0]) + len(left) + sum(wide[:first]) + len(gap) * first + max(wide[first] - 1, 0)
    return (lines[0], lines[1]), place


def _item(item: object, names: Mapping[int, str]) -> str:
    if id(item) in names:
        return names[id(item)]
    if isinstance(item, list | tuple) and any(id(part) in names for part in item):
        parts = ", ".join(_item(part, names) for part in item)
        return clip(f"[{parts}]" if isinstance(item, list) else f"({parts})", 24)
    return _number(item) if isinstance(item, float) else clip(describe(item), 24)


def _compare_mappings(got: Mapping[Any, Any], expected: Mapping[Any, Any]) -> tuple[str, ...]:
    lines = [
        f"at {key!r}: {describe(got[key], 30) if key in got else 'nothing'}, "
        f"expected {describe(expected[key], 30) if key in expected else 'nothing'}"
        for key in [*got, *(key for key in expected if key not in got)]
        if key not in got or key not in expected or _unequal(got[key], expected[key])
    ]
    return _few(lines)


def _compare_sets(got: Set[Any], expected: Set[Any]) -> tuple[str, ...]:
    differences = (("too many", got - expected), ("missing", expected - got))
    return tuple(clip(f"{name}: {', '.join(sorted(map(repr, items)))}", WIDTH) for name, items in differences if items)


def _few(lines: list[str], most: int = 4) -> tuple[str, ...]:
    more = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return tuple(clip(line, 2 * WIDTH) for line in lines[:most]) + tuple(more)


def _numbers(array: np.ndarray) -> str:
    if array.ndim == 0:
        return _number(array.item())
    return f"[{', '.join(_numbers(row) for row in array)}]"


def _number(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating):
        return f"{float(value):.6g}" if math.isfinite(value) else str(float(value))
    return str(value)


def clip(text: str, most: int) -> str:
    """The text in one line of at most `most` characters."""
    text = " ".join(text.split("\n")) if "\n" in text else text
    return text if len(text) <= most else f"{text[: most - 1]}…"
