"""Task 1: what an on_update may do: raise, cancel, submit, be interrupted."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from answer import answer
from support import refuses
from week2.day6_continuous_batching.book_checks import (
    ENDS,
    EOS,
    FailingDetokenizer,
    WatchedBook,
    codes,
    ended,
    serve,
    take_all,
    text_request,
)


class CtrlC(BaseException):
    """Stands for KeyboardInterrupt, which would end the test run if it got out."""


@pytest.mark.parametrize("position", [1, 2, 3])  # the third is the last token
def test_task_1_a_failing_on_update_ends_its_request(position: int) -> None:
    error, calls = OSError("the client's connection is gone"), []

    def fail(request: Any, new_text: str) -> None:
        calls.append(len(request.generated_tokens))
        if len(request.generated_tokens) == position:
            raise error

    book, request, other = WatchedBook(), answer.Request([5], 3, on_update=fail), answer.Request([6], 3)
    serve(book, request, other)
    kept = take_all(book, request, (40, 41, 42))
    assert (request.finish_reason, request.error) == ("error", error), f"on_update raised at token {position}"
    assert kept == [1] * position + [0] * (3 - position), "the token was there before on_update raised, and counts as kept"
    assert calls == list(range(1, position + 1)), "a client that has raised is not called again"
    assert (ended(book), book.released) == ([request], [request]), "it ends once, and gives back what it held once"
    came = ["first token", "token", "token"][:position]
    assert book.log.kinds(request) == ["arrived", "admitted", *came, "failed"], (
        "each token that came back is logged once, and an end by error as failed, also after its last token"
    )
    assert book.log.of(request)[-1].tokens == position, "the token at which on_update raised is one of its tokens"
    assert list(book.running.values()) == [other], "its neighbour runs on"


@pytest.mark.parametrize("end", ["EOS", "cancel", "cancel while it waits"])
def test_task_1_an_on_update_that_fails_at_the_end(end: str) -> None:
    error, calls = OSError("the client's connection is gone"), []

    def fail(request: Any, new_text: str) -> None:
        calls.append(request.finish_reason)
        raise error

    book, request = WatchedBook(), answer.Request([5], 3, eos_token_ids=[7], on_update=fail)
    book.submit(request)
    if end != "cancel while it waits":
        book.admit(request)
    if end == "EOS":
        book.take(request, 7)
    else:
        book.cancel(request)
    assert (request.finish_reason, request.error) == ("error", error), f"on_update raised when it heard of the end ({end})"
    assert len(calls) == 1, "a client that has raised is not called again"
    assert ended(book) == [request], "it has ended all the same, once"
    assert [kind for kind in book.log.kinds(request) if kind in ENDS] == ["failed"], (
        "its end is logged once, with the reason that counts: on_update has raised"
    )


MOMENTS: dict[str, Callable[[Any, Any], Any]] = {
    "a token": lambda book, request: book.take(request, 40),
    "the last token": lambda book, request: take_all(book, request, [41, 42, 43]),
    "EOS": lambda book, request: book.take(request, 7),
    "cancel": lambda book, request: book.cancel(request),
}


@pytest.mark.parametrize(("moment", "inside"), [*((moment, True) for moment in MOMENTS), ("cancel", False)])
def test_task_1_an_interrupt_in_an_update_loses_nobody(moment: str, inside: bool) -> None:
    def interrupt(request: Any, new_text: str) -> None:
        if moment != "the last token" or request.finish_reason is not None:
            raise CtrlC

    book = WatchedBook()
    request = answer.Request([5], 3, eos_token_ids=[7], on_update=interrupt)
    neighbour, waits = answer.Request([6], 9), answer.Request([6], 9)
    serve(book, request, neighbour)
    book.submit(waits)
    with refuses(CtrlC, "an interrupt is no Exception: it goes through, and is not swallowed"):
        if inside:
            with book.iteration():  # as every step does; it calls abandon, which ends all that run
                MOMENTS[moment](book, request)
        else:
            MOMENTS[moment](book, request)
    gone = ended(book)
    assert gone.count(request) == 1, f"interrupted in the update of {moment}, it still has to be returned, once"
    assert request.state == "finished", "what is returned has finished"
    assert request.request_id not in {**book.running, **book.waiting}, "and neither runs nor waits"
    assert book.released.count(request) == 1, "it gives back what it held, once"
    assert book.log.kinds(request)[-1] in ENDS, "its end is logged, and nothing after it"
    assert sum(kind in ENDS for kind in book.log.kinds(request)) == 1, "its end is logged once"
    assert gone.count(neighbour) == inside, (
        "a running request ends with an interrupted iteration; between two, a neighbour runs on"
    )
    assert list(book.waiting.values()) == [waits], "the waiting request is still there"
    assert ended(book) == [], "each is returned once"
    with book.iteration():
        pass  # the book can go on: the interrupt has not left it busy


@pytest.mark.parametrize("moment", ["a token", "the last token", "EOS", "cancel"])
def test_task_1_an_interrupt_in_a_detokenizer_loses_nobody(moment: str) -> None:
    detokenizer: Any = FailingDetokenizer(moment, CtrlC())
    max_tokens = 1 if moment == "the last token" else 3
    request = answer.Request([5], max_tokens, eos_token_ids=[7], detokenizer=detokenizer)
    book = WatchedBook()
    serve(book, request)
    with refuses(CtrlC, "an interrupt is no Exception: it goes through, and is not swallowed"), book.iteration():
        if moment == "cancel":
            book.cancel(request)
        else:
            book.take(request, 7 if moment == "EOS" else 40)
    assert ended(book) == [request], f"interrupted while the detokenizer worked ({moment}), it still has to be returned, once"
    assert (request.state, book.released) == ("finished", [request]), "it has ended, and gives back what it held, once"


@pytest.mark.parametrize("what", ["cancel", "end with an error"])
def test_task_1_a_request_may_end_itself_in_its_update(what: str) -> None:
    book, calls = WatchedBook(), []

    def leave(request: Any, new_text: str) -> None:
        calls.append((new_text, request.state))
        if what == "cancel":
            book.cancel(request)
        else:
            book.end(request, "error", ValueError("say"))

    request = text_request(9, stop=["ax"], on_update=leave)
    serve(book, request)
    request.offset = 3
    assert take_all(book, request, codes("ba")) == [1, 0], "the token before the cancel was kept, the one after it was not"
    expected = [("b", "decoding")] + [("", "finished")] * (what == "cancel")
    assert calls == expected, "it hears of its own end, once, with no text that it has been given already; not of an error"
    assert (ended(book), book.released) == ([request], [request]), "it ends once, though take was in the middle of it"
    end = "cancelled" if what == "cancel" else "failed"
    assert book.log.kinds(request) == ["arrived", "admitted", "first token", end], "each event is reported once"


def test_task_1_a_cancel_in_the_middle_of_a_text_shows_each_letter_once() -> None:
    book, calls = WatchedBook(), []

    def leave(request: Any, new_text: str) -> None:
        calls.append(new_text)
        if len(request.generated_tokens) == 3:
            book.cancel(request)

    request = text_request(stop=["cz"], on_update=leave)
    serve(book, request)
    take_all(book, request, codes("abc"))
    assert (calls, request.text) == (["a", "b", "", "c"], "abc"), (
        "a cancel within an update is told in a call of its own, with what was held back and nothing that was shown before"
    )


@pytest.mark.parametrize("other_waits", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_task_1_an_update_may_cancel_another_request(other_waits: bool, last: bool) -> None:
    book, calls = WatchedBook(), []
    other = answer.Request([6], 9, on_update=lambda r, _: calls.append(r.finish_reason))
    killer = answer.Request([5], 1 if last else 9, on_update=lambda *_: book.cancel(other))
    serve(book, killer)
    book.submit(other)
    if not other_waits:
        book.admit(other)
    assert take_all(book, killer, [40]) == [1], "the one that cancels is served as ever"
    assert take_all(book, other, [41]) == [0], "the one that was cancelled keeps no token that comes after it"
    assert (other.finish_reason, other.generated_tokens, calls) == ("cancelled", [], ["cancelled"]), "it hears of its end, once"
    gone = ended(book)
    assert sorted(map(gone.count, (killer, other))) == [last, 1], "a request that has ended is returned, once"
    assert (killer.request_id in book.running) == (not last), "the one that cancels runs on, if that was not its last token"


def test_task_1_an_update_may_submit() -> None:
    book, follow_up = WatchedBook(), answer.Request([6], 2)
    request = answer.Request([5], 1, on_update=lambda *_: book.submit(follow_up))
    serve(book, request)
    book.take(request, 40)
    assert list(book.waiting.values()) == [follow_up], "an answer may lead to the next question"
    assert ended(book) == [request], "the request that submitted has ended"
    assert book.has_work, "the next one waits"


@pytest.mark.parametrize("inside", [True, False])
def test_task_1_a_step_in_an_update_is_refused(inside: bool) -> None:
    book, other = WatchedBook(), answer.Request([6], 9, on_update=lambda *_: None)

    def step(request: Any, new_text: str) -> None:
        book.cancel(other)  # which has an update of its own
        with book.iteration():
            pass

    request = answer.Request([5], 9, on_update=step)
    serve(book, request, other)
    if inside:
        with book.iteration():
            book.take(request, 40)
    else:
        book.cancel(request)
    assert type(request.error) is RuntimeError, (
        "iteration() has to refuse a step in an on_update, also in that of a cancel between two iterations, and after another"
        " update within it: _tell keeps the book busy while it calls, and then puts back what was;"
        f" the error is {request.error!r}"
    )
    with book.iteration():
        pass  # between two iterations a step is welcome


@pytest.mark.parametrize("seed", range(20))
def test_task_1_whatever_clients_do_the_book_is_right(seed: int) -> None:
    """Random traffic, with clients that raise, cancel themselves and others, and ask again."""
    chance, book = random.Random(seed), WatchedBook()
    everyone: list[Any] = []
    calls: dict[int, list[tuple[str, int, bool]]] = {}

    def act(request: Any, new_text: str) -> None:
        calls[request.request_id].append((new_text, len(request.generated_tokens), request.state == "finished"))
        match chance.choice(["raise", "cancel", "cancel another", "submit"] + ["nothing"] * 8):
            case "raise":
                raise OSError("the client's connection is gone")
            case "cancel":
                book.cancel(request)
            case "cancel another":
                book.cancel(chance.choice(everyone))
            case "submit":
                submit()

    def submit() -> None:
        request = text_request(chance.randint(1, 6), stop=["ab"], on_update=act)
        calls[request.request_id] = []
        everyone.append(book.submit(request))

    gone: list[Any] = []
    submit()
    for _ in range(150):
        with book.iteration():
            match chance.choice(["submit", "admit", "take", "take", "take", "cancel", "close"]):
                case "submit":
                    submit()
                case "admit" if book.waiting:
                    book.admit(chance.choice(list(book.waiting.values())))
                case "take" if ran := [request for request in everyone if request.request_id not in book.waiting]:
                    book.take(chance.choice(ran), chance.choice(codes("aaabbc", b"\xc3", EOS)))
                case "cancel" if chance.random() < 0.3:
                    book.cancel(chance.choice(everyone))
                case "close":
                    gone += ended(book)
    for request in everyone:
        book.cancel(request)
    while book.has_work:  # an update may have submitted once more
        for request in list(book.waiting.values()):
            book.cancel(request)
        gone += ended(book)
    ended(book)
    assert sorted(r.request_id for r in gone) == sorted(r.request_id for r in everyone), "everyone is returned, once"
    for request in everyone:
        heard, kinds, tokens = calls[request.request_id], book.log.kinds(request), len(request.generated_tokens)
        end = {"cancelled": "cancelled", "error": "failed"}.get(request.finish_reason, "finished")
        came = kinds.count("first token") + kinds.count("token")
        expected = ["arrived", *["admitted"] * ("admitted" in kinds), *["first token", *["token"] * came][:came], end]
        assert kinds == expected, (
            f"it ended with {request.finish_reason!r}: its events, in the order in which things happen, should be {expected},"
            f" and they were {kinds}"
        )
        assert 0 <= came - tokens <= 1, f"an event for each of {tokens} tokens, and one for an EOS; there were {came}"
        assert book.log.of(request)[-1].tokens == tokens, "the last event counts the tokens"
        assert book.released.count(request) == 1 or "admitted" not in kinds, "who ran gives back what it held, once"
        before_the_end = [count for _, count, finished in heard if not finished]
        assert before_the_end == list(range(1, len(before_the_end) + 1)), f"one call for each token: {heard}"
        assert 0 <= tokens - len(before_the_end) <= 1, (
            f"{tokens} tokens, of which the last may share its call with the end: {heard}"
        )
        at_the_end = len(heard) - len(before_the_end)
        assert at_the_end == 1 or (at_the_end == 0 and request.error is not None), (
            f"one call at the end, but for errors: {heard}"
        )
        shown = "".join(new_text for new_text, _, _ in heard)
        assert shown == request.text or (request.error is not None and request.text.startswith(shown)), (
            "the pieces add up to the text, and after an error to its beginning"
        )
