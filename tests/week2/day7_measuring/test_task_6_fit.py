"""Task 6: what calls cost, fitted to measured iterations."""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from answer import answer
from support import refuses

Iterations = list[tuple[list[Any], float]]
BENDS = (8, 32)
# About the size that they have on two cores of a computer: a call takes 50 ms, a pair of query and key 20 ns.
TRUE = (0.05, 0.001, 0.003, 0.002, 0.0005, 1e-5, 2e-8)


def decode(rows: int, longest: int) -> Any:
    return answer.Call(rows, rows, rows * longest, rows * longest)


def chunk(start: int, end: int, last: bool) -> Any:
    return answer.Call(end - start, int(last), end, (end - start) * end)


def by_hand(calls: Sequence[Any], weights: Sequence[float], bends: Sequence[int] = BENDS) -> float:
    """The sum, written out."""
    per_call, *per_token, per_output, per_key, per_pair = weights
    total = 0.0
    for call in calls:
        edges = [0, *bends, float("inf")]
        tokens = [max(0, min(call.tokens, high) - low) for low, high in pairwise(edges)]
        total += per_call + sum(n * weight for n, weight in zip(tokens, per_token, strict=True))
        total += call.outputs * per_output + call.context * per_key + call.pairs * per_pair
    return total


def recorded(seed: int = 0, count: int = 60) -> list[list[Any]]:
    """Iterations as an engine has them: decodes, chunks, or both."""
    random = np.random.default_rng(seed)
    iterations = []
    for i in range(count):
        calls = []
        if i % 3:
            calls.append(decode(int(random.integers(1, 17)), int(random.integers(10, 400))))
        if i % 3 != 1:
            start, size = int(random.integers(0, 200)), int(random.integers(1, 129))
            calls.append(chunk(start, start + size, bool(random.integers(2))))
        iterations.append(calls)
    return iterations


def measured(weights: Sequence[float] = TRUE, bends: Sequence[int] = BENDS, seed: int = 0) -> Iterations:
    return [(calls, by_hand(calls, weights, bends)) for calls in recorded(seed)]


def test_task_6_fit_seconds_by_hand() -> None:
    cost = answer.FittedCost((1000.0, 100.0, 10.0, 1.0, 0.1, 0.01, 0.001), (8, 32), 0.0)
    cases = {
        "3 tokens, below the first bend": (answer.Call(3, 0, 0, 0), 1300.0),
        "8 tokens, at the first bend": (answer.Call(8, 0, 0, 0), 1800.0),
        "10 tokens, 2 of them beyond the first bend": (answer.Call(10, 0, 0, 0), 1820.0),
        "32 tokens, at the second bend": (answer.Call(32, 0, 0, 0), 2040.0),
        "40 tokens, 24 and 8 of them beyond the bends": (answer.Call(40, 0, 0, 0), 2048.0),
        "an output": (answer.Call(0, 1, 0, 0), 1000.1),
        "a key of the context": (answer.Call(0, 0, 1, 0), 1000.01),
        "a pair": (answer.Call(0, 0, 0, 1), 1000.001),
    }
    for what, (call, expected) in cases.items():
        seconds = cost.seconds([call])
        assert seconds == pytest.approx(expected, abs=1e-6), (
            f"{what}: {seconds} s, by hand {expected}. The weights are seconds per call, per token up to the first bend, from"
            " it up to the second, and beyond, per output, per key, and per pair"
        )


def test_task_6_fit_each_call_has_its_own_bends() -> None:
    cost = answer.FittedCost((1000.0, 100.0, 10.0, 0.0, 0.0, 0.0), (8,), 0.0)
    calls = [answer.Call(6, 0, 0, 0), answer.Call(6, 0, 0, 0)]
    assert cost.seconds(calls) == pytest.approx(3200), (
        f"{cost.seconds(calls)} s for two calls of 6 tokens, by hand 2 × 1600: neither comes to the bend at 8, and each reads"
        " the weights again"
    )
    assert cost.seconds([]) == 0, "no call, no time"


