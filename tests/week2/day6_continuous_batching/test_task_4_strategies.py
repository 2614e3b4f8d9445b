"""Task 4: the engine asks its strategy which requests to admit. The strategies themselves are in test_task_8_strategies.py."""

from typing import Any

import pytest

from answer import answer
from support import ToyModel, assert_alone, expect_no_error, finish_all, make_prompt


def served(toy: ToyModel, strategy: Any, requests: list[Any]) -> list[int]:
    """One slot: the order in which the engine serves them, as places in `requests`."""
    scheduler = answer.ContinuousBatchScheduler(toy, 1, max_seq_len=64, strategy=strategy)
    for request in requests:
        scheduler.submit(request)
    order = [requests.index(request) for request in finish_all(scheduler)]
    assert_alone(toy, *requests)
    return order


class LastCome(answer.Strategy):  # type: ignore[name-defined]
    """Who came last goes first."""

    def ranking(self, running: Any) -> Any:
        return lambda request: -request.request_id


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (None, [0, 1, 2, 3]),
        (answer.Fifo(), [0, 1, 2, 3]),
        (answer.ShortestRemaining(), [2, 0, 3, 1]),
        (LastCome(), [3, 2, 1, 0]),
    ],
    ids=["the default", "fifo", "shortest remaining", "one of ones own"],
)
def test_task_4_engine_asks_its_strategy(toy: ToyModel, strategy: Any, expected: list[int]) -> None:
    requests = [answer.Request(make_prompt(5), max_tokens) for max_tokens in (4, 9, 2, 6)]
    assert served(toy, strategy, requests) == expected, (
        "with one slot, requests end in the order in which they were admitted: is the strategy handed to plan_step?"
    )


def test_task_4_engine_tells_its_strategy_who_runs(toy: ToyModel) -> None:
    scheduler = answer.ContinuousBatchScheduler(toy, 2, max_seq_len=64, strategy=answer.LengthBalance())
    first, far, near = (answer.Request(make_prompt(length), max_tokens) for length, max_tokens in ((20, 20), (3, 2), (18, 2)))
    scheduler.submit(first)
    scheduler.step()
    scheduler.submit(far)
    scheduler.submit(near)
    assert finish_all(scheduler) == [near, far, first], (
        "a request with 20 prompt tokens runs, so that the prompt of 18 is admitted before that of 3"
    )
    assert far.overtaken == 1, "the one admitted later was overtaken once"
    assert_alone(toy, first, far, near)


def test_task_4_engine_lets_no_stream_of_short_requests_starve_a_long_one(toy: ToyModel) -> None:
    strategy = answer.ShortestRemaining()
    strategy.max_overtakes = 4
    victim = answer.Request(make_prompt(20), 20)
    scheduler = answer.ContinuousBatchScheduler(toy, 1, max_seq_len=64, strategy=strategy)
    submitted = 0

    def submit_another(request: Any = None, new_text: str = "") -> None:
        nonlocal submitted
        if submitted < 40 and (request is None or request.state == "finished"):
            submitted += 1
            scheduler.submit(answer.Request(make_prompt(3, seed=submitted), 2, on_update=submit_another))

    scheduler.submit(victim)
    for _ in range(3):  # so that there is always a shorter one in the queue
        submit_another()
    ended = finish_all(scheduler)
    expect_no_error(*ended)
    place = ended.index(victim)
    assert place > 0, "shorter requests were there from the start: at first they go first"
    assert place <= 4, f"{place} short requests were served while the long one waited; max_overtakes is 4: it starves"
