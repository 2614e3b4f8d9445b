"""Task 4, first part: an open loop. Requests come when they come, whatever the server does, on a clock of the test's own."""

from collections.abc import Sequence
from itertools import accumulate
from math import inf, nan
from typing import Any

import pytest

from answer import answer
from fake_clock import FakeClock, Recorder, TimedServer
from patience import SIMULATED
from support import expect_no_error, refuses

pytestmark = pytest.mark.timeout(SIMULATED)


def some(*max_tokens: int) -> list[Any]:
    return [answer.Request([1, 2, 3], tokens) for tokens in max_tokens]


def serve(
    server: TimedServer, requests: Sequence[Any], arrivals: Sequence[float], recorder: Any = None
) -> tuple[list[float], Recorder]:
    """How late each was, and what the recorder was told."""
    __tracebackhide__ = True
    recorder = recorder or Recorder()
    late = answer.open_loop(server, requests, arrivals, recorder, server.fake_clock.sleep)
    expect_no_error(*requests)
    assert not server.has_work, "the loop is over when all requests have ended, and step has returned them"
    open_ones = [request.request_id for request in requests if request.state != "finished"]
    assert not open_ones, f"the loop returned, and requests {open_ones} have not ended"
    assert len(late) == len(requests), f"{len(late)} figures of lateness for {len(requests)} requests"
    return late, recorder


# A server that is fast enough.


def test_task_4_open_requests_come_at_their_times() -> None:
    server = TimedServer(FakeClock(), seconds=lambda step: 0.125)
    requests, arrivals = some(2, 1, 3, 1), [0.0, 0.5, 1.0, 1.75]
    late, recorder = serve(server, requests, arrivals)
    came = [time - 64 for time in server.times("ARRIVED", *requests)]
    assert came == arrivals, f"the server has nothing to do at {arrivals}, and requests came at {came} s after the start"
    assert late == [0.0] * 4, f"no request was late, and lateness says {late}"
    assert [time - 64 for time in recorder.of(requests)] == arrivals, (
        "each was wanted at its arrival, on the engine's clock: the start and the arrival together"
    )


def test_task_4_open_who_comes_together_is_served_together() -> None:
    server = TimedServer(FakeClock(), slots=8)
    requests = some(2, 2, 2, 2)
    late, _ = serve(server, requests, [3.0] * 4)
    assert server.steps == 2, f"four requests of 2 tokens come at once, before the next step: 2 steps, not {server.steps}"
    assert late == [0.0] * 4, f"no request was late, and lateness says {late}"


def test_task_4_open_sleeps_only_when_nothing_can_be_done() -> None:
    clock = FakeClock()
    server = TimedServer(clock, seconds=lambda step: 0.25)

    def sleep(seconds: float) -> None:
        assert not server.has_work, "it slept while a request could have been served"
        clock.sleep(seconds)

    answer.open_loop(server, some(4, 4, 2), [1.0, 1.0, 5.0], Recorder(), sleep)
    assert sum(clock.slept) == 1.0 + 3.0, (
        f"it slept for {clock.slept}: 1 s until the first two come, and 3 s from their last token at 2 s until 5 s"
    )
    assert server.idle_steps == 0, f"{server.idle_steps} steps were made for no request: sleep until the next arrival"
    assert clock.now == 64 + 5.5, f"all should be over at 5.5 s, it is {clock.now - 64}"


def test_task_4_open_does_not_wait_for_company() -> None:
    """The second comes a moment after the first, and the server is quick."""
    clock, moment = FakeClock(), 2**-12
    server = TimedServer(clock, seconds=lambda step: moment / 2)

    def sleep(seconds: float) -> None:
        assert not server.has_work, "it slept while a request could have been served: it comes soon, but it is not there yet"
        clock.sleep(seconds)

    requests = some(1, 1)
    late = answer.open_loop(server, requests, [1.0, 1.0 + moment], Recorder(), sleep)
    expect_no_error(*requests)
    came = [time - 64 for time in server.times("ARRIVED", *requests)]
    assert came == [1.0, 1.0 + moment], f"no request comes before its time, not even by {moment} s: they came at {came}"
    assert late == [0.0, 0.0], f"no request was late, and lateness says {late}"