@pytest.mark.parametrize("bends", [(8, 32), (), (16,), (4, 16, 64)])
def test_task_6_fit_known_weights_are_found_again(bends: tuple[int, ...]) -> None:
    slopes = (0.001, 0.003, 0.002, 0.0015)[: len(bends) + 1]
    weights = (0.05, *slopes, 0.0005, 1e-5, 2e-8)
    fit = answer.fit_cost(measured(weights, bends), bends)
    assert len(fit.weights) == len(weights), (
        f"{len(fit.weights)} weights with {len(bends)} bends: there should be one per call, {len(bends) + 1} per token, and one"
        " each per output, key and pair"
    )
    # The numbers are exact but for rounding, and the weights lie up to seven orders of magnitude apart.
    for what, found, true in zip(range(len(weights)), fit.weights, weights, strict=True):
        assert found == pytest.approx(true, rel=1e-4), (
            f"weight {what} is {found}, and the iterations were made with {true}: all are {fit.weights}"
        )
    assert tuple(fit.bends) == bends, f"the fit keeps its bends: {fit.bends} instead of {bends}"
    assert fit.error == pytest.approx(0, abs=1e-6), f"it predicts each iteration, yet its error is said to be {fit.error}"


def test_task_6_fit_prices_of_a_fast_machine_are_found_again() -> None:
    """On a GPU a pair of query and key takes some 1e-16 s."""
    weights = tuple(weight * 1e-8 for weight in TRUE)
    fit = answer.fit_cost(measured(weights))
    assert fit.weights == pytest.approx(weights, rel=1e-4, abs=0), (
        f"the weights are {fit.weights}, and the iterations were made with {weights}: small prices are prices, too"
    )


def test_task_6_fit_every_iteration_counts() -> None:
    """One and the same call takes now 1 s, now 3 or 4 s. The sum of (p / t − 1)² is least at p = Σ 1/t / Σ 1/t²."""
    calls = [decode(8, 100)]
    for times in ([3.0] * 1500 + [1.0] * 1500, [4.0] + [1.0] * 199):
        iterations = [(calls, seconds) for seconds in times]
        best = sum(1 / t for t in times) / sum(1 / t**2 for t in times)
        fit = answer.fit_cost(iterations)
        assert fit.seconds(calls) == pytest.approx(best, rel=1e-6), (
            f"{times.count(times[0])} iterations took {times[0]:g} s and {times.count(1.0)} took 1 s. All of them count, the"
            f" late and the slow, too, so {best:.4f} s is best, and {fit.seconds(calls):.4f} s is predicted"
        )
        error = sum(abs(best / t - 1) for t in times) / len(times)
        assert fit.error == pytest.approx(error, rel=1e-6), f"error is the mean over all iterations, {error}, not {fit.error}"
        assert [seconds for _, seconds in iterations] == times, "the record is the caller's: leave it in its order"


def test_task_6_fit_what_was_fitted_predicts_other_iterations() -> None:
    fit = answer.fit_cost(measured())
    for calls in recorded(seed=1):
        assert fit.seconds(calls) == pytest.approx(by_hand(calls, TRUE), rel=1e-4), (
            f"{fit.seconds(calls)} s predicted for {calls}, which would take {by_hand(calls, TRUE)} s: is an iteration the sum"
            " of its calls, in the fit as in the prediction?"
        )


def test_task_6_fit_errors_are_relative() -> None:
    calls = [decode(8, 100)]
    fit = answer.fit_cost([(calls, 1.0), (calls, 3.0)] * 10)
    assert fit.seconds(calls) == pytest.approx(1.2, rel=1e-6), (
        f"one and the same call took 1 s and 3 s, and {fit.seconds(calls):.3f} s is predicted. The sum of ((predicted −"
        " measured) / measured)² is least at 1.2 s; seconds themselves, squared, would say 2"
    )
    assert fit.error == pytest.approx(0.4, rel=1e-6), (
        "predicted 1.2 s, measured 1 s and 3 s: that is wrong by 20 % and by 60 %, on average by 40 %, but error is"
        f" {fit.error}"
    )


