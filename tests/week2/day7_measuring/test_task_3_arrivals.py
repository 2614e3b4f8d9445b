"""Task 3: when requests arrive. Statistics over many gaps, at five standard errors: chance exceeds that once in a million."""

from itertools import pairwise
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest

from answer import answer
from support import refuses

MANY = 20_000
SURE = 5
"""Standard errors that a figure may be away from what is expected. Seeds are fixed, so a right answer passes always or never;
it may draw in its own way, though."""


def gaps_of(rate: float, burstiness: float = 1.0, seed: int = 0, count: int = MANY) -> np.ndarray:
    """The gap before each arrival, the first one's from 0 on."""
    return np.diff(times_of(count, rate, burstiness, seed), prepend=0.0)


def times_of(count: int, *args: Any, **kwargs: Any) -> list[float]:
    times = answer.arrival_times(count, *args, **kwargs)
    assert len(times) == count, f"{len(times)} times for {count} requests"
    return times


def of_gamma(burstiness: float) -> tuple[float, float]:
    """The standard errors of mean and variance over `MANY` gaps of mean 1 with this shape.

    The variance of such a gap is 1 / shape, and its excess kurtosis 6 / shape.
    """
    variance = 1 / burstiness
    return sqrt(variance / MANY), variance * sqrt((2 + 6 / burstiness) / MANY)


# How many, and in which form.


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_task_3_arrivals_a_time_for_each_request(count: int) -> None:
    times = times_of(count, 3.0, seed=count)
    assert isinstance(times, list), f"a list of floats is wanted, and this is a {type(times).__name__}"
    assert all(type(time) is float for time in times), f"plain floats, which JSON can hold: {times}"


@pytest.mark.parametrize("burstiness", [0.05, 0.5, 1.0, 4.0])
def test_task_3_arrivals_ascend(burstiness: float) -> None:
    times = times_of(2000, 50.0, burstiness, seed=1)
    assert all(before <= after for before, after in pairwise([0.0, *times])), (
        "arrivals ascend from 0 on: gaps are added up, and none is negative"
    )


def test_task_3_arrivals_the_first_comes_after_a_gap_of_its_own() -> None:
    firsts = np.array([times_of(1, 2.0, seed=seed)[0] for seed in range(400)])
    error = 0.5 / sqrt(400)
    assert abs(firsts.mean() - 0.5) < SURE * error, (
        f"over 400 seeds the first request comes after {firsts.mean():.3f} s in the mean; a gap at 2 requests per second is"
        " 0.5 s, and the first request has one before it like all others"
    )


# The rate.


@pytest.mark.parametrize("rate", [0.02, 1.0, 4.0, 3000.0])
@pytest.mark.parametrize("burstiness", [0.25, 1.0, 9.0])
def test_task_3_arrivals_come_at_the_rate(rate: float, burstiness: float) -> None:
    mean = gaps_of(rate, burstiness, seed=3).mean() * rate
    allowed = SURE * of_gamma(burstiness)[0]
    assert abs(mean - 1) < allowed, (
        f"at {rate:g} requests per second and burstiness {burstiness:g} the mean gap is {mean:.3f} / rate, and should be"
        " 1 / rate (scale times shape), however bursty"
    )


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 9.0])
def test_task_3_arrivals_with_an_infinite_rate_all_come_at_once(burstiness: float) -> None:
    assert times_of(5, inf, burstiness) == [0.0] * 5, "with an infinite rate all are there at 0"


# How they are spread.


@pytest.mark.parametrize("burstiness", [0.25, 0.5, 1.0, 4.0, 25.0])
def test_task_3_arrivals_vary_as_the_burstiness_says(burstiness: float) -> None:
    variance = gaps_of(2.0, burstiness, seed=5).var() * 4
    allowed = SURE * of_gamma(burstiness)[1]
    assert abs(variance - 1 / burstiness) < allowed, (
        f"the variance of a gap is {variance:.3f} / rate² and should be 1 / (burstiness × rate²): {1 / burstiness:g} / rate²."
        " Burstiness is the shape of the gamma distribution; look at its scale"
    )


def test_task_3_arrivals_are_a_poisson_process_by_default() -> None:
    times = times_of(MANY, 10.0, seed=7)
    same = times == times_of(MANY, 10.0, 1.0, 7)  # pytest would take a minute to say where so many numbers differ
    assert same, "burstiness is 1 by default"
    gaps = np.diff(times, prepend=0.0)
    for age in (0.05, 0.1, 0.3):
        share = (gaps > age).mean()
        expected = np.exp(-10 * age)
        allowed = SURE * sqrt(expected * (1 - expected) / MANY)
        assert abs(share - expected) < allowed, (
            f"{share:.3f} of the gaps are longer than {age} s; gaps of a Poisson process at 10 per second are exponential, and"
            f" {expected:.3f} of them are"
        )
    counts = np.bincount(np.array(times).astype(int))[:-1]  # the last second is not over
    ratio = counts.var() / counts.mean()
    allowed = SURE * sqrt(2 / len(counts))
    assert abs(ratio - 1) < allowed, (
        f"arrivals per second have {ratio:.2f} times as much variance as mean; of a Poisson process both are the same"
    )


def test_task_3_arrivals_follow_a_gamma_distribution() -> None:
    """For shape 1/2, a squared normal, half the gaps are shorter than 0.455 of the mean; and for shapes 1/4, 2 and 4."""
    shares = [(0.5, 0.4549, 0.5), (0.5, 3.8415, 0.95), (2.0, 0.8392, 0.5), (2.0, 2.3719, 0.95), (4.0, 0.918, 0.5)]
    for burstiness, at, expected in [*shares, (4.0, 1.9384, 0.95), (0.25, 0.01, 0.2466)]:
        share = (gaps_of(1.0, burstiness, seed=9) < at).mean()
        allowed = SURE * sqrt(expected * (1 - expected) / MANY)
        assert abs(share - expected) < allowed, (
            f"with burstiness {burstiness} {share:.3f} of the gaps are below {at} of their mean, of gamma gaps {expected} are:"
            " mean and variance alone do not make the distribution"
        )


