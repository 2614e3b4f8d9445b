"""Task 4, third part: a request arrives when its client wants it, though the engine may hear of it later."""

from typing import Any

import pytest

from answer import answer
from fake_clock import FakeClock, TimedServer
from support import expect_no_error


def told_of(recorder: Any, request: Any) -> Any:
    """What the recorder has of a request."""
    assert request.request_id in recorder.requests, f"the recorder knows {list(recorder.requests)}, not {request.request_id}"
    return recorder.requests[request.request_id]


def test_task_4_wanted_is_when_a_request_arrived() -> None:
    clock = FakeClock()
    server, recorder = TimedServer(clock), answer.RunRecorder()
    server.event_log.readers.append(recorder.read)
    requests = [answer.Request([1, 2, 3], 2) for _ in range(3)]
    early, late, _ = requests
    recorder.wanted(early.request_id, 60.0)
    for request in requests:
        server.submit(request)
    recorder.wanted(late.request_id, 61.0)
    server.step()
    server.run()
    expect_no_error(*requests)
    arrived = [told_of(recorder, request).arrived for request in requests]
    assert arrived == [60.0, 61.0, 64.0], (
        "wanted at 60 s, told before the arrival at 64 s; wanted at 61 s, told after submit; and nothing told, so as the log"
        f" says: {arrived}"
    )


def test_task_4_wanted_may_be_told_after_the_log_has_been_read() -> None:
    server, recorder = TimedServer(FakeClock()), answer.RunRecorder()
    server.event_log.readers.append(recorder.read)
    request = server.submit(answer.Request([1, 2, 3], 3))
    server.step()
    recorder.wanted(request.request_id, 62.5)
    server.run()
    times = told_of(recorder, request)
    assert times.arrived == 62.5, f"whenever it is told: it arrived when its client wanted it, not at {times.arrived}"
    assert (times.ttft, times.latency) == (2.5, 4.5), f"both are counted from then on: {times.ttft} and {times.latency}"


@pytest.mark.parametrize("told_first", [True, False])
def test_task_4_wanted_moves_the_start_of_the_run(told_first: bool) -> None:
    server, recorder = TimedServer(FakeClock()), answer.RunRecorder()
    server.event_log.readers.append(recorder.read)
    first, second = answer.Request([1], 1), answer.Request([2], 1)
    if told_first:
        recorder.wanted(first.request_id, 63.0)
    for request in (first, second):
        server.submit(request)
    server.run()
    if not told_first:
        recorder.wanted(first.request_id, 63.0)
    recorder.wanted(second.request_id, 63.5)
    assert recorder.started == 63.0, f"the run starts when a client first wants something: {recorder.started}"


def test_task_4_wanted_puts_a_stall_into_the_figures() -> None:
    """Coordinated omission, through and through: the generator, the recorder, and its figures."""
    server = TimedServer(FakeClock(), slots=8, seconds=lambda step: 10.0 if step == 2 else 0.25)
    recorder = answer.RunRecorder()
    server.event_log.readers.append(recorder.read)
    requests: list[Any] = [answer.Request([1, 2, 3], 4) for _ in range(4)]
    answer.open_loop(server, requests, [0.0, 1.0, 5.0, 10.0], recorder, server.fake_clock.sleep)
    expect_no_error(*requests)
    times = [told_of(recorder, request) for request in requests]
    ttfts = [each.ttft for each in times]
    assert ttfts == [0.25, 9.75, 5.75, 0.75], (
        f"the server stalls from 0.5 to 10.5 s, and first tokens come 0.25 s later; TTFTs are {ttfts}: from when each was"
        " wanted, at 0, 1, 5 and 10 s"
    )
    queue_times = [each.queue_time for each in times]
    assert queue_times == [0.0, 9.5, 5.5, 0.5], f"a request that waits outside for the server waits in a queue: {queue_times}"
