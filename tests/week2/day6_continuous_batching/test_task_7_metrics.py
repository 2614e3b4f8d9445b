"""Task 7: metrics. Times are powers of two or small sums of them, so that every figure is exact. The engine's own events
come with task 4: see test_task_4_metrics.py."""

import gc
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest

from answer import answer
from support import refuses

ARRIVED, ADMITTED, FIRST_TOKEN, FINISHED = (
    answer.EventKind.ARRIVED,
    answer.EventKind.ADMITTED,
    answer.EventKind.FIRST_TOKEN,
    answer.EventKind.FINISHED,
)
FIGURES = ("queue_time", "ttft", "tpot", "latency")


def state(time: float, active: int = 0, queue: int = 0, new_tokens: int = 0, events: Any = (), slots: int = 4) -> Any:
    return answer.BatchState(time, active, slots, queue, new_tokens, [answer.Event(*event) for event in events])


def served(
    request_id: int, arrived: float, queue_time: float, ttft: float, tpot: float, tokens: int
) -> list[tuple[float, Any, int, int]]:
    """The events of a request that was served, so that its figures are these; its latency is ttft + tpot · (tokens − 1)."""
    end = arrived + ttft + tpot * (tokens - 1)
    return [
        (arrived, ARRIVED, request_id, 0),
        (arrived + queue_time, ADMITTED, request_id, 0),
        (arrived + ttft, FIRST_TOKEN, request_id, 0),
        (end, FINISHED, request_id, tokens),
    ]


def told_of(*requests: Sequence[tuple[float, Any, int, int]]) -> Any:
    """Metrics that have heard of these requests' events, in the order of their times and in several iterations."""
    metrics, events = answer.BatchingMetrics(), sorted((event for request in requests for event in request), key=lambda e: e[0])
    for begin in range(0, len(events), 3):
        metrics.update(state(events[begin : begin + 3][-1][0], events=events[begin : begin + 3]))
    return metrics


def two_requests() -> Any:
    """Request 1 waits 1 s, speaks after 2 s, and ends after 6 s with 5 tokens. Request 2: 2.5, 4, and 4 s with 1 token."""
    metrics = answer.BatchingMetrics()
    metrics.update(state(11, 1, 1, 0, [(10, ARRIVED, 1), (10.5, ARRIVED, 2), (11, ADMITTED, 1)]))
    metrics.update(state(13, 2, 0, 1, [(12, FIRST_TOKEN, 1), (13, ADMITTED, 2)]))
    metrics.update(state(14.5, 2, 0, 3, [(14.5, FIRST_TOKEN, 2), (14.5, FINISHED, 2, 1)]))
    metrics.update(state(16, 1, 0, 2, [(16, FINISHED, 1, 5)]))
    return metrics


def test_task_7_before_anything_happened() -> None:
    metrics = answer.BatchingMetrics()
    for name in ("throughput_tokens_per_sec", "average_latency", "slot_utilization"):
        assert getattr(metrics, name) == 0, f"{name} is 0 before anything has happened: no division by zero"
    for name in FIGURES:
        assert metrics.values(name) == [], f"no request has a {name} yet"
        assert metrics.percentiles(name) == {"p50": 0, "p95": 0, "p99": 0}, f"percentiles of {name} are 0 if no request has it"


def test_task_7_after_idle_iterations() -> None:
    metrics = answer.BatchingMetrics()
    for time in (1, 2):
        metrics.update(state(time))
    assert metrics.steps == 2, "an iteration in which nothing happened is an iteration"
    assert metrics.throughput_tokens_per_sec == 0, "no request has arrived, so there is no time to count from"
    assert (metrics.slot_utilization, metrics.slot_utilization_while_waiting) == (0, 1), (
        "no slot was in use, and none was wanted"
    )


# Counts.


def test_task_7_requests_are_counted() -> None:
    metrics = answer.BatchingMetrics()
    seen = []
    for step in (
        state(1, 1, 2, 0, [(0, ARRIVED, 1), (0, ARRIVED, 2), (0, ARRIVED, 3), (1, ADMITTED, 1)]),
        state(2, 3, 0, 1, [(2, ADMITTED, 2), (2, ADMITTED, 3), (2, FIRST_TOKEN, 1)]),
        state(3, 2, 1, 1, [(3, FINISHED, 1, 1), (3, ARRIVED, 4)]),
        state(4, 2, 0, 0, [(4, FINISHED, 4, 0)]),
    ):
        metrics.update(step)
        seen.append((metrics.total_requests, metrics.active_requests, metrics.queue_size, metrics.finished_requests))
    assert seen == [(3, 1, 2, 0), (3, 3, 0, 0), (4, 2, 1, 1), (4, 2, 0, 2)], (
        "total_requests counts arrivals, finished_requests ends of every kind; active_requests and queue_size are those of the"
        " last state"
    )
    assert metrics.steps == 4, "steps counts iterations"


