"""Task 5, second part: when a group is closed. It is full, or its oldest request has waited enough."""

from typing import Any

import pytest

from answer import answer
from day6_engines import ask, assert_returned
from fake_clock import FakeClock, Recorder
from groups import Batcher, SlowModel
from support import CountingModel, ToyModel, assert_alone, finish_all, refuses, step_until


def assert_idle(batcher: Batcher, model: CountingModel, why: str) -> None:
    """A step does nothing now."""
    __tracebackhide__ = True
    states, calls = len(batcher.states), len(model.calls)
    assert batcher.engine.step() == [], f"{why}, so none can have ended"
    assert len(model.calls) == calls, f"{why}, so a step calls no model"
    assert not batcher.engine.running, f"{why}, so a step admits none"
    assert len(batcher.states) == states, (
        f"{why}, so a step is no iteration: the log would be full of iterations that use no slot, as many as there are calls"
    )


def step_once(batcher: Batcher, *expected: Any) -> None:
    """The next step starts a group of these."""
    __tracebackhide__ = True
    until = batcher.engine.idle_until
    assert until is None, f"the next group can start now, at {batcher.clock.now}, and idle_until says {until}"
    batcher.engine.step()
    started = batcher.groups()[-1] if batcher.groups() else []
    ids = [request.request_id for request in expected]
    assert started == ids, f"the next group is requests {ids}, and the last one that was admitted together is {started}"


def test_task_5_waiting_a_full_group_starts_at_once(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, batch_size=3, max_wait=100.0)
    requests = [batcher.engine.submit(ask(4, 5, seed)) for seed in range(2)]
    assert_idle(batcher, model, "two of three have come, and the first has not waited for 100 s")
    requests.append(batcher.engine.submit(ask(4, 5, 2)))
    step_once(batcher, *requests)
    finish_all(batcher.engine)
    assert_alone(toy, *requests)


def test_task_5_waiting_ends_when_the_oldest_has_waited_enough(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, batch_size=3, max_wait=2.0)
    batcher.clock.now = 10.0
    first = batcher.engine.submit(ask(4, 5))
    assert batcher.engine.idle_until == 12.0, f"came at 10, may wait for 2 s: {batcher.engine.idle_until}"
    batcher.clock.now = 11.5
    second = batcher.engine.submit(ask(6, 3))
    assert batcher.engine.idle_until == 12.0, (
        f"the oldest came at 10 s, and the one that comes later makes none wait longer: {batcher.engine.idle_until}"
    )
    assert_idle(batcher, model, "the oldest came at 10 s, may wait until 12 s, and it is 11.5")
    batcher.clock.now = 11.875
    assert_idle(batcher, model, "the oldest came at 10 s, may wait until 12 s, and it is 11.875")
    batcher.clock.now = 12.0
    step_once(batcher, first, second)
    finish_all(batcher.engine)
    assert_alone(toy, first, second)


def test_task_5_waiting_for_nothing_when_max_wait_is_0(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=3, max_wait=0.0)
    first = batcher.engine.submit(ask(4, 5))
    step_once(batcher, first)
    late = [batcher.engine.submit(ask(3, 2, seed)) for seed in range(2)]
    step_until(batcher.engine, lambda: first.state == "finished")
    step_once(batcher, *late)
    finish_all(batcher.engine)
    assert_alone(toy, first, *late)


def test_task_5_waiting_is_0_by_default(toy: ToyModel) -> None:
    engine = answer.DynamicBatcher(toy, 4, max_seq_len=64, prefill_step=8)
    request = engine.submit(ask(4, 2))
    engine.step()
    assert request.state != "waiting", "by default a group is all that are there"
    finish_all(engine)
    assert_alone(toy, request)


def test_task_5_waiting_who_waits_longest_is_first(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=2, max_wait=50.0)
    requests = [batcher.engine.submit(ask(3 + place, 2, place)) for place in range(5)]
    step_once(batcher, *requests[:2])
    step_until(batcher.engine, lambda: not batcher.engine.running)
    step_once(batcher, *requests[2:4])
    step_until(batcher.engine, lambda: not batcher.engine.running)
    assert batcher.engine.idle_until == 64.0 + 50.0, f"the fifth is alone, and came at 64 s: {batcher.engine.idle_until}"


