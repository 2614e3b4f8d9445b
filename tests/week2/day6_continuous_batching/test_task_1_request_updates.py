"""Task 1: what a client hears of its request. What its on_update may do itself is in test_task_1_request_callbacks.py."""

from typing import Any

import pytest

from answer import answer
from week2.day6_continuous_batching.book_checks import (
    EOS,
    STOPS,
    WatchedBook,
    codes,
    ended,
    serve,
    take_all,
    text_request,
)


def told(*said: str | bytes | int, max_tokens: int = 100, **options: Any) -> tuple[Any, list[tuple[str, str, str | None]]]:
    """A request that was handed the tokens of `said` by a book; what each call of its on_update was given and saw:
    the new text, `request.text`, and `request.finish_reason`."""
    calls: list[tuple[str, str, str | None]] = []

    def note(request: Any, new_text: str) -> None:
        calls.append((new_text, request.text, request.finish_reason))

    request = text_request(max_tokens, on_update=note, **options)
    book = WatchedBook()
    serve(book, request)
    take_all(book, request, codes(*said))
    return request, calls


def pieces(calls: list[tuple[str, str, str | None]]) -> str:
    return "".join(new_text for new_text, _, _ in calls)


def test_task_1_text_comes_in_pieces_that_make_the_whole() -> None:
    said = "größte Äpfel, 5 €"
    request, calls = told(said, max_tokens=len(said.encode()))
    assert pieces(calls) == request.text == said, "the pieces given to on_update add up to the text: none lost, none twice"
    assert len(calls) == len(said.encode()), "on_update is called after every token, also when there is no new text yet"


UPDATES = {
    "an EOS has a call of its own, with no text": (
        ("ab", EOS),
        100,
        [],
        [("a", "a", None), ("b", "ab", None), ("", "ab", "stop")],
    ),
    "an EOS at once": ((EOS,), 100, [], [("", "", "stop")]),
    "the last token and the end share a call": (("ab",), 2, [], [("a", "a", None), ("b", "ab", "length")]),
    "a letter comes with its last byte": (("aé",), 3, [], [("a", "a", None), ("", "a", None), ("é", "aé", "length")]),
    "half a letter comes at the end": ((b"a\xc3",), 2, [], [("a", "a", None), ("�", "a�", "length")]),
    "half a letter comes with an EOS": (
        (b"a\xc3", EOS),
        100,
        [],
        [("a", "a", None), ("", "a", None), ("�", "a�", "stop")],
    ),
    "what could begin a stop string comes with an EOS": (
        ("axy", EOS),
        100,
        ["xyz"],
        [("a", "a", None), ("", "a", None), ("", "a", None), ("xy", "axy", "stop")],
    ),
    "what could begin a stop string comes with the last token": (
        ("axy",),
        3,
        ["xyz"],
        [("a", "a", None), ("", "a", None), ("xy", "axy", "length")],
    ),
    "a stop string ends with its last token": (
        ("axyzb",),
        100,
        ["xyz"],
        [("a", "a", None), ("", "a", None), ("", "a", None), ("", "a", "stop")],
    ),
    "a stop string ends with the last token allowed": (
        ("axyz",),
        4,
        ["xyz"],
        [("a", "a", None), ("", "a", None), ("", "a", None), ("", "a", "stop")],
    ),
}
"""What is said, max_tokens, stop strings, and of each call the new text, `request.text` and `request.finish_reason`."""


@pytest.mark.parametrize("meaning", UPDATES)
def test_task_1_what_each_update_sees(meaning: str) -> None:
    said, max_tokens, stops, expected = UPDATES[meaning]
    request, calls = told(*said, max_tokens=max_tokens, stop=stops)
    assert calls == expected, (
        f"{meaning}: one call per token, and one for an end that no kept token brings; request.text already holds the new text"
    )
    assert request.text == pieces(expected), "after the last call nothing more comes"


def test_task_1_a_stop_string_that_only_the_end_completes_is_not_shown() -> None:
    _, calls = told(b"ab\xc3", EOS, stop=["b�"])
    assert pieces(calls) == "a", "the end lets go of 'b�', which is the stop string: it is not shown"


@pytest.mark.parametrize(("said", "stops", "text"), STOPS)
def test_task_1_what_was_shown_cannot_be_taken_back(said: str, stops: list[str], text: str) -> None:
    request, calls = told(said, stop=stops)
    assert pieces(calls) == text, "hold back what could begin a stop string, and show no part of one"
    assert len(calls) == len(request.generated_tokens), "one call per token: the last one is the end's as well"


def test_task_1_without_a_detokenizer_updates_come_with_no_text() -> None:
    calls: list[tuple[int, str]] = []
    request = answer.Request([5], 2, on_update=lambda r, new_text: calls.append((len(r.generated_tokens), new_text)))
    book = WatchedBook()
    serve(book, request)
    take_all(book, request, [97, 98])
    assert calls == [(1, ""), (2, "")], "a client that gives no detokenizer is called for every token, with an empty text"


def test_task_1_on_update_sees_the_request_as_it_then_is() -> None:
    seen: list[tuple[int, str]] = []
    request = answer.Request([5], 10, eos_token_ids=[0], on_update=lambda r, _: seen.append((len(r.generated_tokens), r.state)))
    book = WatchedBook()
    serve(book, request)
    request.offset = 1
    take_all(book, request, (40, 41, 0))
    assert seen == [(1, "decoding"), (2, "decoding"), (2, "finished")], (
        "after every token, which is among the generated tokens by then, and once at the end"
    )


def test_task_1_on_update_is_called_once_for_the_last_token() -> None:
    seen: list[tuple[int, str]] = []
    request = answer.Request([5], 2, on_update=lambda r, _: seen.append((len(r.generated_tokens), r.state)))
    book = WatchedBook()
    serve(book, request)
    request.offset = 1
    take_all(book, request, [40, 41, 42])
    book.cancel(request)
    assert seen == [(1, "decoding"), (2, "finished")], "the last token's update is also the final one, and says so"


@pytest.mark.parametrize("admitted", [False, True])
def test_task_1_cancelling_delivers_what_is_there(admitted: bool) -> None:
    calls: list[tuple[str, str, str | None]] = []
    request = text_request(stop=["xyz"], on_update=lambda r, new_text: calls.append((new_text, r.text, r.finish_reason)))
    book = WatchedBook()
    book.submit(request)
    if admitted:
        book.admit(request)
        take_all(book, request, codes(b"abx\xc3"))
        calls.clear()
    book.cancel(request)
    book.cancel(request)
    expected = [("x�", "abx�", "cancelled")] if admitted else [("", "", "cancelled")]
    assert calls == expected, "the client hears of the end once, and is given what was held back"


def test_task_1_after_an_error_held_back_text_is_not_shown() -> None:
    calls: list[str] = []
    request = text_request(stop=["xyz"], on_update=lambda _, new_text: calls.append(new_text))
    book = WatchedBook()
    serve(book, request)
    take_all(book, request, codes("abx"))
    book.end(request, "error", RuntimeError("the model has failed, say"))
    book.cancel(request)
    assert (calls, request.text) == (["a", "b", ""], "ab"), "on_update may be what went wrong: after an error it is not called"
    assert ended(book) == [request], "an error is an end like the others"