def test_task_7_tokens_are_those_of_all_iterations() -> None:
    metrics = answer.BatchingMetrics()
    for step, tokens in enumerate((4, 0, 1, 8)):
        metrics.update(state(step, new_tokens=tokens))
    assert metrics.total_tokens == 13, "total_tokens is the sum of new_tokens, whether their requests have finished or not"


# Means over the run.


def test_task_7_throughput() -> None:
    metrics = two_requests()
    assert metrics.throughput_tokens_per_sec == 6 / (16 - 10), "6 tokens between the first arrival and the last iteration"
    metrics.update(state(18))
    assert metrics.throughput_tokens_per_sec == 6 / (18 - 10), "an idle iteration takes time, too"


def test_task_7_throughput_counts_from_the_first_arrival() -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(2))
    metrics.update(state(6, 1, 0, 2, [(4, ARRIVED, 1), (5, ARRIVED, 2)]))
    assert metrics.throughput_tokens_per_sec == 2 / (6 - 4), "from the first arrival at 4, not from the iteration before it"
    metrics.update(state(20, 1, 0, 14, [(12, ARRIVED, 3)]))
    assert metrics.throughput_tokens_per_sec == 16 / (20 - 4), "the first arrival stays the first"


def test_task_7_throughput_from_a_clock_that_starts_at_zero() -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(1, 1, 0, 1, [(0, ARRIVED, 1)]))
    metrics.update(state(4, 1, 0, 7, [(2, ARRIVED, 2)]))
    assert metrics.throughput_tokens_per_sec == 8 / 4, "0 is a time like any other: the first arrival was at 0"


def test_task_7_throughput_of_a_short_run() -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(1 / 256, 1, 0, 3, [(0, ARRIVED, 1)]))
    assert metrics.throughput_tokens_per_sec == 3 * 256, "3 tokens in 1/256 s: a run may be much shorter than a second"


def test_task_7_throughput_of_no_time_at_all() -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(3, 1, 0, 5, [(3, ARRIVED, 1)]))
    assert metrics.throughput_tokens_per_sec == 0, "no time has passed since the arrival: no division by zero"


def test_task_7_average_latency() -> None:
    assert two_requests().average_latency == (6 + 4) / 2, "request 1 took 6 s from its arrival to its end, request 2 took 4 s"


def test_task_7_average_latency_counts_every_end() -> None:
    cancelled = [(0.0, ARRIVED, 1, 0), (16.0, FINISHED, 1, 0)]
    broken = [(1.0, ARRIVED, 2, 0), (2.0, ADMITTED, 2, 0), (9.0, FINISHED, 2, 0)]
    open_still = [(0.0, ARRIVED, 3, 0), (2.0, ADMITTED, 3, 0)]
    metrics = told_of(cancelled, broken, open_still, served(4, arrived=2, queue_time=1, ttft=2, tpot=1, tokens=3))
    assert metrics.average_latency == (16 + 8 + 4) / 3, "over all that have finished, however they ended, and no others"


def test_task_7_slot_utilization_is_a_mean_over_iterations() -> None:
    metrics = answer.BatchingMetrics()
    for time, active in ((1, 4), (2, 3), (16, 1), (17, 0)):
        metrics.update(state(time, active))
    assert metrics.slot_utilization == (4 + 3 + 1 + 0) / (4 * 4), (
        "each iteration counts once, however long it took, idle ones too"
    )


def test_task_7_utilization_while_somebody_waits() -> None:
    metrics = answer.BatchingMetrics()
    assert metrics.slot_utilization_while_waiting == 1, "no request has waited, so no slot was free that one wanted"
    metrics.update(state(1, 2))
    assert metrics.slot_utilization_while_waiting == 1, "still none has waited"
    for active, queue in ((4, 3), (1, 1), (1, 0), (0, 0)):
        metrics.update(state(1, active, queue))
    assert metrics.slot_utilization_while_waiting == (4 + 1) / (2 * 4), (
        "iterations with an empty queue do not count, and of the others each counts once, however many waited"
    )
    assert metrics.slot_utilization == (2 + 4 + 1 + 1 + 0) / (5 * 4), "here they all do"


# Figures of each request.