def test_task_5_waiting_goes_on_while_a_group_runs(toy: ToyModel) -> None:
    """Time in which a group runs counts for those who wait: they have waited."""
    model = CountingModel(toy)
    batcher = Batcher(model, batch_size=2, max_wait=3.0)
    running = [batcher.engine.submit(ask(4, 4, seed)) for seed in range(2)]
    batcher.engine.step()
    batcher.clock.now = 65.0
    waiting = batcher.engine.submit(ask(5, 2))
    assert batcher.engine.idle_until is None, f"a group runs, so a step has something to do: {batcher.engine.idle_until}"
    batcher.clock.now = 67.0
    step_until(batcher.engine, lambda: not batcher.engine.running)
    assert batcher.engine.idle_until == 68.0, f"it came at 65 s and may wait for 3 s: {batcher.engine.idle_until}"
    assert_idle(batcher, model, "the last group is over, and the one waiting since 65 s has not waited for 3 s at 67 s")
    batcher.clock.now = 70.0
    step_once(batcher, waiting)
    finish_all(batcher.engine)
    assert_alone(toy, *running, waiting)


def test_task_5_waiting_whoever_has_waited_through_a_group_is_next(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=2, max_wait=3.0)
    for seed in range(2):
        batcher.engine.submit(ask(4, 4, seed))
    batcher.engine.step()
    waiting = batcher.engine.submit(ask(5, 2))
    batcher.clock.now = 80.0
    step_until(batcher.engine, lambda: not batcher.engine.running)
    step_once(batcher, waiting)


def test_task_5_waiting_for_nobody(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, max_wait=2.0)
    assert batcher.engine.idle_until is None, f"none waits: {batcher.engine.idle_until}"
    assert batcher.engine.step() == [], "there is no request"
    assert model.calls == [], "without a request the model is not called"
    batcher.engine.submit(ask(3, 2))
    assert batcher.engine.idle_until == 66.0, f"a request came at 64 s and may wait for 2 s: {batcher.engine.idle_until}"
    batcher.clock.now = 66.0
    finish_all(batcher.engine)
    assert batcher.engine.idle_until is None, f"none waits: {batcher.engine.idle_until}"


def test_task_5_waiting_a_cancelled_request_has_no_time(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, batch_size=3, max_wait=4.0)
    oldest = batcher.engine.submit(ask(4, 5))
    batcher.clock.now = 66.0
    second = batcher.engine.submit(ask(6, 3))
    batcher.engine.cancel(oldest)
    assert batcher.engine.idle_until == 70.0, (
        f"the one that came first has gone, and the next one came at 66 s and may wait for 4 s: {batcher.engine.idle_until}"
    )
    assert batcher.engine.step() == [oldest], "a request cancelled while waiting is returned by the next step, also an idle one"
    assert batcher.events("CANCELLED"), "and the log tells of it in that step"
    batcher.clock.now = 68.0
    assert_idle(batcher, model, "the one that came at 66 s may wait until 70 s")
    batcher.clock.now = 70.0
    step_once(batcher, second)
    finish_all(batcher.engine)
    assert_alone(toy, second)
    gone, waiting = batcher.engine.submit(ask(4, 5)), batcher.engine.submit(ask(6, 3))
    batcher.engine.cancel(gone)
    assert batcher.engine.step() == [gone], "after a group as before it"
    assert batcher.seen[-1] == (0, 3, 1), (
        f"in that step none runs and one waits; active, slots and queue in the log are {batcher.seen[-1]}"
    )
    assert waiting.state == "waiting", "it has not waited for 4 s yet"


def test_task_5_waiting_a_group_may_cease_to_be_full(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, batch_size=2, max_wait=4.0)
    first, second = batcher.engine.submit(ask(4, 5)), batcher.engine.submit(ask(6, 3))
    assert batcher.engine.idle_until is None, f"two of two are there: {batcher.engine.idle_until}"
    batcher.engine.cancel(second)
    assert batcher.engine.idle_until == 68.0, f"one of two is there, since 64 s: {batcher.engine.idle_until}"
    third = batcher.engine.submit(ask(3, 3))
    step_once(batcher, first, third)