def test_task_4_open_keeps_the_order_of_requests_that_come_at_once() -> None:
    server = TimedServer(FakeClock(), slots=1)
    requests = [some(1, 1, 1, 1, 1)[place] for place in (3, 0, 4, 1, 2)]
    serve(server, requests, [0.0, 0.0, 2.5, 2.5, 2.5])
    admitted = server.times("ADMITTED", *requests)
    assert admitted == sorted(admitted), f"they are submitted in their order, and were admitted at {admitted}"


def test_task_4_open_with_nobody_to_serve() -> None:
    server = TimedServer(FakeClock())
    late, _ = serve(server, [], [])
    assert (late, server.steps, server.fake_clock.slept) == ([], 0, []), "there is nothing to do, and nothing to wait for"


def test_task_4_open_serves_on_after_the_last_arrival() -> None:
    server = TimedServer(FakeClock(), slots=1)
    requests = some(5, 5, 5)
    serve(server, requests, [0.0, 0.5, 1.0])
    assert [len(request.generated_tokens) for request in requests] == [5, 5, 5], "the loop ends when all requests have ended"
    assert server.steps == 15, f"15 tokens of one slot are 15 steps, and there were {server.steps}"


def test_task_4_open_takes_any_sequences() -> None:
    server = TimedServer(FakeClock())
    requests = tuple(some(1, 2))
    serve(server, requests, (0, 1))
    assert server.times("ARRIVED", *requests) == [64.0, 65.0], "tuples and whole numbers are as good as lists of floats"


# A server that is not.


def test_task_4_open_a_request_that_comes_in_a_step_is_submitted_after_it() -> None:
    server = TimedServer(FakeClock(), slots=4)
    requests = some(3, 2, 2, 1)
    late, _ = serve(server, requests, [0.0, 0.25, 0.875, 1.5])
    came = [time - 64 for time in server.times("ARRIVED", *requests)]
    assert came == [0.0, 1.0, 1.0, 2.0], (
        f"steps take 1 s, so arrivals at 0.25, 0.875 and 1.5 s are submitted at 1, 1 and 2 s, before the next step; it was"
        f" {came}"
    )
    expected = [0.0, 0.75, 0.125, 0.5]
    assert late == expected, f"the lateness is the time from the arrival to the submission: it should be {expected}, was {late}"


def test_task_4_open_a_stall_is_in_the_ttft_of_all_who_wanted_to_come_meanwhile() -> None:
    """Coordinated omission: a request that the server's stall held back has waited, though the server did not know of it."""
    server = TimedServer(FakeClock(), slots=8, seconds=lambda step: 10.0 if step == 2 else 0.25)
    requests, arrivals = some(6, 2, 2, 2), [0.0, 1.0, 5.0, 10.0]
    late, recorder = serve(server, requests, arrivals)
    assert late == [0.0, 9.5, 5.5, 0.5], f"the step from 0.5 to 10.5 s stalls, so three are late; lateness says {late}"
    wanted = [time - 64 for time in recorder.of(requests)]
    assert wanted == arrivals, f"the recorder is told when each was wanted, {arrivals}, not when it was submitted: {wanted}"
    first = server.times("FIRST_TOKEN", *requests)
    ttft = [came - was_wanted for came, was_wanted in zip(first, recorder.of(requests), strict=True)]
    assert ttft == [0.25, 9.75, 5.75, 0.75], f"a first token comes 0.25 s after the stall; TTFTs from what was wanted: {ttft}"


def test_task_4_open_a_slow_server_holds_nobody_back() -> None:
    """Twice as many come as can be served: the queue grows without end. A loop that waits for answers would hide that."""
    server = TimedServer(FakeClock(), slots=1)
    requests, arrivals = some(*[1] * 40), [0.5 * place for place in range(40)]
    late, _ = serve(server, requests, arrivals)
    longest = max(state.queue_size for state in server.states)
    assert longest == 19, (
        f"40 come within 20 s, 1 is served per second, so 20 have to wait at the end of that and 19 when the next one is taken;"
        f" the longest queue was {longest}: no client waits for an answer before the next one asks"
    )
    assert late == [0.0, 0.5] * 20, f"a step takes 1 s, so one that comes in its middle is 0.5 s late, and none more: {late}"


def test_task_4_open_lateness_is_not_rounded() -> None:
    server = TimedServer(FakeClock(), slots=4)
    late, _ = serve(server, some(2, 1), [0.0, 1 - 2**-12])
    assert late == [0.0, 2**-12], f"the second came a quarter of a millisecond before the end of a step; lateness says {late}"


