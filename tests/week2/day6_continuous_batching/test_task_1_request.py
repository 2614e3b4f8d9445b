"""Task 1: the life of a request, by itself. The book that hands it its tokens is in test_task_1_request_book.py."""

from typing import Any

import pytest

from answer import answer
from support import refuses
from week2.day6_continuous_batching.book_checks import EOS, STOPS, TOKENIZER, speak, text_request


def test_task_1_state_follows_the_offset() -> None:
    request = answer.Request([5, 6, 7], 4)
    states = []
    for offset in range(5):
        request.offset = offset
        states.append(request.state)
    assert states == ["waiting", "prefilling", "prefilling", "decoding", "decoding"], (
        "with a prompt of 3 tokens: waiting at offset 0, prefilling while offset < 3, decoding from 3 on"
    )


def test_task_1_a_request_with_a_cache_no_longer_waits() -> None:
    request = answer.Request([5, 6, 7], 4)
    assert request.state == "waiting", "a new request has no cache and no offset: it waits"
    request.kv_cache = []
    assert request.state == "prefilling", "it has been given a cache, if an empty one, so it is not waiting any more"


@pytest.mark.parametrize("offset", [0, 2, 3, 5])
def test_task_1_finished_whatever_the_offset(offset: int) -> None:
    request = answer.Request([5, 6, 7], 4)
    request.offset = offset
    request.finish("cancelled")
    assert (request.state, request.finish_reason) == ("finished", "cancelled"), "finished beats every other state"


@pytest.mark.parametrize(("max_tokens", "first"), [(1, 3), (2, 4), (3, 5)])
def test_task_1_all_launched_when_the_last_token_has_been_asked_for(max_tokens: int, first: int) -> None:
    request = answer.Request([5, 6, 7], max_tokens)
    launched = []
    for offset in range(7):
        request.offset = offset
        launched.append(request.all_launched)
    assert launched == [offset >= first for offset in range(7)], (
        f"{max_tokens} tokens are wanted: computing the last token of the prompt (offset 3) asks for the first of them, and"
        " each position after it for one more; tokens that have come back do not matter"
    )


def test_task_1_accept_says_whether_the_token_was_kept() -> None:
    request = answer.Request([5], 10, eos_token_ids=[9])
    assert [request.accept(token) for token in (40, 41, 9)] == [True, True, False], "only the EOS is not kept"
    last, stopped = answer.Request([5], 1), text_request(stop=["a"])
    assert [last.accept(40), stopped.accept(ord("a"))] == [True, True], (
        "a token that ends the answer without being an EOS is kept"
    )


def test_task_1_tokens_are_the_prompt_and_the_answer_in_order() -> None:
    prompt = [5, 6, 7]
    request = answer.Request(prompt, 3)
    for token in (9, 8, 9):
        request.accept(token)
    assert request.generated_tokens == [9, 8, 9], "each accepted token is kept once, in order"
    assert request.tokens == [5, 6, 7, 9, 8, 9], "tokens are the prompt's and then the generated ones"
    assert prompt == [5, 6, 7], "the caller's prompt must not be changed"


@pytest.mark.parametrize("max_tokens", [1, 2, 5])
def test_task_1_ends_with_the_last_token_it_may_generate(max_tokens: int) -> None:
    request = answer.Request([5], max_tokens)
    for count in range(1, max_tokens + 1):
        assert request.finish_reason is None, f"it ended after {count - 1} of {max_tokens} tokens"
        request.accept(40)
    assert (request.state, request.finish_reason) == ("finished", "length"), "max_tokens tokens are there: not one more"
    assert request.generated_tokens == [40] * max_tokens, "each of its max_tokens tokens is kept"


@pytest.mark.parametrize("before", [[], [40], [40, 41]])
def test_task_1_eos_ends_the_answer_and_is_not_part_of_it(before: list[int]) -> None:
    request = answer.Request([5], 3, eos_token_ids={7, 9})
    for token in [*before, 9]:
        request.accept(token)
    assert (request.state, request.finish_reason) == ("finished", "stop"), "9 is one of the eos_token_ids, in any position"
    assert request.generated_tokens == before, "the EOS itself is not kept"


