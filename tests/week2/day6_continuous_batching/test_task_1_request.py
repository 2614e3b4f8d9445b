"""Task 1: the life of a request."""

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


def test_task_1_text_comes_in_pieces_that_make_the_whole() -> None:
    pieces: list[str] = []
    said = "größte Äpfel, 5 €"
    request = text_request(len(said.encode()), on_update=lambda _, new_text: pieces.append(new_text))
    speak(request, said)
    assert request.text == TOKENIZER.decode(request.generated_tokens), "text is what decoding all generated tokens gives"
    assert request.text == said
    assert "".join(pieces) == said, "the pieces given to on_update must add up to the text: none lost, none twice"


def test_task_1_text_that_is_held_back_comes_at_the_end() -> None:
    pieces: list[str] = []
    request = text_request(max_tokens=4, stop=["done!"], on_update=lambda _, new_text: pieces.append(new_text))
    speak(request, "a do")
    assert request.finish_reason == "length"
    assert request.text == "a do", "'do' could have become the stop string, but the answer ended: it belongs to the text"
    assert "".join(pieces) == "a do", "on_update must be given the held back text too"


def test_task_1_an_unfinished_letter_comes_at_the_end() -> None:
    request = text_request(max_tokens=2)
    speak(request, b"a" + "é".encode()[:1])
    assert request.text == TOKENIZER.decode(request.generated_tokens), "finish must let go of what the detokenizer held back"


def test_task_1_cancelling_delivers_what_is_there() -> None:
    pieces: list[str] = []
    request = text_request(stop=["xyz"], on_update=lambda _, new_text: pieces.append(new_text))
    speak(request, "abx")
    request.finish("cancelled")
    assert request.text == "".join(pieces) == "abx"


@pytest.mark.parametrize(
    ("said", "stops", "text"),
    [
        ("one END two", ["END"], "one "),
        ("one two", ["on"], ""),
        ("aab then", ["ab"], "a"),
        ("xSTARTx END", ["END", "ART"], "xST"),
        ("EN END", ["END"], "EN "),
        ("grün é", ["é"], "grün "),
    ],
)
def test_task_1_a_stop_string_ends_the_text_where_it_begins(said: str, stops: list[str], text: str) -> None:
    pieces: list[str] = []
    request = text_request(stop=stops, on_update=lambda _, new_text: pieces.append(new_text))
    speak(request, said)
    assert (request.state, request.finish_reason) == ("finished", "stop"), f"{stops} stands in the text, spread over tokens"
    assert request.text == text, "the stop string, and what follows it, is not part of the text"
    assert "".join(pieces) == text, "what was shown can't be taken back: hold back what could begin a stop string"


def test_task_1_no_stop_string_no_stop() -> None:
    request = text_request(max_tokens=5, stop=["END"])
    speak(request, "EN DE")
    assert (request.finish_reason, request.text) == ("length", "EN DE")


def test_task_1_without_stop_strings_text_is_shown_at_once() -> None:
    pieces: list[str] = []
    request = text_request(on_update=lambda _, new_text: pieces.append(new_text))
    for letter in "abc":
        request.accept(ord(letter))
        assert "".join(pieces) == request.text == "abc"[: len(request.text)]
    assert request.text == "abc", "there is nothing to wait for: each letter can be shown with its token"


def test_task_1_on_update_sees_the_request_as_it_then_is() -> None:
    seen: list[tuple[int, str | None]] = []
    request = answer.Request(
        [5], 10, eos_token_ids=[0], on_update=lambda r, _: seen.append((len(r.generated_tokens), r.finish_reason))
    )
    for token in (40, 41, 0):
        request.accept(token)
    assert seen == [(1, None), (2, None), (2, "stop")], "on_update is called after every token, and once at the end"


def test_task_1_on_update_is_called_once_for_the_last_token() -> None:
    seen: list[tuple[int, str]] = []
    request = answer.Request([5], 2, on_update=lambda r, _: seen.append((len(r.generated_tokens), r.state)))
    request.offset = 1
    request.accept(40)
    request.accept(41)
    assert seen == [(1, "decoding"), (2, "finished")], "the last token's update is also the final one, and says so"


def test_task_1_an_error_is_not_reported_to_on_update() -> None:
    seen: list[str] = []
    request = answer.Request([5], 2, on_update=lambda r, _: seen.append(r.state))
    request.finish("error", error=RuntimeError("on_update itself failed, say"))
    assert seen == [], "on_update may be what went wrong: after an error it is not called again"


def test_task_1_requests_share_nothing() -> None:
    first, second = answer.Request([5], 3), answer.Request([5], 3)
    first.accept(40)
    first.finish("cancelled")
    assert (second.generated_tokens, second.state) == ([], "waiting"), "each request needs a list of its own"
    assert first.request_id != second.request_id


def test_task_1_bad_requests_are_refused() -> None:
    assert answer.Request([5], 1).state == "waiting", "the smallest request there can be"
    with pytest.raises(ValueError):
        answer.Request([5], 0)
    with pytest.raises(ValueError):
        answer.Request([5], 1, stop=["END"])  # without a detokenizer there is no text to find it in