def test_task_3_arrivals_do_not_know_of_one_another() -> None:
    for burstiness in (0.25, 1.0, 9.0):
        gaps = gaps_of(5.0, burstiness, seed=11)
        for distance in (1, 2):
            correlation = np.corrcoef(gaps[:-distance], gaps[distance:])[0, 1]
            assert abs(correlation) < SURE / sqrt(MANY), (
                f"a gap and the one {distance} before it correlate by {correlation:.3f} at burstiness {burstiness}: each is"
                " drawn independently"
            )
        early, late = gaps[: MANY // 2].mean(), gaps[MANY // 2 :].mean()
        allowed = SURE * 0.2 * sqrt(2 / burstiness / (MANY // 2))
        assert abs(early - late) < allowed, (
            f"the gaps of the first half are {early:.4f} s in the mean, those of the second {late:.4f} s: the rate stays"
            " the same"
        )


@pytest.mark.parametrize("burstiness", [0.5, 1.0])
def test_task_3_arrivals_leave_the_end_to_chance(burstiness: float) -> None:
    seeds, count = 300, 100
    ends = np.array([times_of(count, 1.0, burstiness, seed)[-1] for seed in range(seeds)])
    deviation, expected = ends.std(), sqrt(count / burstiness)
    assert abs(deviation / expected - 1) < SURE / sqrt(2 * seeds), (
        f"over {seeds} seeds the last of {count} arrivals has a standard deviation of {deviation:.2f} / rate: the sum of"
        f" {count} independent gaps has {expected:.2f} / rate, so the times are not stretched to end when it is expected"
    )


def test_task_3_arrivals_with_an_infinite_burstiness_come_evenly() -> None:
    assert times_of(4, 2.0, inf) == pytest.approx([0.5, 1.0, 1.5, 2.0]), (
        "the larger the burstiness, the steadier: at infinity the variance of a gap is 0, and each is 1 / rate"
    )


# Seeds.


def test_task_3_arrivals_are_fixed_by_their_seed() -> None:
    first = times_of(50, 2.0, 0.5, seed=4)
    np.random.seed(1)
    np.random.random(10)
    assert times_of(50, 2.0, seed=0) == times_of(50, 2.0, seed=0) == times_of(50, 2.0), (
        "0 is a seed like any other, and the one that is taken by default"
    )
    assert times_of(50, 2.0, 0.5, seed=4) == first, "the same seed gives the same times, whatever else has been drawn"
    np.random.seed(2)
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    times_of(50, 2.0, 0.5, seed=4)
    assert (np.random.get_state()[1] == state).all(), (  # type: ignore[index]
        "numpy's global generator was used or seeded: other code that draws from it would get other numbers. Make your own"
    )


def test_task_3_arrivals_of_other_seeds_are_others() -> None:
    for burstiness in (0.5, 1.0):
        runs = [times_of(MANY // 4, 2.0, burstiness, seed=seed) for seed in range(4)]
        assert len({tuple(run) for run in runs}) == 4, "other seeds, other times"
        for first, second in pairwise(runs):
            for shift in (-1, 0, 1):
                correlation = np.corrcoef(np.diff(first)[1:-1], np.roll(np.diff(second), shift)[1:-1])[0, 1]
                assert abs(correlation) < SURE / sqrt(MANY // 4), (
                    f"the gaps of two seeds, shifted by {shift}, correlate by {correlation:.3f}: runs over several seeds would"
                    " measure the same thing again"
                )


def test_task_3_arrivals_of_large_seeds_are_others() -> None:
    seeds = [0, 1, 256, 1000, 65_536, 10**6, 2**31]
    runs = {tuple(times_of(10, 2.0, seed=seed)) for seed in seeds}
    assert len(runs) == len(seeds), f"seeds {seeds} give {len(runs)} lists of times, and should give one each"


def test_task_3_arrivals_keep_their_pattern_at_another_rate() -> None:
    """A sweep over rates compares like with like, and numbers of a seed are the same on every machine."""
    slow, fast = (np.array(times_of(100, rate, 0.5, seed=2)) for rate in (1.0, 8.0))
    assert np.allclose(slow, 8 * fast, rtol=1e-9), "the rate is a scale: the same seed at 8 times the rate is 8 times as fast"


# What is refused.


@pytest.mark.parametrize("rate", [0.0, -1.0, nan])
def test_task_3_arrivals_refuse_a_rate_that_is_not_above_0(rate: float) -> None:
    with refuses(ValueError, f"a rate of {rate}", named=str(rate)):
        answer.arrival_times(3, rate)


@pytest.mark.parametrize("burstiness", [0.0, -0.5, nan])
def test_task_3_arrivals_refuse_a_burstiness_that_is_not_above_0(burstiness: float) -> None:
    for rate in (2.0, inf):
        with refuses(ValueError, f"a burstiness of {burstiness}", named=str(burstiness)):
            answer.arrival_times(3, rate, burstiness)


def test_task_3_arrivals_refuse_a_negative_count() -> None:
    with refuses(ValueError, "a count of -1", named="-1"):
        answer.arrival_times(-1, 1.0)
    with refuses(ValueError, "a rate of 0 for no requests", named="0"):
        answer.arrival_times(0, 0.0)