def noisy(seed: int) -> Iterations:
    """Iterations that get shorter the longer their context is, which no cost explains; and noise of 10 %."""
    random = np.random.default_rng(seed)
    return [
        (calls, by_hand(calls, TRUE) * random.normal(1, 0.1) / (1 + sum(call.context for call in calls) / 2000))
        for calls in recorded(seed)
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_task_6_fit_no_weight_is_below_0_and_the_others_are_the_best(seed: int) -> None:
    iterations = noisy(seed)
    fit = answer.fit_cost(iterations, (8,))
    assert min(fit.weights) >= 0, f"weights are {fit.weights}: nothing takes less time for computing more"
    table = np.array([[by_hand(calls, unit, (8,)) for unit in np.eye(6)] for calls, _ in iterations])
    table /= np.array([seconds for _, seconds in iterations])[:, None]
    best = min(_squares(table, list(chosen)) for chosen in product([False, True], repeat=6))
    found = float(((table @ np.array(fit.weights) - 1) ** 2).sum())
    assert found <= best * (1 + 1e-6), (
        f"the squares of the relative errors add up to {found:.4f}, and weights that are not negative can do with {best:.4f}:"
        " when one weight is held at 0, the others have to be fitted again"
    )


def _squares(table: np.ndarray, chosen: list[bool]) -> float:
    """The sum of squares with only these weights, where none comes out negative."""
    if not any(chosen):
        return float(len(table))
    part = table[:, chosen]
    weights = np.linalg.lstsq(part, np.ones(len(part)), rcond=None)[0]
    return float(((part @ weights - 1) ** 2).sum()) if weights.min() >= 0 else float("inf")


def test_task_6_fit_what_never_occurs_does_no_harm() -> None:
    iterations = [(calls, by_hand(calls, TRUE)) for calls in ([decode(rows, 50)] for rows in range(1, 9)) for _ in range(2)]
    fit = answer.fit_cost(iterations)
    assert (len(fit.weights), tuple(fit.bends)) == (7, BENDS), f"the bends stay those that were asked for: {fit}"
    assert np.isfinite(fit.weights).all(), f"no call had more than 8 tokens, and the weights are {fit.weights}"
    assert fit.error == pytest.approx(0, abs=1e-6), f"decodes of 1 to 8 rows lie on a line, and the error is {fit.error}"


def test_task_6_fit_too_few_iterations_are_refused() -> None:
    iterations = measured()
    assert len(answer.fit_cost(iterations[:7]).weights) == 7, "7 iterations are enough for 7 weights"
    with refuses(ValueError, "6 iterations cannot tell 7 weights: two bends make 3 weights for tokens", named="6"):
        answer.fit_cost(iterations[:6])
    with refuses(ValueError, "7 iterations cannot tell 8 weights: three bends make 4 weights for tokens", named="7"):
        answer.fit_cost(iterations[:7], (8, 16, 32))


@pytest.mark.parametrize("seconds", [0.0, -0.1])
def test_task_6_fit_an_iteration_that_took_no_time_is_refused(seconds: float) -> None:
    iterations = measured()
    answer.fit_cost(iterations)
    calls, _ = iterations[5]
    look_at = f"an iteration of {seconds} s should be refused: an error relative to it means nothing"
    with refuses(ValueError, look_at, named="0"):  # a number, and not what a solver says of infinite ones
        answer.fit_cost([*iterations, (calls, seconds)])


def test_task_6_fit_a_bend_after_the_first_token() -> None:
    """Each call has a first token, so its weight and that of a call cannot be told apart; the sum can."""
    iterations = measured((0.05, 0.001, 0.003, *TRUE[-3:]), (1,))
    fit = answer.fit_cost(iterations, (1,))
    for calls, seconds in iterations:
        assert fit.seconds(calls) == pytest.approx(seconds), f"{fit.seconds(calls)} s instead of {seconds} s for {calls}"


@pytest.mark.parametrize("bends", [(32, 8), (8, 8), (0, 8), (-1,)])
def test_task_6_fit_bends_that_do_not_ascend_are_refused(bends: tuple[int, ...]) -> None:
    iterations = measured()
    answer.fit_cost(iterations)
    with refuses(ValueError, f"bends of {bends} should be refused: they must ascend, from above 0"):
        answer.fit_cost(iterations, bends)


def test_task_6_fit_whether_launching_waits_is_kept() -> None:
    iterations = measured()
    assert answer.fit_cost(iterations, launch_waits=True).launch_waits is True, "the fit is told, and the simulator asks it"
    assert answer.fit_cost(iterations).launch_waits is False, "without a word about it launching does not wait"
