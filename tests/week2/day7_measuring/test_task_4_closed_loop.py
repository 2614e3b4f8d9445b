"""Task 4, second part: a closed loop. A number of clients, each of which waits for an answer before asking again."""

from collections.abc import Sequence
from typing import Any

import pytest

from answer import answer
from fake_clock import FakeClock, Recorder, TimedServer
from support import expect_no_error, refuses


def some(*max_tokens: int) -> list[Any]:
    return [answer.Request([1, 2, 3], tokens) for tokens in max_tokens]


def serve(server: TimedServer, requests: Sequence[Any], clients: int) -> None:
    __tracebackhide__ = True
    answer.closed_loop(server, requests, clients, server.fake_clock.sleep)
    expect_no_error(*requests)
    open_ones = [request.request_id for request in requests if request.state != "finished"]
    assert not open_ones, f"the loop returned, and requests {open_ones} have not ended"
    assert not server.has_work, "the loop is over when step has returned all requests"


def watch_unanswered(server: TimedServer, requests: Sequence[Any]) -> list[int]:
    """How many requests are on their way whenever a step begins."""
    counts: list[int] = []
    given = server.seconds

    def seconds(step: int) -> float:
        counts.append(len(server.waiting) + len(server.running))
        return given(step)

    server.seconds = seconds
    return counts


@pytest.mark.parametrize("clients", [1, 2, 3, 5])
def test_task_4_closed_every_client_has_one_request_on_its_way(clients: int) -> None:
    server = TimedServer(FakeClock(), slots=2)
    requests = some(3, 1, 4, 1, 5, 2, 2, 1)
    unanswered = watch_unanswered(server, requests)
    serve(server, requests, clients)
    assert max(unanswered) <= clients, (
        f"{clients} clients had {max(unanswered)} requests on their way: each waits for its answer before it asks again"
    )
    full = unanswered[: len(unanswered) - max(request.max_tokens for request in requests)]
    assert set(full) == {clients}, (
        f"when a step began {unanswered} requests were on their way, of {clients} clients: as long as there are requests, each"
        " client sends the next one as soon as its last one has ended, before the next step"
    )


def test_task_4_closed_the_next_one_is_sent_when_the_last_one_has_ended() -> None:
    server = TimedServer(FakeClock(), slots=4)
    requests = some(3, 1, 2, 1, 1)
    serve(server, requests, 2)
    came = [time - 64 for time in server.times("ARRIVED", *requests)]
    assert came == [0.0, 0.0, 1.0, 3.0, 3.0], (
        "steps take 1 s; answers of 3 and 1 tokens end at 3 and 1 s, then those of 2 and 1 at 3 and 4 s: the third comes at 1,"
        f" the fourth and the fifth at 3 s; they came at {came}"
    )


def test_task_4_closed_a_single_client_is_never_in_company() -> None:
    server = TimedServer(FakeClock(), slots=4)
    requests = some(2, 3, 1)
    serve(server, requests, 1)
    assert server.steps == 6, f"6 tokens, one after another, are 6 steps, and there were {server.steps}"
    assert {state.active_requests for state in server.states} == {1}, "one client: one request at a time"


def test_task_4_closed_requests_are_sent_in_their_order() -> None:
    server = TimedServer(FakeClock(), slots=1)
    requests = some(2, 1, 3, 1, 1)[::-1]
    serve(server, requests, 3)
    came, admitted = server.times("ARRIVED", *requests), server.times("ADMITTED", *requests)
    assert came == sorted(came), f"they were sent at {came}"
    assert admitted == sorted(admitted), f"the request sent first is there first, and they were admitted at {admitted}"


def test_task_4_closed_more_clients_than_requests() -> None:
    server = TimedServer(FakeClock(), slots=8)
    requests = some(2, 2, 2)
    serve(server, requests, 50)
    assert server.steps == 2, f"all come at once, and each has 2 tokens: 2 steps, not {server.steps}"


def test_task_4_closed_without_requests() -> None:
    server = TimedServer(FakeClock())
    serve(server, [], 3)
    assert server.steps == server.idle_steps == 0, "no client asks for anything, so there is nothing to do"


