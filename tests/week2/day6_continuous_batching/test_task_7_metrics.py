"""Task 7: metrics. Times are powers of two or small sums of them, so that every figure is exact."""

from typing import Any

import pytest

from answer import answer
from support import CountingModel, ToyModel, finish_all, make_prompt

ARRIVED, ADMITTED, FIRST_TOKEN, FINISHED = (
    answer.EventKind.ARRIVED,
    answer.EventKind.ADMITTED,
    answer.EventKind.FIRST_TOKEN,
    answer.EventKind.FINISHED,
)


def state(time: float, active: int = 0, queue: int = 0, new_tokens: int = 0, events: Any = (), slots: int = 4) -> Any:
    return answer.BatchState(time, active, slots, queue, new_tokens, [answer.Event(*event) for event in events])


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
    assert metrics.throughput_tokens_per_sec == 0
    assert metrics.average_latency == 0
    assert metrics.slot_utilization == 0
    assert metrics.values("ttft") == []
    assert metrics.percentiles("latency") == {"p50": 0, "p95": 0, "p99": 0}


def test_task_7_requests_are_counted() -> None:
    metrics = answer.BatchingMetrics()
    seen = []
    for step in (
        state(1, 1, 2, 0, [(0, ARRIVED, 1), (0, ARRIVED, 2), (0, ARRIVED, 3), (1, ADMITTED, 1)]),
        state(2, 3, 0, 1, [(2, ADMITTED, 2), (2, ADMITTED, 3)]),
        state(3, 2, 1, 1, [(3, FINISHED, 1, 1), (3, ARRIVED, 4)]),
    ):
        metrics.update(step)
        seen.append((metrics.total_requests, metrics.active_requests, metrics.queue_size))
    assert seen == [(3, 1, 2), (3, 3, 0), (4, 2, 1)], "total counts arrivals; active and queue are those of the last state"


def test_task_7_throughput() -> None:
    metrics = two_requests()
    assert metrics.throughput_tokens_per_sec == 6 / (16 - 10), "6 tokens between the first arrival and the last iteration"


def test_task_7_throughput_of_no_time_at_all() -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(3, 1, 0, 5, [(3, ARRIVED, 1)]))
    assert metrics.throughput_tokens_per_sec == 0, "no time has passed since the arrival: no division by zero"


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


def test_task_7_average_latency() -> None:
    assert two_requests().average_latency == (6 + 4) / 2


def test_task_7_requests_on_their_way_have_no_latency_yet() -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(1, 1, 1, 1, [(0, ARRIVED, 1), (0, ARRIVED, 2), (0.5, ADMITTED, 1), (1, FIRST_TOKEN, 1)]))
    assert metrics.average_latency == 0
    assert metrics.values("latency") == metrics.values("tpot") == []
    assert (metrics.values("queue_time"), metrics.values("ttft")) == ([0.5], [1]), "request 2 has reached neither"


def test_task_7_a_request_that_never_got_a_slot() -> None:
    metrics = answer.BatchingMetrics()
    metrics.update(state(4, 0, 0, 0, [(1, ARRIVED, 1), (3, FINISHED, 1, 0)]))  # cancelled while it waited
    assert metrics.values("queue_time") == metrics.values("ttft") == metrics.values("tpot") == []


def test_task_7_slot_utilization_is_a_mean_over_iterations() -> None:
    metrics = answer.BatchingMetrics()
    for active in (4, 3, 1, 0):
        metrics.update(state(1, active))
    assert metrics.slot_utilization == (4 + 3 + 1 + 0) / (4 * 4)


def test_task_7_utilization_while_somebody_waits() -> None:
    metrics = answer.BatchingMetrics()
    assert metrics.slot_utilization_while_waiting == 1, "nobody has waited, so no slot was free that somebody wanted"
    for active, queue in ((4, 3), (2, 1), (1, 0), (1, 0)):
        metrics.update(state(1, active, queue))
    assert metrics.slot_utilization_while_waiting == (4 + 2) / (2 * 4), "iterations with an empty queue do not count"
    assert metrics.slot_utilization == (4 + 2 + 1 + 1) / (4 * 4), "here they all do"


