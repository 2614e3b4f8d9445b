"""Task 2: percentiles, written by hand and compared with numpy's, and the spread of a figure."""

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer import answer
from support import refuses

SECONDS = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(SECONDS, min_size=1, max_size=40), st.floats(0, 100))
def test_task_2_percentile_is_what_numpy_says(values: list[float], percent: float) -> None:
    expected = float(np.percentile(values, percent))
    assert answer.percentile(values, percent) == pytest.approx(expected, rel=1e-9, abs=1e-12), (
        f"{percent} % of {values}: sort them; the first stands for 0 %, the last for 100 %, and the others at equal distances"
    )


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 10), (12.5, 15), (25, 20), (50, 30), (60, 38), (75, 50), (90, 80), (100, 100)]
)
def test_task_2_percentile_interpolates(percent: float, expected: float) -> None:
    values = [50, 10, 100, 30, 20]
    assert answer.percentile(values, percent) == pytest.approx(expected), (
        f"{percent} % of 10, 20, 30, 50, 100, which stand for 0, 25, 50, 75 and 100 %: between two of them it moves evenly"
    )


@pytest.mark.parametrize("percent", [0, 37, 99, 100])
def test_task_2_percentile_of_one_value(percent: float) -> None:
    assert answer.percentile([7.5], percent) == 7.5, "of a single value, every percentile is that value"


def test_task_2_percentile_of_two_values() -> None:
    assert [answer.percentile([4, 2], percent) for percent in (0, 50, 99, 100)] == pytest.approx([2, 3, 3.98, 4]), (
        "2 stands for 0 %, 4 for 100 %, and 99 % lies just below 4: with few values a p99 is hardly more than the largest"
    )


def test_task_2_percentile_is_not_rounded() -> None:
    assert answer.percentile([1e-6, 2e-6, 3e-6], 75) == pytest.approx(2.5e-6), "seconds between tokens may be very small"
    many = list(range(1001))
    assert answer.percentile(many, 99.9) == pytest.approx(999), "99.9 % of 0, 1 … 1000: percent need not be a whole number"


def test_task_2_percentile_leaves_the_values_as_they_are() -> None:
    values = [3.0, 1.0, 2.0]
    assert answer.percentile(values, 50) == answer.percentile(tuple(values), 50) == 2, "a tuple has a median like a list"
    assert values == [3, 1, 2], "the caller's list is not sorted for him: others may need its order"


@pytest.mark.parametrize("percent", [-0.001, -1, 100.001, 150, float("nan")])
def test_task_2_percentile_has_to_lie_between_0_and_100(percent: float) -> None:
    with refuses(ValueError, f"percentile, of {percent} per cent", named=f"{percent}"):
        answer.percentile([1.0, 2.0, 3.0], percent)


def test_task_2_percentile_of_nothing() -> None:
    for nothing in ([], ()):
        with refuses(ValueError, "percentile, of no values at all (spread says what is reported then)"):
            answer.percentile(nothing, 50)


def test_task_2_percentile_is_written_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a library's percentile was called: write the few lines yourself, this once")

    for name in ("percentile", "quantile", "nanpercentile", "nanquantile", "median", "interp"):
        monkeypatch.setattr(np, name, refuse)
    for name in ("quantiles", "median"):
        monkeypatch.setattr(statistics, name, refuse)
    assert answer.percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.5, "the median of 1, 2, 3 and 4"


# The spread of a figure.


def numbers(spread: Any) -> tuple[float, ...]:
    return (spread.mean, spread.p50, spread.p95, spread.p99)


@given(st.lists(SECONDS, min_size=1, max_size=60))
def test_task_2_spread_is_the_mean_and_three_percentiles(values: list[float]) -> None:
    expected = (float(np.mean(values)), *(float(np.percentile(values, percent)) for percent in (50, 95, 99)))
    assert numbers(answer.spread(values)) == pytest.approx(expected, rel=1e-9, abs=1e-12), f"mean, p50, p95 and p99 of {values}"


def test_task_2_spread_of_nothing() -> None:
    assert numbers(answer.spread([])) == (0, 0, 0, 0), "where no request has a figure, its spread is all 0, and no error"


def test_task_2_spread_shows_what_a_mean_hides() -> None:
    alike, torn = answer.spread([1.0] * 100), answer.spread([0.5] * 95 + [10.5] * 5)
    assert alike.mean == pytest.approx(torn.mean), "two servers with a mean of one second"
    assert (alike.p50, alike.p99) == (1, 1), "the first is the same for all"
    assert (torn.p50, torn.p99) == (0.5, 10.5), "the second lets one user in twenty wait ten times as long"
