"""How two values differ, in words and small pictures, and what a failing test had called."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

from tiny_llm_kit.course.differences import WIDTH, compare, describe, draw_mask


@dataclass
class Weight:
    numbers: mx.array
    bits: int


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (mx.array([[0.0, 1.5], [900, 901]]), "float32 (2, 2): [[0, 1.5], [900, 901]]"),
        (mx.zeros((3, 4, 5), mx.bfloat16), "bfloat16 (3, 4, 5)"),
        (np.full((4, 5), np.nan, np.float32), "float32 (4, 5), with 20 nan"),
        (np.zeros(2), "(2,): [0, 0]"),
        (mx.array([True, False]), "bool (2,): [True, False]"),
        (mx.float16, "float16"),
        (mx.full((3, 4), 0.123456), "float32 (3, 4)"),
        ([mx.zeros((3, 9)), mx.zeros(20)], "[float32 (3, 9), float32 (20,)]"),
        (Weight(mx.zeros((3, 9)), 4), "Weight(numbers=float32 (3, 9), bits=4)"),
        ("a\nb", r"'a\nb'"),
        (list(range(100)), "[0, 1, 2, 3,"),
    ],
)
def test_a_value_is_described_in_one_line(value: object, told: str) -> None:
    said = describe(value)
    assert said.startswith(told)
    assert len(said) <= 120
    assert "\n" not in said


def test_two_masks_are_drawn_side_by_side_and_what_differs_stands_out() -> None:
    expected = np.where(np.tril(np.ones((2, 4)), 2) == 1, 0.0, -np.inf)
    got = mx.array(np.where(np.tril(np.ones((2, 4)), 1) == 1, 0.0, -np.inf).astype(np.float32))
    got[0, 3] = 0.0
    first, heading, *rows, legend = compare(got, expected)
    assert first == "3 of 8 differ, first at [0, 2]: -inf, expected 0"
    assert heading.split() == ["yours", "expected"]
    assert [row.split() for row in rows] == [["■■-+", "■■■·"], ["■■■-", "■■■■"]]
    assert "should be seen" in legend


def test_numbers_that_differ_are_shown_in_their_plane() -> None:
    expected = np.zeros((2, 3, 4))
    got = expected.copy()
    got[1, :, 2] = 5
    assert compare(got, expected)[:5] == (
        "3 of 24 differ, first at [1, 0, 2]: 5, expected 0",
        "in [1]:",
        "··X·",
        "··X·",
        "··X·",
    )


def test_shapes_that_differ_are_told_before_numbers() -> None:
    assert compare(mx.zeros((2, 3)), np.zeros((3, 2))) == ("the shape is (2, 3), expected (3, 2)",)


def test_what_differs_by_less_than_the_tolerance_does_not_count() -> None:
    got, expected = np.array([1.0, 2.01, 4.0]), np.array([1.0, 2.0, 3.0])
    assert compare(got, expected, 0.1)[0] == "1 of 3 differ, first at [2]: 4, expected 3"


@pytest.mark.parametrize(
    ("got", "expected", "caret_under", "about"),
    [
        ([30, 31, 12], [30, 31, 8], "8", "item 2"),
        ([30, 31], [30, 31, 9], "9", "item 2 (yours has 2, expected 3)"),
        ([1, 2, 700], [1, 2], "700", "item 2 (yours has 3, expected 2)"),
        (list(range(100)), [*range(60), 7, *range(61, 100)], "7", "item 60"),
        ("hello wurld", "hello world", "o", "character 7"),
        ((1, [2, 3]), (1, [2, 4]), "]", "item 1"),
    ],
)
def test_a_caret_stands_under_the_first_difference(got: object, expected: object, caret_under: str, about: str) -> None:
    yours, right, caret, told = compare(got, expected)
    place = caret.index("^")
    shown = right if len(right) > place else yours
    assert shown[: place + 1].endswith(caret_under)
    assert told == f"first difference: {about}"
    assert max(map(len, (yours, right, caret))) <= WIDTH
    assert yours[:10].strip() == "yours"
    assert right[:10].strip() == "expected"


def test_objects_in_sequences_go_by_what_the_test_calls_them() -> None:
    first, second = object(), object()
    names = {id(first): "first", id(second): "queue[1]"}
    assert [line.split() for line in compare([first, second], [second, first], names=names)[:2]] == [
        ["yours", "first,", "queue[1]"],
        ["expected", "queue[1],", "first"],
    ]
    assert compare([(first, 2)], [(first, 3)], names=names)[0].split() == ["yours", "(first,", "2)"]
    assert compare(([first], 2), ([], 2), names=names)[0].split() == ["yours", "[first],", "2"]


def test_tables_and_sets_name_what_differs_only() -> None:
    assert compare({"a": 1, "b": 2}, {"a": 1, "c": 3}) == ("at 'b': 2, expected nothing", "at 'c': nothing, expected 3")
    assert compare({1, 2}, {2, 3}) == ("too many: 1", "missing: 3")


@pytest.mark.parametrize("value", [5, 2.5, None, "x", [1, 2]])
def test_equal_values_have_no_difference(value: object) -> None:
    assert compare(value, value) == ()


def test_only_a_small_mask_is_drawn_alone() -> None:
    mask = np.where(np.tril(np.ones((2, 3)), 1) == 1, 0.0, -np.inf)
    assert draw_mask(mx.array(mask))[:2] == ("■■·", "■■■")
    assert draw_mask(mask[:, None, None, :])[:2] == ("■■·", "■■■"), "the middle axes of one element are no planes"
    assert draw_mask(np.ones((2, 3))) == ()
    assert draw_mask(np.full((40, 40), -np.inf)) == ()
    assert draw_mask([[True, False]]) == ()