def test_task_7_percentiles_interpolate() -> None:
    metrics = answer.BatchingMetrics()
    events = [(0, ARRIVED, i) for i in range(101)] + [(float(i), FINISHED, i, 1) for i in range(101)]
    metrics.update(state(100, events=events))
    assert metrics.percentiles("latency") == pytest.approx({"p50": 50, "p95": 95, "p99": 99})
    few = answer.BatchingMetrics()
    few.update(state(9, events=[(0, ARRIVED, 1), (0, ARRIVED, 2), (1, FINISHED, 1, 1), (2, FINISHED, 2, 1)]))
    assert few.percentiles("latency") == pytest.approx({"p50": 1.5, "p95": 1.95, "p99": 1.99}), "between 1 s and 2 s"


def test_task_7_what_is_kept_is_bounded() -> None:
    metrics, requests = answer.BatchingMetrics(), 40_000
    for i in range(requests):
        metrics.update(
            state(i + 1, events=[(i, ARRIVED, i), (i, ADMITTED, i), (i, FIRST_TOKEN, i), (i + 1 + i % 2, FINISHED, i, 1)])
        )
    kept = metrics.values("latency")
    assert 1000 <= len(kept) <= requests / 2, f"a server that runs for weeks keeps {len(kept)} of {requests} requests in memory"
    assert metrics.total_requests == requests, "counts are over everything"
    assert metrics.average_latency == 1.5, "and so is the mean"
    assert sorted({*kept}) == [1, 2]


def test_task_7_an_unknown_figure_is_refused() -> None:
    with pytest.raises(ValueError):
        two_requests().values("speed")


def test_task_7_the_scheduler_keeps_them(toy: ToyModel) -> None:
    now = 0.0
    scheduler = answer.ContinuousBatchScheduler(CountingModel(toy), 2, prefill_step=16, clock=lambda: now)
    assert scheduler.metrics.throughput_tokens_per_sec == 0
    requests = [answer.Request(make_prompt(5, seed), max_tokens) for seed, max_tokens in enumerate((6, 3, 4))]
    for request in requests:
        scheduler.submit(request)
    ended_at = {}
    while scheduler.has_work:
        now += 1
        assert now < 100, "the scheduler does not come to an end"
        for request in scheduler.step():
            ended_at[request.request_id] = now

    metrics = scheduler.metrics
    assert metrics.total_requests == 3
    assert metrics.queue_size == 0, "nobody waits any more"
    assert 0 <= metrics.active_requests <= 2, "two slots"
    assert metrics.throughput_tokens_per_sec == pytest.approx(13 / now), f"13 tokens in {now} seconds: each counted once"
    assert sorted(metrics.values("latency")) == sorted(ended_at.values()), "a request's latency ends when step returns it"
    assert metrics.average_latency == pytest.approx(sum(ended_at.values()) / 3)
    waits, firsts, ends = (sorted(metrics.values(name)) for name in ("queue_time", "ttft", "latency"))
    assert len(waits) == len(firsts) == len(ends) == 3, "every request was admitted, spoke, and ended"
    assert all(wait <= first <= end for wait, first, end in zip(waits, firsts, ends, strict=True))
    assert waits[-1] >= 3, "two slots: the third request had to wait for the one that generates 3 tokens"
    assert 0 < metrics.slot_utilization <= 1


def test_task_7_an_idle_engine_has_nothing_to_report(toy: ToyModel) -> None:
    scheduler = answer.ContinuousBatchScheduler(toy, 2)
    assert scheduler.metrics.average_latency == 0
    scheduler.submit(answer.Request(make_prompt(4), 2))
    finish_all(scheduler)
    assert scheduler.metrics.total_requests == len(scheduler.metrics.values("latency")) == 1