@pytest.mark.parametrize(
    ("name", "expected", "meaning"),
    [
        ("queue_time", [1, 2.5], "from arrived to admitted"),
        ("ttft", [2, 4], "from arrived to first token"),
        ("latency", [4, 6], "from arrived to finished"),
        ("tpot", [1], "(finished - first token) / (tokens - 1), of requests with two tokens or more"),
    ],
)
def test_task_7_figures_of_each_request(name: str, expected: list[float], meaning: str) -> None:
    assert sorted(two_requests().values(name)) == expected, f"{name} is {meaning}"


def test_task_7_figures_do_not_hang_on_iterations() -> None:
    requests = [
        served(1, arrived=0, queue_time=0.5, ttft=4, tpot=0.25, tokens=9),
        served(2, arrived=0.25, queue_time=8, ttft=16, tpot=2, tokens=2),
        served(3, arrived=32, queue_time=0, ttft=1, tpot=64, tokens=5),
        served(4, arrived=1, queue_time=2, ttft=32, tpot=0, tokens=1),
    ]
    in_one = answer.BatchingMetrics()
    in_one.update(state(512, events=sorted((event for request in requests for event in request), key=lambda e: e[0])))
    expected = {
        "queue_time": [0, 0.5, 2, 8],
        "ttft": [1, 4, 16, 32],
        "tpot": [0.25, 2, 64],
        "latency": [6, 18, 32, 257],
    }
    for metrics in (told_of(*requests), in_one):
        assert {name: sorted(metrics.values(name)) for name in FIGURES} == expected, (
            "events of one request may come in one iteration or in many; figures come from the events' own times"
        )


@pytest.mark.parametrize(
    ("happened", "figures"),
    [
        ([], {}),
        ([(2, ADMITTED, 7)], {"queue_time": 2}),
        ([(2, ADMITTED, 7), (8, FIRST_TOKEN, 7)], {"queue_time": 2, "ttft": 8}),
        ([(2, ADMITTED, 7), (8, FIRST_TOKEN, 7), (16, FINISHED, 7, 3)], {"queue_time": 2, "ttft": 8, "tpot": 4, "latency": 16}),
        ([(2, ADMITTED, 7), (8, FIRST_TOKEN, 7), (16, FINISHED, 7, 1)], {"queue_time": 2, "ttft": 8, "latency": 16}),
        ([(2, ADMITTED, 7), (16, FINISHED, 7, 0)], {"queue_time": 2, "latency": 16}),
        ([(16, FINISHED, 7, 0)], {"latency": 16}),
    ],
    ids=["waits", "admitted", "speaks", "ended", "ended with one token", "cancelled before it spoke", "cancelled as it waited"],
)
def test_task_7_a_request_has_the_figures_it_has_come_to(happened: list[Any], figures: dict[str, float]) -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(32, events=[(0, ARRIVED, 7), *happened]))
    expected = {name: [figures[name]] if name in figures else [] for name in FIGURES}
    assert {name: metrics.values(name) for name in FIGURES} == expected, (
        "a figure counts as soon as both its events have happened, and only then; tpot wants two tokens or more"
    )
    assert metrics.average_latency == figures.get("latency", 0), "a request that has not ended has no latency"


def test_task_7_of_one_whose_arrival_was_lost_nothing_is_kept() -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(8, 1, 0, 1, [(2, ADMITTED, 1), (4, FIRST_TOKEN, 1), (8, FINISHED, 1, 1)]))
    metrics.update(state(9, 1, 0, 0, [(8, ARRIVED, 2), (9, FINISHED, 2, 0)]))
    assert metrics.values("latency") == [1], "an interrupted iteration may lose an arrival; without it there are no figures"
    assert metrics.average_latency == 1, "without an arrival there is no latency"


def test_task_7_an_unknown_figure_is_refused() -> None:
    for metrics in (two_requests(), answer.BatchingMetrics()):
        with refuses(ValueError, "values, of a figure that is none of the four"):
            metrics.values("speed")
        with refuses(ValueError, "percentiles, of a figure that is none of the four"):
            metrics.percentiles("speed")


# Percentiles.


@pytest.mark.parametrize("name", FIGURES)
def test_task_7_percentiles_of_each_figure(name: str) -> None:
    figures = {
        "queue_time": [1.0, 2, 4, 8, 16],
        "ttft": [32.0, 64, 128, 256, 512],
        "tpot": [0.25, 0.5, 1, 2, 1024],
    }
    requests = [
        served(place, arrived=place, queue_time=queue, ttft=ttft, tpot=tpot, tokens=5)
        for place, (queue, ttft, tpot) in enumerate(zip(*figures.values(), strict=True))
    ]
    figures["latency"] = [ttft + 4 * tpot for ttft, tpot in zip(figures["ttft"], figures["tpot"], strict=True)]
    expected = {f"p{p}": float(np.percentile(figures[name], p)) for p in (50, 95, 99)}
    assert told_of(*reversed(requests)).percentiles(name) == pytest.approx(expected), (
        f"the values of {name} are {figures[name]}: p50 is their median, and between two values it is interpolated"
    )