def test_task_1_eos_in_the_prompt_does_not_end_the_answer() -> None:
    request = answer.Request([9, 5], 3, eos_token_ids={9})
    request.accept(40)
    assert request.finish_reason is None, "chat prompts are full of end tokens: only generated ones count"


@pytest.mark.parametrize("reason", ["stop", "length", "cancelled"])
def test_task_1_nothing_is_accepted_after_the_end(reason: str) -> None:
    request = answer.Request([5], 3, eos_token_ids=[7])
    request.accept(40)
    request.finish(reason)
    for late in (41, 7):
        with refuses(RuntimeError, "accept, for a token that comes after the request has finished"):
            request.accept(late)
    assert (request.generated_tokens, request.finish_reason) == ([40], reason), "a late token must leave no trace"


def test_task_1_finish_gives_the_cache_back_and_keeps_the_error() -> None:
    request, error = answer.Request([5], 3), ValueError("what went wrong")
    request.kv_cache = ["a cache"]
    request.finish("error", error=error)
    assert request.kv_cache is None, "a finished request must not hold on to its cache"
    assert (request.finish_reason, request.error) == ("error", error), "finish notes the reason and the error it is given"


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_task_1_an_answer_that_ends_by_itself_gives_its_cache_back(reason: str) -> None:
    request = answer.Request([5], 1 if reason == "length" else 9, eos_token_ids=[40] if reason == "stop" else [])
    request.kv_cache = ["a cache"]
    request.accept(40)
    assert (request.finish_reason, request.kv_cache) == (reason, None), "whatever ends a request, its cache is let go"


def test_task_1_ending_twice_changes_nothing() -> None:
    request = text_request(stop=["xyz"])
    speak(request, "abx")
    request.finish("length")
    request.finish("cancelled")
    request.finish("length")
    assert (request.finish_reason, request.text) == ("length", "abx"), "a request ends once, and its text comes once"
    assert request.error is None, "nothing went wrong"


def test_task_1_an_error_is_not_hidden_by_an_earlier_reason() -> None:
    request, first, second = text_request(stop=["xyz"]), KeyError("first"), KeyError("second")
    speak(request, "abx")
    request.finish("length")
    request.finish("error", first)
    request.finish("error", second)
    request.finish("cancelled")
    assert (request.finish_reason, request.error) == ("error", first), "the first error stays, whatever else ended the request"
    assert request.text == "abx", "the text was complete before the error, and stays as it was"


# Its text.


def test_task_1_text_is_what_the_tokens_say() -> None:
    said = "größte Äpfel, 5 €"
    request = text_request(len(said.encode()))
    speak(request, said)
    assert request.text == said == TOKENIZER.decode(request.generated_tokens), (
        "text is what decoding all generated tokens gives"
    )


def test_task_1_without_a_detokenizer_there_is_no_text() -> None:
    request = answer.Request([5], 2)
    request.accept(97)
    request.accept(98)
    assert (request.text, request.finish_reason) == ("", "length"), "a client that gives no detokenizer wants tokens alone"


def test_task_1_without_stop_strings_text_is_there_at_once() -> None:
    request = text_request()
    for count, letter in enumerate("abc", start=1):
        request.accept(ord(letter))
        assert request.text == "abc"[:count], "there is nothing to wait for: each letter comes with its token"


HELD_BACK = [
    (("a do",), "a do", ["done!"], "'do' could have become the stop string"),
    ((b"a\xc3",), "a�", [], "the first byte of 'é' is there, which decoding shows as '�'"),
    ((b"do\xc3",), "do�", ["done!"], "first the letters that could have become the stop string, then half a letter"),
]
"""What is said, its whole text, stop strings, and what was held back at the end."""


@pytest.mark.parametrize(("said", "text", "stops", "why"), HELD_BACK)
@pytest.mark.parametrize("end", ["the last token", "EOS", "EOS in the last place", "cancel"])
def test_task_1_text_that_is_held_back_comes_at_the_end(
    end: str, said: tuple[Any, ...], text: str, stops: list[str], why: str
) -> None:
    tokens = len(b"".join(piece.encode() if isinstance(piece, str) else piece for piece in said))
    room = {"the last token": tokens, "EOS in the last place": tokens + 1}.get(end, 100)
    request = text_request(room, stop=stops)
    speak(request, *said)
    if end == "cancel":
        request.finish("cancelled")
    elif end != "the last token":
        speak(request, EOS)
    reason = {"the last token": "length", "cancel": "cancelled"}.get(end, "stop")
    assert (request.finish_reason, request.text) == (reason, text), (
        f"{why}; but the answer has ended ({end}), so what was held back belongs to the text, and an EOS does not"
    )


