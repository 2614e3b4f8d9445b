"""Week 3 Day 4, task 7: ways to use the engine, for callers who do not want to step it themselves."""

import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from answer import answer
from day6_engines import assert_beginning, assert_failed, assert_returned
from paged_engines import ask, ask_with_eos, assert_can_still_serve, assert_nothing_is_lost, engine, serve
from support import (
    POISON,
    BrokenModelError,
    CountingModel,
    FragileModel,
    ToyModel,
    alone,
    assert_alone,
    is_poisoned,
    make_prompt,
    refuses,
    step_until,
)
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()


class Interruption(BaseException):
    """Like Ctrl-C: no Exception, so that code which catches those does not stop it."""


def interrupt(request: Any, new_text: str) -> None:
    if len(request.generated_tokens) == 3:
        raise Interruption


@contextmanager
def warns_of(failed: int, of: int) -> Iterator[None]:
    """The block warns once, and says how many failed; with none failed it does not warn."""
    __tracebackhide__ = True
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield
    said = [str(warning.message) for warning in heard]
    if not failed:
        assert not said, f"nothing failed, and generate warns: {said}"
        return
    assert len(said) == 1, f"{failed} requests failed: one warning says so, not {len(said)}"
    assert f"{failed} of {of}" in said[0], f"the warning says how many of how many failed: {said[0]}"


# add_request.


def test_task_7_add_request_of_tokens(toy: ToyModel) -> None:
    served = engine(toy)
    request = served.add_request(make_prompt(6), 5, priority=-1, user="somebody")
    assert isinstance(request, answer.PagedRequest), "it returns the request that it has made"
    assert request.request_id in served.waiting, "and has submitted it"
    assert (request.priority, request.user, request.max_tokens) == (-1, "somebody", 5), "further arguments are PagedRequest's"
    serve(served)
    assert_alone(toy, request)
    assert request.text == "", "without a tokenizer there is no text"


def test_task_7_add_request_of_a_text(toy: ToyModel) -> None:
    served = engine(toy)
    request = served.add_request("Grüß", 5, TOKENIZER)
    assert request.prompt == list("Grüß".encode()), "the tokenizer encodes the prompt"
    assert set(request.eos_token_ids) == set(TOKENIZER.eos_token_ids), "its EOS tokens end the answer"
    serve(served)
    assert_alone(toy, request)
    assert request.text == TOKENIZER.decode(request.generated_tokens), "it turns the answer into text"


def test_task_7_add_request_options_go_before_the_tokenizer(toy: ToyModel) -> None:
    served = engine(toy)
    text = alone(toy, list(b"Hello"), 9)
    request = served.add_request("Hello", 9, TOKENIZER, eos_token_ids=[text[4]])
    serve(served)
    assert request.finish_reason == "stop", "the caller's own end tokens count"
    assert_alone(toy, request)


def test_task_7_add_request_of_a_text_without_a_tokenizer(toy: ToyModel) -> None:
    served = engine(toy)
    with refuses(ValueError, "add_request, of a text without a tokenizer", "tokenizer"):
        served.add_request("Hello", 5)
    with refuses(ValueError, "add_request, of an empty prompt"):
        served.add_request([], 5)
    with refuses(ValueError, "add_request, of more than the pool holds"):
        served.add_request(make_prompt(200), 5)
    assert not served.has_work, "nothing is left of what is refused"


# generate.


def test_task_7_generate_in_the_order_of_the_prompts(toy: ToyModel) -> None:
    served = engine(toy)
    prompts = [make_prompt(length, length) for length in (20, 3, 9, 1, 14, 6)]
    with warns_of(0, 6):
        answers = served.generate(prompts, max_tokens=5)
    assert [request.prompt for request in answers] == prompts, "an answer for each prompt, in their order"
    assert_alone(toy, *answers)
    assert not served.has_work, "all has been returned, here: there is nothing left for a step"
    assert_nothing_is_lost(served)


def test_task_7_generate_texts(toy: ToyModel) -> None:
    served = engine(toy)
    answers = served.generate(["One", list(b"Two")], 6, TOKENIZER, sampling=answer.SamplingParams(repetition_penalty=1.5))
    for request, prompt in zip(answers, (b"One", b"Two"), strict=True):
        expected = alone(toy, list(prompt), 6, penalty=1.5)
        assert request.generated_tokens == expected, "texts and tokens may be mixed, and options are for all of them"
        assert request.text == TOKENIZER.decode(expected), "each has a text of its own"


def test_task_7_generate_nothing(toy: ToyModel) -> None:
    served = engine(toy)
    assert served.generate([], max_tokens=5) == [], "no prompts, no answers"


