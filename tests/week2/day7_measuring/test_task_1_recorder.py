"""Task 1: what a recorder reads from the log."""

from typing import Any

import pytest

from answer import answer
from week2.day7_measuring.logs import (
    ADMITTED,
    ARRIVED,
    CANCELLED,
    FAILED,
    FINISHED,
    FIRST_TOKEN,
    PREEMPTED,
    PREFILL_CHUNK,
    TOKEN,
    Told,
    life,
    read,
    simulated,
    state,
    told_of,
)


def test_task_1_recorder_the_life_of_a_request() -> None:
    recorder = read(
        state(2, [(1, ARRIVED, 7, 30)]),
        state(4, [(3, ADMITTED, 7), (3.5, PREFILL_CHUNK, 7, 20, 20)], step=1),
        state(6, [(5, PREFILL_CHUNK, 7, 10, 30)], step=2),
        state(8, [(7, FIRST_TOKEN, 7)], new_tokens=1, step=3),
        state(10, [(9, TOKEN, 7)], new_tokens=1, step=4),
        state(13, [(12, TOKEN, 7), (12.5, FINISHED, 7, 3)], new_tokens=1, step=5),
    )
    assert set(recorder.requests) == {7}, "`requests` knows each request by its id"
    request = recorder.requests[7]
    assert (request.arrived, request.prompt_tokens) == (1, 30), "ARRIVED tells when, and how long the prompt is"
    assert request.admitted == 3, "ADMITTED tells when its work begins"
    assert request.tokens == [7, 9, 12], (
        "FIRST_TOKEN and TOKEN tell when each token came: the time of the event, not of its state"
    )
    assert (request.ended, request.end, request.generated) == (12.5, FINISHED, 3), (
        "the end tells when, how, and how many tokens"
    )
    assert request.preemptions == 0, "it has kept its memory"


@pytest.mark.parametrize("kind", [FINISHED, CANCELLED, FAILED])
@pytest.mark.parametrize("tokens", [[], [4], [4, 5, 9]])
def test_task_1_recorder_every_kind_of_end_is_an_end(kind: Any, tokens: list[float]) -> None:
    request = told_of(life(1, 2, tokens, admitted=3, end=kind)).requests[1]
    assert (request.end, request.ended, request.generated) == (kind, [3, *tokens][-1], len(tokens)), (
        f"{kind} ends a request with {len(tokens)} tokens, and `end` says which of the three it was"
    )
    assert request.latency == [3, *tokens][-1] - 2, "a request that ended has a latency, however it ended"


def test_task_1_recorder_requests_are_told_apart() -> None:
    requests = [life(number, number / 4, [number + 5, number + 6, 2 * number + 8], admitted=number) for number in range(1, 9)]
    for at_once in (1, 3, 100):
        recorder = told_of(*requests, at_once=at_once)
        for number in range(1, 9):
            request = recorder.requests[number]
            got = (request.arrived, request.admitted, request.tokens, request.ended, request.generated)
            assert got == (number / 4, number, [number + 5, number + 6, 2 * number + 8], 2 * number + 8, 3), (
                f"request {number}: eight requests are served together, with {at_once} events in an iteration, and each event"
                " belongs to the request whose id it has"
            )


def test_task_1_recorder_whoever_is_still_on_the_way_is_known() -> None:
    waits = [(1.0, ARRIVED, 1, 5)]
    speaks = [(1.0, ARRIVED, 2, 5), (2.0, ADMITTED, 2), (3.0, FIRST_TOKEN, 2), (5.0, TOKEN, 2)]
    recorder = told_of(waits, speaks, life(3, 1, [4]))
    assert set(recorder.requests) == {1, 2, 3}, (
        "a run may be looked at before it is over, with all that is known of every request"
    )
    assert (recorder.requests[1].admitted, recorder.requests[1].ended, recorder.requests[1].end) == (None, None, None), (
        "it waits: None is for what has not happened"
    )
    assert (recorder.requests[2].tokens, recorder.requests[2].end) == ([3, 5], None), "it has spoken twice, and not ended"


def test_task_1_recorder_of_one_whose_arrival_was_lost_nothing_is_kept() -> None:
    lost: list[Told] = [
        (2, ADMITTED, 1),
        (3, PREFILL_CHUNK, 1, 5, 5),
        (4, FIRST_TOKEN, 1),
        (5, TOKEN, 1),
        (6, PREEMPTED, 1),
        (8, FINISHED, 1, 2),
    ]
    recorder = read(state(8, lost, active=1, new_tokens=2), state(9, life(2, 8, [9])))
    assert set(recorder.requests) == {2}, "without its arrival a request has no figures: its events are passed over"
    assert recorder.started == 8, "and it does not begin the run"
    assert (recorder.tokens, recorder.used_slots) == (2, 1), "what the step says of itself counts all the same"


