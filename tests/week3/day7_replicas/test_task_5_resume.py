"""Week 3 Day 7, task 5: the request that goes on after what was delivered, and its tokens and text."""

from typing import Any

import pytest

from answer import answer
from day6_engines import find_eos
from failing_replicas import ask
from paged_engines import engine
from support import ToyModel, alone, expect_no_error, finish_all, make_prompt, refuses
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()


# resume.


def test_task_5_resume_goes_on_behind_the_delivered_tokens() -> None:
    rest = answer.resume(ask(8), [20, 21, 22])
    assert list(rest.prompt) == [3, 1, 4, 1, 5, 20, 21, 22], f"prompt, then the delivered tokens: {list(rest.prompt)}"
    assert rest.max_tokens == 5, f"3 of 8 tokens were delivered, so 5 may follow, and not {rest.max_tokens}"
    assert rest.delivered == 3, f"3 tokens of the prompt are part of the answer, and delivered is {rest.delivered}"


def test_task_5_resume_keeps_all_else() -> None:
    request = ask(8, session="chat 5", eos_token_ids=frozenset({9}), stop=("END",))
    rest = answer.resume(request, [20])
    for name in ("request_id", "session", "sampling", "eos_token_ids", "stop"):
        got, given = getattr(rest, name), getattr(request, name)
        assert got == given, f"{name} must stay {given!r}: it is {got!r}. What follows would not be what would have followed"


def test_task_5_resume_changes_no_request() -> None:
    request = ask(8)
    answer.resume(request, [20, 21])
    assert list(request.prompt) == [3, 1, 4, 1, 5], f"resume makes a new request; the old one's prompt became {request.prompt}"


def test_task_5_resume_twice_is_resume_once() -> None:
    twice = answer.resume(answer.resume(ask(8), [20, 21]), [22])
    once = answer.resume(ask(8), [20, 21, 22])
    for name in ("prompt", "max_tokens", "delivered"):
        assert getattr(twice, name) == getattr(once, name), (
            f"{name} is {getattr(twice, name)} after two breaks and {getattr(once, name)} after one: a stream may break twice"
        )


def test_task_5_resume_behind_nothing() -> None:
    rest = answer.resume(ask(8), [])
    assert (list(rest.prompt), rest.max_tokens, rest.delivered) == ([3, 1, 4, 1, 5], 8, 0), (
        f"nothing was delivered, so nothing changes: {rest}"
    )


def test_task_5_resume_behind_the_last_token() -> None:
    rest = answer.resume(ask(2), [20, 21])
    assert (rest.max_tokens, rest.delivered) == (0, 2), f"only the end is missing, and that is no error: {rest}"


def test_task_5_resume_refuses_more_than_was_asked_for() -> None:
    with refuses(ValueError, "3 tokens were delivered of a request for 2", "3"):
        answer.resume(ask(2), [20, 21, 22])


# Its tokens.

PARAMS = {
    "greedy": {},
    "drawn": {"temperature": 1.0, "seed": 11},
    "penalized": {"repetition_penalty": 1.7},
    "all at once": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.2, "seed": 12},
}


def serve(toy: ToyModel, request: Any) -> Any:
    """What an engine, which has never seen the request, makes of it."""
    served = engine(toy)
    served.submit(request)
    finish_all(served)
    expect_no_error(request)
    return request


def whole(length: int, max_tokens: int, params: dict[str, Any], **options: Any) -> Any:
    """A request as it comes from a client, with a prompt of printable bytes."""
    prompt = [32 + token % 95 for token in make_prompt(length)]
    return answer.StreamRequest("whole", prompt, max_tokens, sampling=answer.SamplingParams(**params), **options)


@pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS)
def test_task_5_the_same_tokens_follow(toy: ToyModel, params: dict[str, Any]) -> None:
    request = answer.resume(whole(6, 12, params), [])
    tokens = serve(toy, answer.PagedRequest(request.prompt, 12, request.sampling)).generated_tokens
    for broken in (0, 1, 4, 11):
        rest = serve(toy, answer.engine_request(answer.resume(request, tokens[:broken]))).generated_tokens
        assert rest == tokens[broken:], (
            f"broken after token {broken}, the answer goes on with {rest}, unbroken with {tokens[broken:]}: a draw depends on"
            " seed and position, a penalty on all tokens before. Does the engine get all of them?"
        )


def test_task_5_eos_still_ends_it(toy: ToyModel) -> None:
    seed, eos = find_eos(toy, 5, 6, 12, 0)
    prompt = make_prompt(5, seed)
    tokens = alone(toy, prompt, 6)
    request = answer.StreamRequest("with EOS", prompt, 12, eos_token_ids=frozenset({eos}))
    rest = serve(toy, answer.engine_request(answer.resume(request, tokens[:4])))
    assert (rest.generated_tokens, rest.finish_reason) == (tokens[4:], "stop"), (
        f"an EOS ends the answer after the break, too: {rest.generated_tokens}, {rest.finish_reason!r}"
    )