def test_task_7_percentiles_interpolate() -> None:
    many = told_of(*([(0.0, ARRIVED, i, 0), (float(i), FINISHED, i, 1)] for i in range(101)))
    assert many.percentiles("latency") == pytest.approx({"p50": 50, "p95": 95, "p99": 99}), "of 0, 1, 2 … 100 s"
    few = answer.BatchingMetrics()
    few.update(state(9, events=[(0, ARRIVED, 1), (0, ARRIVED, 2), (1, FINISHED, 1, 1), (2, FINISHED, 2, 1)]))
    assert few.percentiles("latency") == pytest.approx({"p50": 1.5, "p95": 1.95, "p99": 1.99}), "between 1 s and 2 s"
    one = told_of(served(1, arrived=0, queue_time=1, ttft=4, tpot=2, tokens=3))
    assert one.percentiles("ttft") == {"p50": 4, "p95": 4, "p99": 4}, "of one value, each is that value"


def test_task_7_percentiles_are_not_rounded() -> None:
    small = told_of(*([(0.0, ARRIVED, i, 0), (i / 1024**2, FINISHED, i, 1)] for i in range(3)))
    expected = {f"p{p}": float(np.percentile([0, 1, 2], p)) / 1024**2 for p in (50, 95, 99)}
    assert small.percentiles("latency") == pytest.approx(expected), "of 0, 1 and 2 microseconds, or nearly: a figure in seconds"


def test_task_7_percentiles_know_who_is_still_on_the_way() -> None:
    ended = served(1, arrived=0, queue_time=1, ttft=4, tpot=2, tokens=3)
    speaks = [(0.0, ARRIVED, 2, 0), (3.0, ADMITTED, 2, 0), (8.0, FIRST_TOKEN, 2, 0)]
    metrics = told_of(ended, speaks)
    assert (metrics.percentiles("queue_time")["p50"], metrics.percentiles("ttft")["p50"]) == (2, 6), (
        "request 2 has been admitted and has spoken, so it has a queue time and a TTFT, though it has not ended"
    )


# What a server that runs for weeks remembers.


def test_task_7_what_is_kept_is_bounded() -> None:
    metrics, requests, sizes = answer.BatchingMetrics(), 40_000, []
    for i in range(requests):
        end = i + 1 + (i >= requests // 2)  # the later half takes 2 s, the first half 1 s
        metrics.update(state(i + 2, events=[(i, ARRIVED, i), (i, ADMITTED, i), (i, FIRST_TOKEN, i), (end, FINISHED, i, 1)]))
        if i + 1 in (requests // 2, requests):
            sizes.append(objects_in(metrics))
    for name in ("queue_time", "ttft", "latency"):
        kept = len(metrics.values(name))
        assert 1000 <= kept <= requests / 2, f"a server that runs for weeks keeps {kept} of {requests} requests in memory"
    assert {*metrics.values("latency")} == {2}, "those that ended last are kept, which took 2 s each"
    assert metrics.percentiles("latency")["p50"] == 2, "percentiles are of those that are kept"
    assert (metrics.total_requests, metrics.finished_requests) == (requests, requests), "counts are over everything"
    assert metrics.average_latency == 1.5, "and so is the mean"
    assert sizes[1] < 1.1 * sizes[0], (
        f"after {requests // 2} requests the metrics hold {sizes[0]} objects, and after {requests} {sizes[1]}: they keep"
        " something of every request or iteration"
    )


def test_task_7_all_who_are_open_are_known() -> None:
    metrics, requests = answer.BatchingMetrics(), 3000
    metrics.update(state(0, events=[(0, ARRIVED, i) for i in range(requests)]))
    metrics.update(state(1, events=[(1, ADMITTED, i) for i in range(requests)]))
    assert len(metrics.values("queue_time")) == requests, "only those that have ended are forgotten, however many are open"
    metrics.update(state(2, events=[(2, FINISHED, i, 1) for i in range(requests)]))
    assert (metrics.finished_requests, metrics.average_latency) == (requests, 2), "a long queue is served to its end"


def objects_in(root: Any) -> int:
    """How many objects it holds, and what they hold, but for code."""
    seen, stack = {id(root)}, [root]
    while stack:
        for found in gc.get_referents(stack.pop()):
            if id(found) not in seen and not isinstance(found, (type, ModuleType, FunctionType)):
                seen.add(id(found))
                stack.append(found)
    return len(seen)