def test_task_4_open_a_long_queue_holds_nobody_back() -> None:
    server = TimedServer(FakeClock(), slots=8, seconds=lambda step: 64.0 if step == 0 else 0.125)
    requests, arrivals = some(*[1] * 500), [place / 8 for place in range(500)]
    late, _ = serve(server, requests, arrivals)
    assert late == [0.0, *(64 - arrival for arrival in arrivals[1:])], (
        "the first step lasts 64 s, and 499 want to come meanwhile: all are submitted at its end, and a long queue forms. The"
        f" last was late by {late[-1]} s; a generator that waits for the queue to get shorter hides how long it is"
    )
    assert max(state.queue_size for state in server.states) == 499 - 8, (
        "a request that has come waits in the engine's queue, not elsewhere"
    )


def test_task_4_open_arrivals_do_not_drift() -> None:
    """Late ones move no others: arrivals are counted from the start, not from the one before."""
    server = TimedServer(FakeClock(), slots=4, seconds=lambda step: 3.0 if step == 0 else 0.125)
    requests = some(1, 1, 1, 1)
    serve(server, requests, [0.0, 1.0, 4.0, 6.0])
    came = [time - 64 for time in server.times("ARRIVED", *requests)]
    assert came == [0.0, 3.0, 4.0, 6.0], f"only the one at 1 s is held back, by a step until 3 s; they came at {came}"


# The clock, and sleep.


def test_task_4_open_a_sleep_that_ends_early_lets_nobody_come_early() -> None:
    server = TimedServer(
        FakeClock(sleeps=lambda seconds: seconds / 2 if seconds > 0.125 else seconds), seconds=lambda step: 0.5
    )
    requests, arrivals = some(1, 1), [2.0, 8.0]
    late, _ = serve(server, requests, arrivals)
    came = [time - 64 for time in server.times("ARRIVED", *requests)]
    assert came == arrivals, f"look at the clock again after a sleep: they should come at {arrivals}, and came at {came}"
    assert late == [0.0, 0.0], f"no request was late, and lateness says {late}"


def test_task_4_open_a_sleep_that_lasts_too_long_shows_in_the_lateness() -> None:
    server = TimedServer(FakeClock(sleeps=lambda seconds: seconds + 0.375), slots=4, seconds=lambda step: 0.5)
    requests = some(1, 1, 1)
    late, recorder = serve(server, requests, [2.0, 2.25, 8.0])
    assert late == [0.375, 0.125, 0.375], f"the generator overslept by 0.375 s each time, and says that it was late by {late}"
    assert [time - 64 for time in recorder.of(requests)] == [2.0, 2.25, 8.0], "they were wanted all the same at their times"


def test_task_4_open_time_passes_between_two_looks_at_the_clock() -> None:
    """time.sleep refuses a negative number, and so does this one."""

    class MovingClock(FakeClock):
        def __call__(self) -> float:
            self.pass_by(0.25)
            return self.now

    server = TimedServer(MovingClock(), seconds=lambda step: 0.0)
    gaps = [number / 16 for number in range(100, 0, -1)]  # from one in which it sleeps to one in which it comes late
    serve(server, some(*[1] * 100), list(accumulate(gaps)))


def test_task_4_open_time_that_submitting_takes_is_lateness_of_those_behind() -> None:
    clock = FakeClock()

    class Slow(TimedServer):
        def submit(self, request: Any) -> Any:
            clock.pass_by(0.25)
            return super().submit(request)

    late, _ = serve(Slow(clock, slots=8), some(1, 1, 1), [1.0, 1.0, 1.0])
    assert late in ([0.0, 0.25, 0.5], [0.25, 0.5, 0.75]), (
        f"each submit takes 0.25 s, so the generator itself was late for the second and the third; lateness says {late}"
    )


def test_task_4_open_works_with_the_real_clock() -> None:
    server = RealServer(512, 256)
    requests = some(2, 3)
    late = answer.open_loop(server, requests, [0.0, 0.02], Recorder())
    expect_no_error(*requests)
    assert len(late) == 2, f"a figure for each request: {late}"
    assert min(late) >= 0, f"no request is submitted before its time: {late}"
    assert server.came[1] - server.began >= 0.02, "the second comes after 0.02 s, on the engine's clock"


