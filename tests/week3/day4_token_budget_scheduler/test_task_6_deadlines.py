"""Week 3 Day 4, task 6: deadlines, on the engine's own clock."""

from typing import Any

import pytest

from day6_engines import assert_failed, assert_returned
from paged_engines import ask, assert_can_still_serve, engine, serve
from support import ToyModel, assert_alone, expect_no_error, finish_all, step_until


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("state", ["waiting", "prefilling", "decoding"])
def test_task_6_deadlines_end_a_request_wherever_it_is(toy: ToyModel, state: str) -> None:
    clock = Clock()
    served = engine(toy, max_num_seqs=2, clock=clock)
    neighbours = [served.submit(ask(5, 9)), served.submit(ask(4, 7, seed=1))]
    late = served.submit(ask(30, 8, seed=2, deadline=105))
    step_until(served, lambda: late.state == state)
    clock.now = 104.9
    served.step()
    assert late.finish_reason is None, "its deadline has not passed yet"
    clock.now = 105.0
    ended = served.step()
    served.check_integrity()
    assert_failed(toy, late, TimeoutError, "its deadline has passed")
    assert "105" in str(late.error), f"the error says which deadline has passed: {late.error}"
    assert (late.state, late.blocks) == ("finished", []), "it holds nothing any more"
    assert_returned(ended + serve(served), late, *neighbours)
    assert_alone(toy, *neighbours)
    assert_can_still_serve(served, toy)


def test_task_6_deadlines_of_one_that_is_preempted(toy: ToyModel) -> None:
    clock = Clock()
    served = engine(toy, clock=clock)
    late, other = served.submit(ask(6, 9, deadline=105)), served.submit(ask(5, 9, seed=1))
    step_until(served, lambda: len(late.generated_tokens) == 3)
    served.preempt(late)
    clock.now = 106
    assert_returned(serve(served), late, other)
    assert_failed(toy, late, TimeoutError, "its deadline passed while it waited again, with a token in flight")
    assert len(late.generated_tokens) == 3, "no token comes after the end"
    assert_alone(toy, other)


def test_task_6_deadlines_that_pass_after_the_end_change_nothing(toy: ToyModel) -> None:
    clock = Clock()
    served = engine(toy, clock=clock)
    done, gone = served.submit(ask(6, 3, deadline=105)), served.submit(ask(5, 9, seed=1, deadline=105))
    step_until(served, lambda: done.state == "finished")
    served.cancel(gone)
    clock.now = 200
    serve(served, ask(4, 3))
    expect_no_error(done, gone)
    assert (done.finish_reason, gone.finish_reason) == ("length", "cancelled"), "a request that has ended stays as it is"


def test_task_6_deadlines_that_have_passed_already(toy: ToyModel) -> None:
    served = engine(toy, clock=Clock())
    late, other = ask(6, 3, deadline=99), ask(5, 4)
    assert_returned(serve(served, late, other), late, other)
    assert_failed(toy, late, TimeoutError, "its deadline had passed before it came")
    assert_alone(toy, other)


def test_task_6_deadlines_that_are_kept(toy: ToyModel) -> None:
    clock = Clock()
    served = engine(toy, clock=clock)
    requests = [ask(4 + seed, 6, seed, deadline=120 + seed) for seed in range(6)]
    for request in requests:
        served.submit(request)

    def look() -> None:
        clock.now += 1
        served.check_integrity()

    finish_all(served, after_step=look)
    assert_alone(toy, *requests)


def test_task_6_deadlines_do_not_hang_on_the_order_of_arrival(toy: ToyModel) -> None:
    clock = Clock()
    served = engine(toy, clock=clock, max_num_seqs=1)
    runs = served.submit(ask(4, 30))
    served.step()
    deadlines = (112, 107, 119, 101, 115)
    requests: list[Any] = [served.submit(ask(4, 3, seed, deadline=d)) for seed, d in enumerate(deadlines, 1)]
    ends: dict[float, float] = {}
    for _ in range(22):
        clock.now += 1
        for request in served.step():
            if request in requests:
                ends[request.deadline] = clock.now
    assert ends == {d: float(d) for d in deadlines}, "each ends in the step in which its deadline has passed"
    finish_all(served)
    assert_alone(toy, runs)


def test_task_6_deadlines_that_pass_together(toy: ToyModel) -> None:
    clock = Clock()
    served = engine(toy, clock=clock)
    requests = [served.submit(ask(4, 20, seed, deadline=105 + seed)) for seed in range(3)]
    served.step()
    clock.now = 110
    assert_returned(served.step(), *requests)  # all three have passed, and the next step says so


def test_task_6_deadlines_sooner_first_among_one_user_s(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=1, clock=Clock())
    patient, urgent = ask(4, 3, deadline=900), ask(4, 3, seed=1, deadline=200)
    assert serve(served, patient, urgent) == [urgent, patient], "the earliest deadline is next"
