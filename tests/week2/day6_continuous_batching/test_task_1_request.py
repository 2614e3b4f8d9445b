"""Task 1: the life of a request."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from answer import answer
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()


def speak(request: Any, text: str | bytes) -> None:
    """Give the request the tokens of `text`, a byte a token, until it has ended."""
    for token in text.encode() if isinstance(text, str) else text:
        if request.state != "finished":
            request.accept(token)


def text_request(max_tokens: int = 100, **options: Any) -> Any:
    return answer.Request([1, 2, 3], max_tokens, detokenizer=TOKENIZER.detokenizer(), **options)


def new_book(**options: Any) -> Any:
    return answer.RequestBook(**{"max_seq_len": 200, "vocab_size": 260} | options)


def serve(book: Any, *requests: Any) -> None:
    """Submit and admit them."""
    for request in requests:
        book.submit(request)
        book.admit(request)


def told(text: str | bytes, max_tokens: int = 100, **options: Any) -> tuple[Any, list[str]]:
    """A request that was handed the tokens of `text` by a book, and the pieces that its on_update was given."""
    pieces: list[str] = []
    request = text_request(max_tokens, on_update=lambda _, new_text: pieces.append(new_text), **options)
    book = new_book()
    serve(book, request)
    for token in text.encode() if isinstance(text, str) else text:
        book.take(request, token)
    return request, pieces


def ended(book: Any) -> list[Any]:
    """Close an iteration; who has ended since the last one."""
    return book.close_iteration(0, 1, 0, 0)


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
    assert request.state == "waiting"
    request.kv_cache = []
    assert request.state == "prefilling", "it has been given a cache, so it is not waiting any more"


@pytest.mark.parametrize("offset", [0, 2, 3, 5])
def test_task_1_finished_whatever_the_offset(offset: int) -> None:
    request = answer.Request([5, 6, 7], 4)
    request.offset = offset
    request.finish("cancelled")
    assert (request.state, request.finish_reason) == ("finished", "cancelled")


def test_task_1_all_launched_when_the_last_token_has_been_asked_for() -> None:
    request = answer.Request([5, 6, 7], 3)
    launched = []
    for offset in range(6):
        request.offset = offset
        launched.append(request.all_launched)
    assert launched == [False] * 5 + [True], (
        "3 tokens are wanted: computing the last token of the prompt (offset 3) asks for the first of them, and each position"
        " after it for one more"
    )


def test_task_1_accept_says_whether_the_token_was_kept() -> None:
    request = answer.Request([5], 10, eos_token_ids=[9])
    assert [request.accept(token) for token in (40, 41, 9)] == [True, True, False], "only the EOS is not kept"


def test_task_1_tokens_are_the_prompt_and_the_answer_in_order() -> None:
    prompt = [5, 6, 7]
    request = answer.Request(prompt, 3)
    for token in (9, 8, 9):
        request.accept(token)
    assert request.generated_tokens == [9, 8, 9], "each accepted token is kept once, in order"
    assert request.tokens == [5, 6, 7, 9, 8, 9]
    assert prompt == [5, 6, 7], "the caller's prompt must not be changed"


@pytest.mark.parametrize("max_tokens", [1, 2, 5])
def test_task_1_ends_with_the_last_token_it_may_generate(max_tokens: int) -> None:
    request = answer.Request([5], max_tokens)
    for count in range(1, max_tokens + 1):
        assert request.finish_reason is None, f"it ended after {count - 1} of {max_tokens} tokens"
        request.accept(40)
    assert (request.state, request.finish_reason) == ("finished", "length"), "max_tokens tokens are there: not one more"
    assert request.generated_tokens == [40] * max_tokens


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
    request = answer.Request([5], 3)
    request.accept(40)
    request.finish(reason)
    with pytest.raises(RuntimeError):
        request.accept(41)
    assert (request.generated_tokens, request.finish_reason) == ([40], reason), "a late token must leave no trace"


def test_task_1_finish_gives_the_cache_back_and_keeps_the_error() -> None:
    request = answer.Request([5], 3)
    request.kv_cache = ["a cache"]
    error = ValueError("what went wrong")
    request.finish("error", error=error)
    assert request.kv_cache is None, "a finished request must not hold on to its cache"
    assert (request.finish_reason, request.error) == ("error", error)


def test_task_1_ending_twice_changes_nothing() -> None:
    request = text_request(stop=["xyz"])
    speak(request, "abx")
    request.finish("length")
    request.finish("cancelled")
    request.finish("length")
    assert (request.finish_reason, request.text) == ("length", "abx"), "a request ends once, and its text comes once"
    assert request.error is None


def test_task_1_an_error_is_not_hidden_by_an_earlier_reason() -> None:
    request, first, second = answer.Request([5], 3), KeyError("first"), KeyError("second")
    request.finish("length")
    request.finish("error", first)
    request.finish("error", second)
    assert (request.finish_reason, request.error) == ("error", first), "the first error stays, whatever else ended the request"


def test_task_1_text_is_what_the_tokens_say() -> None:
    said = "größte Äpfel, 5 €"
    request = text_request(len(said.encode()))
    speak(request, said)
    assert request.text == said == TOKENIZER.decode(request.generated_tokens), (
        "text is what decoding all generated tokens gives"
    )


def test_task_1_text_that_is_held_back_comes_at_the_end() -> None:
    request = text_request(max_tokens=4, stop=["done!"])
    speak(request, "a d")
    assert request.text == "a ", "'d' could become the stop string: hold it back"
    speak(request, "o")
    assert request.finish_reason == "length"
    assert request.text == "a do", "'do' could have become the stop string, but the answer ended: it belongs to the text"


def test_task_1_an_unfinished_letter_comes_at_the_end() -> None:
    request = text_request(max_tokens=2)
    speak(request, b"a" + "é".encode()[:1])
    assert request.text == TOKENIZER.decode(request.generated_tokens), "finish must let go of what the detokenizer held back"


def test_task_1_after_an_error_held_back_text_stays_where_it_is() -> None:
    request = text_request(stop=["xyz"])
    speak(request, "abx")
    request.finish("error", RuntimeError("the detokenizer has failed, say"))
    assert request.text == "ab", "after an error the detokenizer is not asked again: it may be what went wrong"


STOPS = [
    ("one END two", ["END"], "one "),
    ("one two", ["on"], ""),
    ("aab then", ["ab"], "a"),
    ("xSTARTx END", ["END", "ART"], "xST"),
    ("EN END", ["END"], "EN "),
    ("grün é", ["é"], "grün "),
]


@pytest.mark.parametrize(("said", "stops", "text"), STOPS)
def test_task_1_a_stop_string_ends_the_text_where_it_begins(said: str, stops: list[str], text: str) -> None:
    request = text_request(stop=stops)
    speak(request, said)
    assert (request.state, request.finish_reason) == ("finished", "stop"), f"{stops} stands in the text, spread over tokens"
    assert request.text == text, "the stop string, and what follows it, is not part of the text"


def test_task_1_no_stop_string_no_stop() -> None:
    request = text_request(max_tokens=5, stop=["END"])
    speak(request, "EN DE")
    assert (request.finish_reason, request.text) == ("length", "EN DE")


def test_task_1_without_stop_strings_text_is_there_at_once() -> None:
    request = text_request()
    for count, letter in enumerate("abc", start=1):
        request.accept(ord(letter))
        assert request.text == "abc"[:count], "there is nothing to wait for: each letter comes with its token"


def test_task_1_requests_share_nothing() -> None:
    first, second = answer.Request([5], 3), answer.Request([5], 3)
    first.accept(40)
    first.finish("cancelled")
    assert (second.generated_tokens, second.state) == ([], "waiting"), "each request needs a list of its own"
    assert first.request_id != second.request_id


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
    with pytest.raises(ValueError):
        answer.Request(**{"prompt": [5], "max_tokens": 1} | bad)


# The book: who waits, who runs, and who has ended.


def test_task_1_the_way_through_the_book() -> None:
    book, first, second = new_book(), answer.Request([5], 2), answer.Request([6], 1)
    assert not book.has_work
    assert book.submit(first) is first
    book.submit(second)
    assert (list(book.waiting.values()), list(book.running.values())) == ([first, second], []), "in the order of their arrival"
    book.admit(first)
    assert (list(book.waiting.values()), list(book.running.values())) == ([second], [first])
    assert [book.take(first, 40), book.take(first, 41)] == [1, 1], "how many tokens were kept"
    assert (first.state, list(book.running.values())) == ("finished", []), "the last token ends it, and it runs no more"
    assert ended(book) == [first]
    book.admit(second)
    book.take(second, 42)
    assert book.has_work, "the second has ended, and nobody has been told"
    assert ended(book) == [second]
    assert ended(book) == [], "everyone is returned once"
    assert not book.has_work


def test_task_1_a_late_token_is_not_kept() -> None:
    book, request = new_book(), answer.Request([5], 9, eos_token_ids=[7])
    serve(book, request)
    assert [book.take(request, token) for token in (40, 7, 41)] == [1, 0, 0], "the EOS is not kept, nor what follows the end"
    assert (request.generated_tokens, request.finish_reason) == ([40], "stop")
    assert ended(book) == [request]


@pytest.mark.parametrize("prompt", [[], [0] * 20, [5, 50], [50], [-1], [2**40]])
def test_task_1_what_can_never_be_served_is_refused(prompt: list[int]) -> None:
    book = new_book(max_seq_len=20, vocab_size=50)
    request = answer.Request(prompt, 3)
    with pytest.raises(ValueError):  # empty, no room for an answer, or a token that the model does not know
        book.submit(request)
    assert not book.has_work, "the refused request was never part of it"
    book.submit(answer.Request([0, 49] * 9 + [7], 3))  # the longest prompt, with the first and the last token there is


def test_task_1_the_answer_is_limited_to_the_room_there_is() -> None:
    request = new_book(max_seq_len=20).submit(answer.Request([5] * 17, 100))
    assert request.max_tokens == 3, "prompt and answer have max_seq_len tokens together"


def test_task_1_a_request_is_submitted_once() -> None:
    book, request = new_book(), answer.Request([5], 3)
    book.submit(request)
    with pytest.raises(ValueError):
        book.submit(request)
    book.admit(request)
    request.offset = 1
    with pytest.raises(ValueError):
        book.submit(request)
    book.cancel(request)
    with pytest.raises(ValueError):
        book.submit(request)
    assert ended(book) == [request]


@pytest.mark.parametrize("admitted", [False, True])
def test_task_1_cancel(admitted: bool) -> None:
    book, request, other = new_book(), answer.Request([5], 3), answer.Request([6], 3)
    book.submit(request)
    book.submit(other)
    if admitted:
        book.admit(request)
    book.cancel(request)
    book.cancel(request)  # once more does no harm
    assert (request.state, request.finish_reason) == ("finished", "cancelled")
    assert (list(book.waiting.values()), list(book.running.values())) == ([other], []), "it waits and runs no more"
    assert ended(book) == [request]


def test_task_1_cancel_leaves_what_has_finished_as_it_is() -> None:
    book, request, refused = new_book(), answer.Request([5], 1), answer.Request([], 1)
    serve(book, request)
    book.take(request, 40)
    book.cancel(request)
    book.cancel(refused)  # a server does that when its client has gone, whatever became of the request
    assert (request.finish_reason, refused.finish_reason) == ("length", "cancelled")
    assert ended(book) == [request], "only who was in the book comes out of it"


def test_task_1_whoever_ends_gives_back_what_it_holds() -> None:
    class Landlord(answer.RequestBook):  # type: ignore[name-defined]
        released: list[tuple[Any, str]]

        def release(self, request: Any) -> None:
            self.released.append((request, request.finish_reason))

    book = Landlord(200, 260)
    book.released = []
    requests = [answer.Request([5], 1), answer.Request([5], 9, eos_token_ids=[7]), answer.Request([5], 9)]
    serve(book, *requests)
    for request, token in zip(requests, (40, 7, 40), strict=True):
        book.take(request, token)
    book.cancel(requests[2])
    assert book.released == list(zip(requests, ("length", "stop", "cancelled"), strict=True)), (
        "release is called for everyone who ends, whatever the reason, and once"
    )


def test_task_1_those_who_were_overtaken_are_counted_at_admission() -> None:
    book, requests = new_book(), [answer.Request([5], 3) for _ in range(4)]
    for request in requests:
        book.submit(request)
    book.admit(requests[2])
    book.admit(requests[0])
    book.admit(requests[3])
    assert [request.overtaken for request in requests] == [1, 2, 0, 0], (
        "whoever is admitted overtakes those who came earlier and still wait, and nobody else"
    )


# What the client hears.


def test_task_1_text_comes_in_pieces_that_make_the_whole() -> None:
    said = "größte Äpfel, 5 €"
    request, pieces = told(said, len(said.encode()))
    assert "".join(pieces) == request.text == said, (
        "the pieces given to on_update must add up to the text: none lost, none twice"
    )
    assert len(pieces) == len(said.encode()), "on_update is called after every token, also when there is no new text yet"


@pytest.mark.parametrize(("said", "stops", "text"), STOPS)
def test_task_1_what_was_shown_cannot_be_taken_back(said: str, stops: list[str], text: str) -> None:
    _, pieces = told(said, stop=stops)
    assert "".join(pieces) == text, "hold back what could begin a stop string, and show no part of one"


def test_task_1_held_back_text_is_shown_at_the_end() -> None:
    request, pieces = told("a do", max_tokens=4, stop=["done!"])
    assert request.finish_reason == "length"
    assert "".join(pieces) == "a do", "on_update must be given the held back text too"


def test_task_1_cancelling_delivers_what_is_there() -> None:
    pieces: list[str] = []
    request = text_request(stop=["xyz"], on_update=lambda _, new_text: pieces.append(new_text))
    book = new_book()
    serve(book, request)
    for letter in "abx":
        book.take(request, ord(letter))
    book.cancel(request)
    assert request.text == "".join(pieces) == "abx"


def test_task_1_on_update_sees_the_request_as_it_then_is() -> None:
    seen: list[tuple[int, str | None]] = []
    request = answer.Request(
        [5], 10, eos_token_ids=[0], on_update=lambda r, _: seen.append((len(r.generated_tokens), r.finish_reason))
    )
    book = new_book()
    serve(book, request)
    for token in (40, 41, 0):
        book.take(request, token)
    assert seen == [(1, None), (2, None), (2, "stop")], "on_update is called after every token, and once at the end"


def test_task_1_on_update_is_called_once_for_the_last_token() -> None:
    seen: list[tuple[int, str]] = []
    request = answer.Request([5], 2, on_update=lambda r, _: seen.append((len(r.generated_tokens), r.state)))
    book = new_book()
    serve(book, request)
    request.offset = 1
    book.take(request, 40)
    book.take(request, 41)
    book.cancel(request)
    assert seen == [(1, "decoding"), (2, "finished")], "the last token's update is also the final one, and says so"


def test_task_1_a_failing_on_update_ends_its_request() -> None:
    error = OSError("the client's connection is gone")
    for position in (1, 2, 3):  # the third is the last token

        def fail(request: Any, new_text: str, position: int = position) -> None:
            if len(request.generated_tokens) == position:
                raise error

        book, request, other = new_book(), answer.Request([5], 3, on_update=fail), answer.Request([6], 3)
        serve(book, request, other)
        kept = [book.take(request, token) for token in (40, 41, 42)]
        assert (request.finish_reason, request.error) == ("error", error), f"on_update raised at token {position}"
        assert kept == [1] * position + [0] * (3 - position), "the token was there before on_update raised"
        assert ended(book) == [request]
        assert list(book.running.values()) == [other]


def test_task_1_an_error_is_not_reported_to_on_update() -> None:
    seen: list[str] = []
    request = answer.Request([5], 2, on_update=lambda r, _: seen.append(r.state))
    book = new_book()
    serve(book, request)
    book.end(request, "error", RuntimeError("on_update itself failed, say"))
    assert (request.finish_reason, seen) == ("error", []), "on_update may be what went wrong: after an error it is not called"
    assert ended(book) == [request]


def test_task_1_a_request_may_cancel_itself_in_its_update() -> None:
    book, states = new_book(), []

    def leave(request: Any, new_text: str) -> None:
        states.append(request.state)
        book.cancel(request)

    request = answer.Request([5], 9, on_update=leave)
    serve(book, request)
    request.offset = 1
    assert book.take(request, 40) == 1
    assert states == ["decoding", "finished"], "it hears of its own end, once"
    assert ended(book) == [request]


def test_task_1_the_book_belongs_to_one_thread() -> None:
    book, request = new_book(), answer.Request([5], 2)
    book.submit(request)
    with ThreadPoolExecutor(1) as elsewhere:
        for call in (lambda: book.submit(answer.Request([5], 2)), lambda: book.cancel(request)):
            with pytest.raises(RuntimeError):
                elsewhere.submit(call).result()
    assert list(book.waiting.values()) == [request]