def test_task_4_closed_and_open_before_the_same_slow_server() -> None:
    """A closed loop asks a slow server less often, and so never sees the queue that is there in the world."""
    closed, opened = TimedServer(FakeClock(), slots=1), TimedServer(FakeClock(), slots=1)
    serve(closed, some(*[2] * 30), 4)
    longest = max(state.queue_size for state in closed.states)
    assert longest == 3, f"one of 4 clients is served, so 3 wait, and never more or fewer while there are requests: {longest}"
    arrivals = [0.5 * place for place in range(30)]
    answer.open_loop(opened, some(*[2] * 30), arrivals, Recorder(), opened.fake_clock.sleep)
    longest = max(state.queue_size for state in opened.states)
    assert longest > 20, (
        "in the open loop 30 come within 15 s, of which 7 have been served by then: the others wait, more than 20, and at most"
        f" {longest} did: each request whose time has come is submitted before the next step"
    )


def test_task_4_closed_respects_idle_until() -> None:
    server = TimedServer(FakeClock(), waits=2.0)
    requests = some(1, 1)
    serve(server, requests, 1)
    assert [time - 64 for time in server.times("ADMITTED", *requests)] == [2.0, 5.0], (
        "the server begins 2 s after a request came: at 2 s, and after a step of 1 s and 2 s more at 5 s"
    )
    assert server.idle_steps == 0, (
        f"{server.idle_steps} steps were made before idle_until: until then a step does nothing, so sleep"
    )
    assert sum(server.fake_clock.slept) == 4.0, f"it slept for {server.fake_clock.slept}, and the server waits for 2 s twice"


def test_task_4_closed_sleeps_for_nobody_else() -> None:
    server = TimedServer(FakeClock())
    serve(server, some(3, 1, 2), 2)
    assert server.fake_clock.slept == [], "there is always something to do, so nothing sleeps"


# What goes wrong.


@pytest.mark.parametrize("clients", [1, 2])
def test_task_4_closed_a_refused_request_ends_with_its_error_and_its_client_goes_on(clients: int) -> None:
    server = TimedServer(FakeClock())
    requests = [answer.Request(prompt, 2) for prompt in ([1], [], [], [], [2], [3])]
    unanswered = watch_unanswered(server, requests)
    answer.closed_loop(server, requests, clients, server.fake_clock.sleep)
    ends = [request.finish_reason for request in requests]
    assert ends == ["length", "error", "error", "error", "length", "length"], (
        f"empty prompts are refused, the others are served: {ends}"
    )
    kinds = [type(request.error).__name__ for request in requests[1:4]]
    assert kinds == ["ValueError"] * 3, f"each keeps the error that refused it, a ValueError; they have {kinds}"
    assert unanswered[0] == clients, (
        f"when the first step began {unanswered[0]} requests were on their way, of {clients} clients: the client of a refused"
        " one sends the next one at once"
    )


def test_task_4_closed_ends_when_all_are_refused() -> None:
    server = TimedServer(FakeClock())
    requests = [answer.Request([], 2) for _ in range(3)]
    answer.closed_loop(server, requests, 2, server.fake_clock.sleep)
    assert [request.finish_reason for request in requests] == ["error"] * 3, "empty prompts are refused"


def test_task_4_closed_whoever_fails_or_is_cancelled_has_ended() -> None:
    server = TimedServer(FakeClock())

    def fail(request: Any, new_text: str) -> None:
        raise OSError("the client's connection is gone")

    def leave(request: Any, new_text: str) -> None:
        server.cancel(request)

    requests = [answer.Request([1], 3, on_update=act) for act in (fail, leave, None, fail, None)]
    answer.closed_loop(server, requests, 1, server.fake_clock.sleep)
    ends = [request.finish_reason for request in requests]
    assert ends == ["error", "cancelled", "length", "error", "length"], f"each ends in its own way, its client goes on: {ends}"


@pytest.mark.parametrize("clients", [0, -3])
def test_task_4_closed_refuses_to_serve_nobody(clients: int) -> None:
    server = TimedServer(FakeClock())
    requests = some(1, 1)
    with refuses(ValueError, f"{clients} clients", named=str(clients)):
        answer.closed_loop(server, requests, clients, server.fake_clock.sleep)
    assert not server.has_work, "it is refused before anyone is submitted"


def test_task_4_closed_works_with_the_real_sleep() -> None:
    server = TimedServer(FakeClock())
    requests = some(1, 2)
    answer.closed_loop(server, requests, 1)
    expect_no_error(*requests)
    assert server.steps == 3, f"two requests, 3 tokens, one client: 3 steps, not {server.steps}"
