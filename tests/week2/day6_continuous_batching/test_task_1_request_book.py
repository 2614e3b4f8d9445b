"""Task 1: the book, which knows which requests wait, run or have ended."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from answer import answer
from support import refuses
from week2.day6_continuous_batching.book_checks import (
    FailingDetokenizer,
    WatchedBook,
    codes,
    ended,
    serve,
    take_all,
    text_request,
)


def test_task_1_the_way_through_the_book() -> None:
    book, first, second = WatchedBook(), answer.Request([5], 2), answer.Request([6], 1)
    assert not book.has_work, "an empty book has no work"
    assert book.submit(first) is first, "submit returns the request that it was given"
    book.submit(second)
    assert (list(book.waiting.values()), list(book.running.values())) == ([first, second], []), "in the order of their arrival"
    book.admit(first)
    assert (list(book.waiting.values()), list(book.running.values())) == ([second], [first]), "admit takes it from the queue"
    assert take_all(book, first, [40, 41]) == [1, 1], "how many tokens were kept"
    assert (first.state, list(book.running.values())) == ("finished", []), "the last token ends it, and it runs no more"
    assert ended(book) == [first], "close_iteration returns the requests that have ended"
    book.admit(second)
    book.take(second, 42)
    assert book.has_work, "the second has ended, and has not been returned"
    assert ended(book) == [second], "close_iteration returns those that have ended since the last one"
    assert ended(book) == [], "each is returned once"
    assert not book.has_work, "all have been returned"


def test_task_1_those_who_run_stand_in_the_order_of_their_admission() -> None:
    book, requests = WatchedBook(), [answer.Request([5], 9) for _ in range(4)]
    for request in requests:
        book.submit(request)
    for place in (2, 0, 3):
        book.admit(requests[place])
    assert list(book.running.values()) == [requests[2], requests[0], requests[3]], "plans decode in the order of admission"
    assert list(book.waiting.values()) == [requests[1]], "those who wait keep their order"


def test_task_1_whoever_ends_is_returned_in_the_order_of_the_ends() -> None:
    book, requests = WatchedBook(), [answer.Request([5], 1) for _ in range(4)]
    serve(book, *requests[:3])
    book.submit(requests[3])
    book.take(requests[2], 40)
    book.cancel(requests[3])
    book.take(requests[0], 40)
    book.end(requests[1], "error", ValueError("say"))
    assert ended(book) == [requests[2], requests[3], requests[0], requests[1]], (
        "close_iteration returns all that have ended, in that order, whether they ran or waited, and whatever the reason"
    )


def test_task_1_a_late_token_is_not_kept() -> None:
    book, request = WatchedBook(), answer.Request([5], 9, eos_token_ids=[7])
    serve(book, request)
    assert take_all(book, request, (40, 7, 41, 7)) == [1, 0, 0, 0], "the EOS is not kept, nor what follows the end"
    assert (request.generated_tokens, request.finish_reason) == ([40], "stop"), "a token after the end leaves no trace"
    assert ended(book) == [request], "a late token ends no request a second time"


@pytest.mark.parametrize("prompt", [[], [0] * 20, [0] * 21, [5, 50, 6], [50], [5, -1, 6], [-1], [2**40]])
def test_task_1_what_can_never_be_served_is_refused(prompt: list[int]) -> None:
    book = WatchedBook(max_seq_len=20, vocab_size=50)
    request = answer.Request(prompt, 30)
    with refuses(
        ValueError, "submit, of a prompt that is empty, leaves no room, or holds a token that the model does not know"
    ):
        book.submit(request)
    assert not book.has_work, "the refused request was never part of it"
    assert (request.state, request.max_tokens) == ("waiting", 30), "a refused request is left as it was"
    book.submit(answer.Request([0, 49] * 9 + [7], 3))  # the longest prompt, with the first and the last token there is
    ended(book)
    assert book.log.of(request) == [], "the metrics hear nothing of a request that was refused"


@pytest.mark.parametrize(("wanted", "allowed"), [(100, 3), (4, 3), (3, 3), (2, 2)])
def test_task_1_the_answer_is_limited_to_the_room_there_is(wanted: int, allowed: int) -> None:
    request = WatchedBook(max_seq_len=20).submit(answer.Request([5] * 17, wanted))
    assert request.max_tokens == allowed, "prompt and answer have max_seq_len tokens together"


def test_task_1_a_request_is_submitted_once() -> None:
    book, request = WatchedBook(), answer.Request([5], 3)
    book.submit(request)
    with refuses(ValueError, "submit, of a request that waits already"):
        book.submit(request)
    book.admit(request)
    request.offset = 1
    with refuses(ValueError, "submit, of a request that runs already"):
        book.submit(request)
    with refuses(ValueError, "submit, of a request that runs already, in another book"):
        WatchedBook().submit(request)
    book.cancel(request)
    with refuses(ValueError, "submit, of a request that has finished"):
        book.submit(request)
    assert ended(book) == [request], "the refused calls have changed nothing"
    assert book.log.kinds(request) == ["arrived", "admitted", "cancelled"], "and none has arrived a second time"


def test_task_1_those_who_were_overtaken_are_counted_at_admission() -> None:
    book, requests = WatchedBook(), [answer.Request([5], 3) for _ in range(5)]
    requests.reverse()  # the order of the queue is that of `submit`, and ids tell nothing of it
    for request in requests:
        book.submit(request)
    assert [request.overtaken for request in requests] == [0] * 5, "none has been admitted, so none was overtaken"
    for place in (2, 0, 3):
        book.admit(requests[place])
    assert [request.overtaken for request in requests] == [1, 2, 0, 0, 0], (
        "a request that is admitted overtakes those that came earlier and still wait, and no others"
    )
    book.cancel(requests[1])
    book.admit(requests[4])
    assert requests[1].overtaken == 2, "a request that has left the queue is not overtaken"


# The one way out.


@pytest.mark.parametrize("admitted", [False, True])
def test_task_1_cancel(admitted: bool) -> None:
    book, request, other = WatchedBook(), answer.Request([5], 3), answer.Request([6], 3)
    book.submit(request)
    book.submit(other)
    if admitted:
        book.admit(request)
    book.cancel(request)
    book.cancel(request)  # once more does no harm
    assert (request.state, request.finish_reason) == ("finished", "cancelled"), "cancel works in whatever state it is"
    assert (list(book.waiting.values()), list(book.running.values())) == ([other], []), "it waits and runs no more"
    assert ended(book) == [request], "a cancel is an end: close_iteration returns it, once"


def test_task_1_cancel_leaves_what_has_finished_as_it_is() -> None:
    book, request = WatchedBook(), answer.Request([5], 1)
    serve(book, request)
    book.take(request, 40)
    book.cancel(request)
    assert request.finish_reason == "length", "it had finished before it was cancelled"
    assert ended(book) == [request], "and comes out of the book once"
    book.cancel(request)
    assert ended(book) == [], "a cancel after it was returned does not bring it back"


def test_task_1_a_refused_request_that_is_cancelled_just_ends() -> None:
    told: list[Any] = []
    book, refused = WatchedBook(), answer.Request([], 1, on_update=lambda request, _: told.append(request))
    book.cancel(refused)  # a server does that when its client has gone, whatever became of the request
    assert (refused.state, refused.finish_reason) == ("finished", "cancelled"), "cancel finishes a request that was refused"
    assert (ended(book), book.released, told, book.log.of(refused)) == ([], [], [], []), (
        "it was never in the book: it is not returned, released, told to its client, or reported to the metrics"
    )


def test_task_1_whoever_ends_gives_back_what_it_holds() -> None:
    book = WatchedBook()
    requests = [answer.Request([5], 1), answer.Request([5], 9, eos_token_ids=[7]), *(answer.Request([5], 9) for _ in range(2))]
    serve(book, *requests)
    for request, token in zip(requests, (40, 7, 40, 40), strict=True):
        book.take(request, token)
    assert book.released == requests[:2], "the first two have ended, by their last token and by an EOS, and the others have not"
    book.cancel(requests[2])
    book.end(requests[3], "error", ValueError("say"))
    for request in requests:
        book.cancel(request)
        book.end(request, "error", ValueError("once more"))
        book.take(request, 41)
    assert book.released == requests, "release is called for each request that ends, whatever the reason, and once"


def test_task_1_an_error_after_the_end_is_noted_and_nothing_else() -> None:
    book, request, error = WatchedBook(), answer.Request([5], 1), ValueError("say")
    serve(book, request)
    book.take(request, 40)
    book.end(request, "error", error)
    assert (request.finish_reason, request.error) == ("error", error), "a first error replaces another reason"
    assert (ended(book), book.released) == ([request], [request]), "but it has ended once"


@pytest.mark.parametrize("moment", ["a token", "the last token", "EOS", "cancel"])
def test_task_1_a_detokenizer_that_fails_ends_its_request(moment: str) -> None:
    detokenizer: Any = FailingDetokenizer(moment, OSError("no such letter"))
    told: list[Any] = []
    request = answer.Request(
        [5], 2, eos_token_ids=[7], detokenizer=detokenizer, on_update=lambda r, _: told.append(r.finish_reason)
    )
    book, other = WatchedBook(), answer.Request([5], 9)
    serve(book, request, other)
    book.take(request, 40)
    if moment == "cancel":
        book.cancel(request)
    else:
        book.take(request, 7 if moment == "EOS" else 41)
    assert (request.finish_reason, request.error) == ("error", detokenizer.error), (
        f"the detokenizer raised at {moment}, and its request ends with that error: look at who calls accept and finish"
    )
    assert told == [None] * (moment != "a token"), "after an end by error on_update is not called, whatever ended the request"
    assert (ended(book), book.released, list(book.running.values())) == ([request], [request], [other]), (
        "it is out of the book, once, and no other request has anything to do with it"
    )
    second = ["token"] * (moment in ("the last token", "EOS"))
    logged = book.log.kinds(request)
    assert logged == ["arrived", "admitted", "first token", *second, "failed"], (
        "a token that has come back is logged, whatever became of its text: the first as FIRST_TOKEN, any other as TOKEN; and"
        f" an end by error is logged as FAILED. Here {', '.join(logged)} was logged"
    )


# What the metrics are told.


def test_task_1_every_event_has_its_time() -> None:
    now = 0.0
    book = WatchedBook(clock=lambda: now)
    served, waits = answer.Request([5], 3), answer.Request([5], 3)
    now = 1.0
    book.submit(served)
    now = 2.0
    book.submit(waits)
    now = 4.0
    book.admit(served)
    for time in (8.0, 16.0, 32.0):
        now = time
        book.take(served, 40)
    now = 64.0
    book.cancel(waits)
    now = 128.0
    ended(book)
    (state,) = book.log.states
    assert state.time == 128, "a BatchState has the time of the iteration's end"
    assert [(event.time, event.kind.value) for event in book.log.of(served)] == [
        (1, "arrived"),
        (4, "admitted"),
        (8, "first token"),
        (16, "token"),
        (32, "token"),
        (32, "finished"),
    ], "arrived at submit, admitted at admit, a token each time that one is taken, finished at the end"
    assert [(event.time, event.kind.value) for event in book.log.of(waits)] == [(2, "arrived"), (64, "cancelled")], (
        "one that is cancelled while it waits arrives and is cancelled, and nothing in between"
    )


def test_task_1_an_arrival_is_logged_with_the_length_of_its_prompt() -> None:
    book, requests = WatchedBook(), [answer.Request([5] * length, 3) for length in (1, 4, 190)]
    for request in requests:
        book.submit(request)
    ended(book)
    (state,) = book.log.states
    arrivals = [(event.kind.value, event.request_id, event.tokens) for event in state.events]
    assert arrivals == [("arrived", request.request_id, len(request.prompt)) for request in requests], (
        "submit logs each arrival in its turn, with the number of the prompt's tokens: those of the answer are not there yet"
    )


@pytest.mark.parametrize(
    ("tokens", "reason", "end", "kept"),
    [
        ([40, 41], "length", "finished", 2),
        ([40, 7], "stop", "finished", 1),
        ([7], "stop", "finished", 0),
        ([40], "cancelled", "cancelled", 1),
        ([], "cancelled", "cancelled", 0),
        ([40], "error", "failed", 1),
        ([], "error", "failed", 0),
    ],
)
def test_task_1_an_end_is_logged_with_its_kind_and_the_tokens_that_were_kept(
    tokens: list[int], reason: str, end: str, kept: int
) -> None:
    book, request = WatchedBook(), answer.Request([5], 2, eos_token_ids=[7])
    serve(book, request)
    take_all(book, request, tokens)
    if reason == "cancelled":
        book.cancel(request)
    elif reason == "error":
        book.end(request, "error", ValueError("say"))
    take_all(book, request, [41, 7])  # what was on its way
    ended(book)
    assert request.finish_reason == reason, "the reason of the end"
    came = ["first token", "token"][: len(tokens)]
    assert book.log.kinds(request) == ["arrived", "admitted", *came, end], (
        f"a token event for each token that came back before the end, also for an EOS, and then {end!r}, since it ended with"
        f" {reason!r}"
    )
    assert book.log.of(request)[-1].tokens == kept, "an end counts the tokens of the answer: no EOS, nothing after the end"


def test_task_1_a_stop_string_is_a_finish_like_any_other() -> None:
    book, request = WatchedBook(), text_request(9, stop=["b"])
    serve(book, request)
    take_all(book, request, codes("aab"))
    ended(book)
    assert book.log.kinds(request) == ["arrived", "admitted", "first token", "token", "token", "finished"], (
        "each token that came back is logged, the one that completes the stop string, too, and then the end"
    )
    assert book.log.of(request)[-1].tokens == 3, "an end counts the generated tokens, though the text ends before the last"


def test_task_1_tokens_of_several_requests_are_logged_as_they_are_taken() -> None:
    book, first, second = WatchedBook(), answer.Request([5], 3), answer.Request([6], 3)
    serve(book, first, second)
    for request in (second, first, first, second):
        book.take(request, 40)
    ended(book)
    (state,) = book.log.states
    tokens = [(event.request_id, event.kind.value) for event in state.events if "token" in event.kind.value]
    assert tokens == [
        (second.request_id, "first token"),
        (first.request_id, "first token"),
        (first.request_id, "token"),
        (second.request_id, "token"),
    ], "each request has a first token of its own, and the events are in the order in which things happened"


def test_task_1_an_iteration_is_reported_with_what_has_happened_since_the_last() -> None:
    book, first, second = WatchedBook(), answer.Request([5], 1), answer.Request([5], 1)
    serve(book, first)
    book.close_iteration(active=1, max_slots=4, queue_size=2, new_tokens=3)
    book.take(first, 40)
    serve(book, second)
    book.close_iteration(active=5, max_slots=6, queue_size=7, new_tokens=8)
    book.close_iteration(active=0, max_slots=6, queue_size=0, new_tokens=0)
    states = book.log.states
    assert [(s.active_requests, s.max_slots, s.queue_size, s.new_tokens) for s in states] == [
        (1, 4, 2, 3),
        (5, 6, 7, 8),
        (0, 6, 0, 0),
    ], "metrics.update gets a BatchState of each iteration, an idle one too, with the numbers that close_iteration was given"
    assert [[event.kind.value for event in state.events] for state in states] == [
        ["arrived", "admitted"],
        ["first token", "finished", "arrived", "admitted"],
        [],
    ], "each event is reported once, with the iteration that is closed next, in the order in which they happened"
    assert [(state.step, {event.step for event in state.events}) for state in states] == [(0, {0}), (1, {1}), (2, set())], (
        "iterations are numbered from 0, and each event carries the number of the iteration that it is reported with"
    )


def test_task_1_readers_of_the_log_are_told_what_the_metrics_are_told() -> None:
    book, early, late = WatchedBook(), [], []
    book.event_log.readers.append(early.append)
    request = answer.Request([5], 2)
    serve(book, request)
    book.close_iteration(active=1, max_slots=4, queue_size=2, new_tokens=0)
    book.event_log.readers.append(late.append)
    book.take(request, 40)
    book.cancel(request)
    book.close_iteration(active=1, max_slots=4, queue_size=0, new_tokens=1)
    assert early == book.log.states, (
        "a function in event_log.readers is given the state of every iteration, the same that the metrics are given: events"
        " have to go through the book's own event_log"
    )
    assert late == book.log.states[1:], "a reader that comes later is given the iterations from then on"


def test_task_1_the_book_belongs_to_one_thread() -> None:
    book, request = WatchedBook(), answer.Request([5], 2)
    book.submit(request)
    with ThreadPoolExecutor(1) as elsewhere:
        for name, call in (("submit", lambda: book.submit(answer.Request([5], 2))), ("cancel", lambda: book.cancel(request))):
            with refuses(RuntimeError, f"{name}, in another thread than the one that made the book (check_thread is given)"):
                elsewhere.submit(call).result()
    assert list(book.waiting.values()) == [request], "a refused call changes nothing"
    assert request.state == "waiting", "a refused call changes nothing"
    ended(book)
    (state,) = book.log.states
    assert [event.kind.value for event in state.events] == ["arrived"], "and the metrics hear only of the one that was queued"