class RealServer(answer.RequestBook):  # type: ignore[misc, name-defined]
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began = self.clock()
        self.came: list[float] = []

    def submit(self, request: Any) -> Any:
        self.came.append(self.clock())
        return super().submit(request)

    def step(self) -> list[Any]:
        for request in list(self.waiting.values()):
            self.admit(request)
        for request in list(self.running.values()):
            self.take(request, 65)
        return self.close_iteration(1, 1, 0, 1)  # type: ignore[no-any-return]


# A server that waits on purpose.


def test_task_4_open_respects_idle_until() -> None:
    server = TimedServer(FakeClock(), waits=2.0)
    requests = some(2, 2)
    serve(server, requests, [1.0, 10.0])
    admitted = [time - 64 for time in server.times("ADMITTED", *requests)]
    assert admitted == [3.0, 12.0], f"the server begins 2 s after a request came, at 3 and at 12 s; it was {admitted}"
    assert server.idle_steps == 0, (
        f"{server.idle_steps} steps were made before idle_until: until then a step does nothing, so sleep"
    )
    assert sum(server.fake_clock.slept) == 1.0 + 2.0 + 5.0 + 2.0, f"it slept for {server.fake_clock.slept}"


def test_task_4_open_an_arrival_comes_before_idle_until() -> None:
    server = TimedServer(FakeClock(), waits=4.0)
    requests = some(1, 1)
    late, _ = serve(server, requests, [1.0, 3.0])
    came = [time - 64 for time in server.times("ARRIVED", *requests)]
    assert came == [1.0, 3.0], f"while the server waits for more until 5 s, the second comes at 3 s; they came at {came}"
    assert late == [0.0, 0.0], f"sleep until the sooner of idle_until and the next arrival: {late}"


# What goes wrong.


def test_task_4_open_a_request_that_the_engine_refuses_ends_with_that_error() -> None:
    server = TimedServer(FakeClock())
    fine, refused, after = answer.Request([1], 2), answer.Request([], 2), answer.Request([2], 2)
    late = answer.open_loop(server, [fine, refused, after], [0.0, 1.0, 6.0], Recorder(), server.fake_clock.sleep)
    expect_no_error(fine, after)
    assert isinstance(refused.error, ValueError), f"its prompt is empty, so it ends with that error, not with {refused.error!r}"
    assert (refused.state, after.finish_reason) == ("finished", "length"), "the others are served all the same"
    assert late == [0.0, 0.0, 0.0], f"a figure for each request, the refused one's, too: {late}"


def test_task_4_open_ends_when_the_last_one_is_refused() -> None:
    server = TimedServer(FakeClock())
    refused = answer.Request([], 2)
    assert answer.open_loop(server, [refused], [1.0], Recorder(), server.fake_clock.sleep) == [0.0], "it came in time"
    assert refused.finish_reason == "error", "an empty prompt is refused"


def test_task_4_open_a_request_that_fails_or_is_cancelled_has_ended() -> None:
    server = TimedServer(FakeClock())

    def fail(request: Any, new_text: str) -> None:
        raise OSError("the client's connection is gone")

    def leave(request: Any, new_text: str) -> None:
        server.cancel(request)

    requests = [answer.Request([1], 5, on_update=act) for act in (fail, leave, None)]
    answer.open_loop(server, requests, [0.0, 1.0, 2.0], Recorder(), server.fake_clock.sleep)
    ends = [request.finish_reason for request in requests]
    assert ends == ["error", "cancelled", "length"], f"each ends in its own way, and the loop goes on: {ends}"


@pytest.mark.parametrize(
    ("arrivals", "named"),
    [
        ([0.0, 1.0], ""),
        ([0.0, 1.0, 2.0, 3.0], ""),
        ([0.0, 2.0, 1.5], "1.5"),
        ([-1.0, 0.0, 1.0], "-1"),
        ([0.0, nan, 1.0], "nan"),
        ([0.0, 1.0, inf], "inf"),
    ],
)
def test_task_4_open_refuses_arrivals_that_make_no_sense(arrivals: list[float], named: str) -> None:
    server = TimedServer(FakeClock())
    requests = some(1, 1, 1)
    with refuses(ValueError, f"three requests with arrivals {arrivals}", named=named):
        answer.open_loop(server, requests, arrivals, Recorder(), server.fake_clock.sleep)
    assert [request.state for request in requests] == ["waiting"] * 3, "what makes no sense is refused before anyone is served"
    assert not server.has_work, "what makes no sense is refused before anyone is submitted"