def test_task_1_held_back_text_is_not_in_the_text_before_the_end() -> None:
    request = text_request(stop=["done!"])
    speak(request, "a do")
    assert request.text == "a ", "'do' could become the stop string: hold it back"


@pytest.mark.parametrize("held", ["abx", b"ab\xc3"])
def test_task_1_after_an_error_held_back_text_stays_where_it_is(held: Any) -> None:
    request = text_request(stop=["xyz"])
    speak(request, held)
    request.finish("error", RuntimeError("the detokenizer has failed, say"))
    request.finish("length")
    assert request.text == "ab", "after an error the detokenizer is not asked again: it may be what went wrong"


@pytest.mark.parametrize(("said", "stops", "text"), STOPS)
@pytest.mark.parametrize("last", [False, True])
def test_task_1_a_stop_string_ends_the_text_where_it_begins(said: str, stops: list[str], text: str, last: bool) -> None:
    begin = min(said.index(stop) + len(stop) for stop in stops if stop in said)
    tokens = len(said[:begin].encode())
    request = text_request(tokens if last else 100, stop=stops)
    speak(request, said)
    assert (request.state, request.finish_reason) == ("finished", "stop"), (
        f"one of {stops} is in the text, spread over tokens, {'and its end is the last token allowed' if last else ''}"
    )
    assert request.text == text, "the stop string, and what follows it, is not part of the text"
    assert len(request.generated_tokens) == tokens, "the tokens of the stop string are kept: only the text ends before it"


@pytest.mark.parametrize("end", ["the last token", "EOS", "cancel"])
def test_task_1_a_stop_string_that_only_the_end_completes(end: str) -> None:
    request = text_request(3 if end == "the last token" else 100, stop=["b�"])
    speak(request, b"ab\xc3")
    if end == "EOS":
        speak(request, EOS)
    elif end == "cancel":
        request.finish("cancelled")
    assert (request.state, request.text) == ("finished", "a"), (
        "the detokenizer lets go of half a letter as '�' when it is told of the end, which completes the stop string 'b�':"
        " the text ends before it (TextStream.finish knows)"
    )
    reason = {"the last token": "length", "EOS": "stop", "cancel": "cancelled"}[end]
    assert request.finish_reason == reason, f"the text ends before the stop string, but the reason stays what it is ({end})"


def test_task_1_no_stop_string_no_stop() -> None:
    request = text_request(max_tokens=5, stop=["END"])
    speak(request, "EN DE")
    assert (request.finish_reason, request.text) == ("length", "EN DE"), "'END' is nowhere in the text"


def test_task_1_requests_share_nothing() -> None:
    first, second = answer.Request([5], 3), answer.Request([5], 3)
    first.accept(40)
    first.finish("cancelled")
    assert (second.generated_tokens, second.state) == ([], "waiting"), "each request needs a list of its own"
    assert first.request_id != second.request_id, "ids tell requests apart"


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tokens": 0},
        {"max_tokens": 2.5},
        {"max_tokens": True},
        {"prompt": [5, 2.0]},
        {"prompt": [5, True]},
        {"prompt": "text"},
        {"prompt": 5},
        {"eos_token_ids": 5},
        {"eos_token_ids": ["</s>"]},
        {"stop": "END", "detokenizer": TOKENIZER.detokenizer()},
        {"stop": ["END"]},  # without a detokenizer there is no text to find it in
    ],
)
def test_task_1_bad_requests_are_refused(bad: dict[str, Any]) -> None:
    assert answer.Request(**{"prompt": [5], "max_tokens": 1}).state == "waiting", "the smallest request there can be"
    with refuses(ValueError, f"Request, made with {bad}"):
        answer.Request(**{"prompt": [5], "max_tokens": 1} | bad)