def test_task_5_waiting_of_all_who_go(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=3, max_wait=4.0)
    requests = [batcher.engine.submit(ask(4, 5, seed)) for seed in range(2)]
    for request in requests:
        batcher.engine.cancel(request)
    assert batcher.engine.idle_until is None, f"none waits: {batcher.engine.idle_until}"
    assert_returned(finish_all(batcher.engine), *requests)


def test_task_5_waiting_counts_from_now_for_a_client_that_asks_again(toy: ToyModel) -> None:
    """What is kept of a request's arrival goes with it."""
    batcher = Batcher(toy, batch_size=2, max_wait=4.0)
    for start in (64.0, 100.0, 200.0):
        batcher.clock.now = start
        request = batcher.engine.submit(ask(4, 3))
        assert batcher.engine.idle_until == start + 4.0, f"came at {start}, may wait for 4 s: {batcher.engine.idle_until}"
        batcher.clock.now = start + 4.0
        finish_all(batcher.engine)
        assert_alone(toy, request)


def test_task_5_waiting_a_refused_request_starts_no_group(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=2, max_wait=4.0)
    first = batcher.engine.submit(ask(4, 3))
    with refuses(ValueError, "submit, of an empty prompt"):
        batcher.engine.submit(ask(0, 3))
    assert batcher.engine.idle_until == 68.0, f"one of two is there, since 64 s: {batcher.engine.idle_until}"
    batcher.clock.now = 66.0
    with refuses(ValueError, "submit, of a request that waits already"):
        batcher.engine.submit(first)
    assert batcher.engine.idle_until == 68.0, (
        f"submitting it again was refused, and it waits since 64 s all the same: {batcher.engine.idle_until}"
    )


def test_task_5_waiting_on_the_real_clock(toy: ToyModel) -> None:
    engine = answer.DynamicBatcher(toy, 4, 0.01, max_seq_len=64)
    request = engine.submit(ask(4, 3))
    engine.run()
    assert_alone(toy, request)


# In front of an open loop.


def served(toy: ToyModel, arrivals: list[float], batch_size: int, max_wait: float) -> tuple[list[list[int]], list[float]]:
    """The groups, by place of their requests in the list, and when each started. A step takes a quarter of a second."""
    clock = FakeClock()
    batcher = Batcher(SlowModel(toy, clock, lambda rows, length: 0.25 if length == 1 else 0), batch_size, max_wait, clock=clock)
    requests = [ask(4, 5, seed) for seed in range(len(arrivals))]
    answer.open_loop(batcher.engine, requests, arrivals, Recorder(), clock.sleep)
    assert_alone(toy, *requests)
    first = requests[0].request_id
    groups = [[request_id - first for request_id in group] for group in batcher.groups()]
    return groups, sorted({event.time - 64 for _, _, event in batcher.events("ADMITTED")})


@pytest.mark.parametrize(
    ("max_wait", "groups", "starts"),
    [
        (0.0, [[0], [1, 2, 3], [4, 5, 6], [7]], [0.0, 1.0, 2.0, 9.0]),
        (2.0, [[0, 1, 2], [3, 4, 5], [6], [7]], [0.5, 1.5, 3.25, 11.0]),
        (50.0, [[0, 1, 2], [3, 4, 5], [6, 7]], [0.5, 1.5, 51.25]),
    ],
)
def test_task_5_waiting_in_an_open_loop(toy: ToyModel, max_wait: float, groups: list[list[int]], starts: list[float]) -> None:
    arrivals = [0.0, 0.25, 0.5, 0.625, 1.0, 1.125, 1.25, 9.0]
    assert served(toy, arrivals, 3, max_wait) == (groups, starts), (
        f"groups of at most 3, max_wait {max_wait} s, arrivals at {arrivals}, and a group takes 4 decode steps of 0.25 s"
    )