def test_task_1_recorder_preemptions_are_counted() -> None:
    """A request that loses its memory twice; its second admission is no first one."""
    events: list[Told] = [
        (1, ARRIVED, 1, 5),
        (2, ADMITTED, 1),
        (3, FIRST_TOKEN, 1),
        (4, PREEMPTED, 1),
        (5, TOKEN, 1),
        (6, ADMITTED, 1),
        (6, PREFILL_CHUNK, 1, 7, 7),
        (7, PREEMPTED, 1),
        (9, TOKEN, 1),
        (9, FINISHED, 1, 3),
    ]
    for number, other in ((1, 2), (2, 1)):
        mine = [(time, kind, number, *rest) for time, kind, _, *rest in events]
        recorder = told_of(mine, life(other, 1, [4, 6, 8]))
        request = recorder.requests[number]
        assert (request.preemptions, recorder.requests[other].preemptions) == (2, 0), "each time that it lost its memory counts"
        assert request.admitted == 2, "`admitted` is when it was admitted first, whatever came later"
        assert request.tokens == [3, 5, 9], "a preempted request keeps its tokens, and what is in flight still comes"
        assert request.inter_token_latencies == [2, 4], "to its reader, preemption is a long gap between two tokens"


def test_task_1_recorder_a_log_without_tokens() -> None:
    request = told_of(simulated(1, arrived=2, first_token=5, ended=17, tokens=7)).requests[1]
    assert (request.ttft, request.tpot, request.latency) == (3, 2, 15), (
        "a simulation logs the first token, and the end with the number of tokens: these figures need no more"
    )
    assert request.inter_token_latencies == [], "but it is not known when each token came"


# What the steps held.


def test_task_1_recorder_what_the_steps_held() -> None:
    recorder = read(
        state(2, [(1, ARRIVED, 1, 5)], active=3, slots=4, new_tokens=0),
        state(4, active=4, slots=4, new_tokens=5),
        state(9, active=0, slots=4, new_tokens=2),
        state(16, active=1, slots=8, new_tokens=0),
    )
    assert recorder.steps == 4, "an iteration in which nothing happened is an iteration"
    assert recorder.tokens == 7, "`tokens` adds up `new_tokens`: those that became part of an answer"
    assert (recorder.used_slots, recorder.offered_slots) == (8, 20), (
        "each iteration adds its active requests to `used_slots` and its slots to `offered_slots`"
    )
    assert (recorder.started, recorder.ended) == (1, 16), "from the first arrival to the end of the last step"


def test_task_1_recorder_the_first_arrival_begins_the_run() -> None:
    recorder = read(state(1), state(3))
    assert (recorder.started, recorder.ended) == (None, 3), "no request has arrived, though time has passed"
    recorder.read(state(5, [(4.5, ARRIVED, 1, 5), (4.75, ARRIVED, 2, 5)]))
    recorder.read(state(8, [(7, ARRIVED, 3, 5)]))
    assert recorder.started == 4.5, "the first arrival stays the first, and idle steps before it do not count"


def test_task_1_recorder_a_run_may_begin_at_zero() -> None:
    recorder = read(state(1, [(0, ARRIVED, 1, 5)]), state(3, [(2, ARRIVED, 2, 5)]))
    assert recorder.started == 0, "0 is a time like any other: the first arrival was at 0, not at 2"


def test_task_1_recorder_each_run_has_a_recorder_of_its_own() -> None:
    first, second = told_of(life(1, 2, [4, 5])), told_of(life(2, 3, [6]))
    assert (set(first.requests), set(second.requests)) == ({1}, {2}), "recorders share nothing"
    assert (first.requests[1].tokens, second.requests[2].tokens) == ([4, 5], [6]), "nor do the times of two requests"


def test_task_1_recorder_everything_is_kept() -> None:
    recorder, requests = answer.RunRecorder(), 12_000
    for number in range(requests):
        recorder.read(state(number + 2, life(number, number, [number + 1, number + 2]), active=1, new_tokens=2))
    assert len(recorder.requests) == recorder.steps == requests, "a recorder forgets no request, unlike `BatchingMetrics`"
    assert recorder.requests[0].inter_token_latencies == [1], "nor when each of the tokens came"


def test_task_1_recorder_reads_a_log() -> None:
    now = 0.0
    log, recorder = answer.EventLog(lambda: now), answer.RunRecorder()
    log.readers.append(recorder.read)
    for time, kind, tokens in (
        (1.0, ARRIVED, 9),
        (2.0, ADMITTED, 0),
        (4.0, FIRST_TOKEN, 0),
        (8.0, TOKEN, 0),
        (8.0, CANCELLED, 2),
    ):
        now = time
        log.record(kind, 5, tokens)
        now += 0.5
        log.close_step(active=1, max_slots=2, queue_size=0, new_tokens=int(kind in (FIRST_TOKEN, TOKEN)))
    request = recorder.requests[5]
    assert (request.prompt_tokens, request.queue_time, request.ttft, request.tpot, request.latency) == (9, 1, 3, 4, 7), (
        "put among the readers of a log, `read` is given the state of every iteration"
    )
    assert (recorder.steps, recorder.tokens, recorder.ended) == (5, 2, 8.5), "and of the last one, too"