def test_task_7_generate_runs_all_together(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = engine(model, num_blocks=64, max_num_seqs=8, max_num_batched_tokens=64)
    answers = served.generate([make_prompt(5, seed) for seed in range(8)], max_tokens=6)
    assert_alone(toy, *answers)
    assert len(model.calls) == 6, "eight prompts in one call, and five calls with a token for each: all are submitted first"


def test_task_7_generate_goes_on_when_some_are_refused(toy: ToyModel) -> None:
    served = engine(toy)
    prompts = [make_prompt(4), [], make_prompt(300), make_prompt(5)]
    with warns_of(2, 4):
        answers = served.generate(prompts, max_tokens=5)
    assert_alone(toy, answers[0], answers[3])
    for refused in answers[1:3]:
        assert (refused.finish_reason, type(refused.error)) == ("error", ValueError), (
            f"it was refused, and the error says why; it ended with {refused.finish_reason!r}: {refused.error!r}"
        )
    assert not served.has_work, "nothing is left of what is refused"


def test_task_7_generate_tells_of_failures(toy: ToyModel) -> None:
    served = engine(FragileModel(toy, is_poisoned), max_num_seqs=1)
    with warns_of(1, 2):
        answers = served.generate([[1, 2, POISON], make_prompt(5)], max_tokens=5)
    assert_failed(toy, answers[0], BrokenModelError, "the model raised in its call")
    assert_alone(toy, answers[1])


@pytest.mark.parametrize("bad", ["text", [1.5], [True]])
def test_task_7_generate_submits_nobody_if_one_is_no_prompt(toy: ToyModel, bad: Any) -> None:
    served = engine(toy)
    with refuses(ValueError, f"generate, where one prompt is {bad!r} and there is no tokenizer"):
        served.generate([make_prompt(4), bad], max_tokens=5)
    assert not served.has_work, "nothing has been submitted"


def test_task_7_generate_of_one_text_that_is_no_list(toy: ToyModel) -> None:
    served = engine(toy)
    with refuses(ValueError, "generate, of a string, whose letters are no prompts", "list"):
        served.generate("Hello", 5, TOKENIZER)
    assert not served.has_work, "nothing has been submitted"


def test_task_7_generate_beside_others(toy: ToyModel) -> None:
    served = engine(toy)
    assert served.generate([], max_tokens=6) == [], "no prompts, no answers"
    short, long = served.submit(ask(4, 2)), served.submit(ask(5, 30, seed=1))
    answers = served.generate([make_prompt(length, 2) for length in (9, 3)], max_tokens=6)
    assert_alone(toy, short, *answers)
    assert long.state == "decoding", "generate steps until its own have ended, and no further"
    assert_returned(serve(served), short, long)  # the next steps return who ended meanwhile, and none of generate's own
    assert_alone(toy, long)


def test_task_7_generate_interrupted(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=2)
    assert served.generate([], max_tokens=6) == [], "no prompts, no answers"
    other = served.submit(ask(4, 20))
    requests: list[Any] = []
    given = served.submit

    def submit(request: Any) -> Any:
        requests.append(request)
        return given(request)

    served.submit = submit
    with refuses(Interruption, "generate lets an interruption through"):
        served.generate([make_prompt(5, seed) for seed in range(1, 6)], max_tokens=9, on_update=interrupt)
    served.submit = given
    served.check_integrity()
    assert [request.state for request in requests] == ["finished"] * 5, (
        "the caller has no hold on these requests any more, so those that still waited are cancelled, too"
    )
    assert_returned(serve(served), other)
    assert_can_still_serve(served, toy)


# stream.


def test_task_7_stream_yields_each_token(toy: ToyModel) -> None:
    served = engine(toy)
    for request in (ask(6, 7), ask(20, 1), ask_with_eos(toy, 6, 3, 9), ask_with_eos(toy, 6, 0, 9)):
        tokens = list(served.stream(request))
        assert_alone(toy, request)
        assert tokens == request.generated_tokens, f"it was given {request.generated_tokens}, and the stream yielded {tokens}"
        assert not served.has_work, "the reader of the stream knows of the end: no step returns the request as well"


def test_task_7_stream_as_tokens_come_back(toy: ToyModel) -> None:
    served = engine(toy)
    request = ask(6, 7)
    stream = served.stream(request)
    assert (request.state, served.has_work) == ("waiting", False), "nothing happens before the first next"
    for count, token in enumerate(stream, start=1):
        assert token == request.generated_tokens[count - 1], "the tokens in their order"
        assert len(request.generated_tokens) == count, (
            f"token {count} is yielded when it has come back, and here {len(request.generated_tokens)} had"
        )


def test_task_7_stream_serves_everyone(toy: ToyModel) -> None:
    served, request = engine(toy), ask(6, 7, seed=2)
    stream = served.stream(request)
    short, long = served.submit(ask(4, 3)), served.submit(ask(5, 30, seed=1))
    assert list(stream) == alone(toy, request.prompt, 7), "its own tokens, whatever runs alongside it"
    assert (short.state, long.state) == ("finished", "decoding"), "each step serves all"
    assert_returned(serve(served), short, long)  # the next steps return who ended meanwhile, and not the stream's own
    assert_alone(toy, short, long)


def test_task_7_stream_of_a_slow_listener(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served, request = engine(model), ask(6, 20)
    stream = served.stream(request)
    heard = [next(stream)]
    for _ in range(5):
        served.step()  # other code does
    calls = len(model.calls)
    heard += [next(stream) for _ in range(5)]
    assert len(model.calls) == calls, "five more tokens had come back already: a next steps the engine only if there is none"
    assert heard == request.generated_tokens, "they are yielded one after another"
    assert heard + list(stream) == alone(toy, request.prompt, 20), "and the rest follows"


def test_task_7_stream_of_a_slow_listener_whose_request_fails(toy: ToyModel) -> None:
    broken = False
    served, request = engine(FragileModel(toy, lambda tokens: broken)), ask(6, 20)
    stream = served.stream(request)
    heard = [next(stream)]
    for _ in range(3):
        served.step()
    broken = True
    served.step()
    assert request.finish_reason == "error", "other code stepped the engine when the model failed"
    with refuses(BrokenModelError, "the stream, after the tokens that came before"):
        for token in stream:
            heard.append(token)
    assert heard == request.generated_tokens, "first all tokens that it got, then the error"


def test_task_7_streams_side_by_side(toy: ToyModel) -> None:
    served = engine(toy)
    requests = [ask(4 + seed, 6 - seed, seed) for seed in range(4)]
    streams = [served.stream(request) for request in requests]
    heard: list[list[int]] = [[] for _ in streams]
    for _ in range(10):
        for tokens, stream in zip(heard, streams, strict=True):
            tokens.extend(token for token in [next(stream, None)] if token is not None)
    assert_alone(toy, *requests)
    assert heard == [request.generated_tokens for request in requests], "whose next steps the engine does not matter"
    assert not served.has_work, "all have ended, and each stream knows of its own: no step returns them"
    assert_nothing_is_lost(served)


@pytest.mark.parametrize("heard", [0, 1, 4])
def test_task_7_stream_closed_early(toy: ToyModel, heard: int) -> None:
    served, request = engine(toy), ask(6, 20)
    with closing(served.stream(request)) as stream:
        other = served.submit(ask(5, 12, seed=1))
        for _ in range(heard):
            next(stream)
    served.check_integrity()
    if heard:
        assert (request.finish_reason, request.blocks) == ("cancelled", []), "a reader that stops listening cancels the request"
        assert_beginning(toy, request)
    else:
        assert request.state == "waiting", "it was never submitted"
    assert_returned(serve(served), other)
    assert_alone(toy, other)
    assert_can_still_serve(served, toy)


def test_task_7_stream_of_a_refused_request(toy: ToyModel) -> None:
    served = engine(toy)
    with refuses(ValueError, "stream, of an empty prompt"):
        next(served.stream(ask(0, 5)))
    running = served.submit(ask(4, 9))
    served.step()
    with refuses(ValueError, "stream, of a request that was submitted before"):
        next(served.stream(running))
    assert running.state == "decoding", "a stream that could not begin has nothing to cancel: another is being served"
    serve(served)
    assert_alone(toy, running)


def test_task_7_stream_raises_what_its_request_ended_with(toy: ToyModel) -> None:
    broken = False
    served = engine(FragileModel(toy, lambda tokens: broken))
    request = ask(6, 20)
    stream = served.stream(request)
    heard = [next(stream) for _ in range(3)]
    broken = True
    with refuses(BrokenModelError, "the stream, after the tokens that came before"):
        heard.extend(stream)
    broken = False
    assert heard == request.generated_tokens, "first all tokens that it got, then the error"
    assert_beginning(toy, request)
    assert_can_still_serve(served, toy)


def test_task_7_stream_of_a_request_that_somebody_cancels(toy: ToyModel) -> None:
    served = engine(toy)
    request = ask(6, 20)
    stream = served.stream(request)
    heard = [next(stream) for _ in range(3)]
    served.cancel(request)
    heard.extend(stream)
    assert (request.finish_reason, heard) == ("cancelled", request.generated_tokens), "a cancel is an end, and no error"


def test_task_7_stream_interrupted(toy: ToyModel) -> None:
    served, request = engine(toy), ask(6, 20, on_update=interrupt, priority=-1)
    stream = served.stream(request)
    waiting = [served.submit(ask(4, 5, seed)) for seed in range(6, 12)]
    with refuses(Interruption, "the stream lets an interruption through"):
        list(stream)
    assert request.state == "finished", "an interrupted stream has ended its request"
    served.check_integrity()
    step_until(served, lambda: not served.has_work)
    assert_alone(toy, *(other for other in waiting if not isinstance(other.error, Interruption)))
    assert_can_still_serve(served, toy)


def test_task_7_stream_while_blocks_are_short(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=8, watermark=0)
    request = ask(7, 18, seed=5)
    stream = served.stream(request)
    others = [served.submit(ask(6, 20, seed)) for seed in range(2)]
    tokens = list(stream)
    assert tokens == alone(toy, request.prompt, 18), "a preempted request's stream waits, and neither skips nor repeats a token"
    serve(served)
    assert_alone(toy, *others)
    assert served.metrics.num_preemptions > 0, "8 blocks of 4 are too few for three requests of 26 tokens"