# Its text.


def say(request: Any, tokens: list[int]) -> Any:
    """Hand a request the tokens of its answer, as an engine would."""
    for token in tokens:
        if request.finish_reason is None:
            request.accept(token)
    return request


def broken_text(text: str, at: int, stop: tuple[str, ...] = (), prompt: str = "?") -> tuple[str, str, Any]:
    """What the client has seen before the break, what it sees after it, and the request after it."""
    tokens = TOKENIZER.encode(text)
    request = answer.StreamRequest("text", TOKENIZER.encode(prompt), len(tokens), stop=stop)
    before = say(answer.engine_request(request, TOKENIZER), tokens[:at])
    rest = answer.engine_request(answer.resume(request, tokens[:at]), TOKENIZER)
    return before.text, say(rest, tokens[at:]).text, rest


def test_task_5_no_letter_twice_and_none_lost() -> None:
    text = "naïve 100 € 🙂 x"
    for at in range(1, len(text.encode())):
        before, after, _ = broken_text(text, at)
        assert before + after == text, (
            f"broken after byte {at}, the client reads {before!r} + {after!r}: the text stream must have seen the delivered"
            " tokens, and what it said to them is with the client already"
        )


def test_task_5_a_stop_string_over_the_break() -> None:
    for at in range(11, 17):
        before, after, rest = broken_text("It ends here STOP and not later", at, ("STOP",))
        assert (before + after, rest.finish_reason) == ("It ends here ", "stop"), (
            f"STOP begins at letter 13; broken after letter {at}, the client reads {before!r} + {after!r}, ended by"
            f" {rest.finish_reason!r}: does the text stream know what came before the break?"
        )


def test_task_5_a_stop_string_that_begins_the_answer() -> None:
    for at in (1, 2, 3):
        before, after, rest = broken_text("STOP and not later", at, ("STOP",))
        assert (before + after, rest.finish_reason) == ("", "stop"), (
            f"the first of the {at} delivered letters is that of STOP; the client reads {before!r} + {after!r}, ended by"
            f" {rest.finish_reason!r}: has the text stream seen all of them?"
        )


def test_task_5_what_was_held_back_is_not_lost() -> None:
    for at in range(1, 10):
        before, after, rest = broken_text("a STOX b STO", at, ("STOP",))
        assert before + after == "a STOX b STO", (
            f"STO might have become STOP, and did not; broken after letter {at}, the client reads {before!r} + {after!r}"
        )
        assert rest.finish_reason == "length", f"no stop string came: {rest.finish_reason!r}"


def test_task_5_the_prompt_is_no_part_of_the_text() -> None:
    for at in (0, 1, 3):
        before, after, rest = broken_text("hello", at, ("STOP",), prompt="say STOP or ST")
        assert (before + after, rest.finish_reason) == ("hello", "length"), (
            f"{at} tokens were delivered, and the client reads {before + after!r}, ended by {rest.finish_reason!r}: only the"
            " delivered tokens go through the text stream, and not the prompt"
        )


def test_task_5_broken_between_the_last_token_and_the_end() -> None:
    tokens = TOKENIZER.encode("a ST")
    request = answer.StreamRequest("text", [63], len(tokens), stop=("STOP",))
    rest = answer.engine_request(answer.resume(request, tokens), TOKENIZER)
    assert rest.finish_reason == "length", f"all tokens were delivered, so it has ended: {rest.finish_reason!r}"
    assert rest.text == "ST", f"ST was held back when the stream broke, and {rest.text!r} is what the client still gets"


def test_task_5_broken_behind_a_whole_stop_string() -> None:
    tokens = TOKENIZER.encode("a STOP")
    request = answer.StreamRequest("text", [63], 20, stop=("STOP",))
    rest = answer.engine_request(answer.resume(request, tokens), TOKENIZER)
    assert (rest.finish_reason, rest.text) == ("stop", ""), (
        f"the stop string was complete, so nothing follows: {rest.finish_reason!r}, {rest.text!r}"
    )


def test_task_5_without_a_tokenizer_there_is_no_text() -> None:
    rest = answer.engine_request(answer.resume(ask(8), [20, 21]))
    assert (rest.text, rest.max_tokens, rest.finish_reason) == ("", 6, None), f"tokens need no tokenizer: {rest}"


def test_task_5_a_stopped_request_of_tokens_has_ended() -> None:
    rest = answer.engine_request(answer.resume(ask(2), [20, 21]))
    assert rest.finish_reason == "length", f"all of its 2 tokens were delivered: {rest.finish_reason!r}"
