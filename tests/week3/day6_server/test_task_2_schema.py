"""Week 3 Day 6, task 2: answers that follow a JSON schema, first by hand and then in both engines."""

import json
import random
from typing import Any

import jsonschema
import mlx.core as mx
import pytest
from llguidance import LLMatcher, LLParserLimits

from answer import answer
from day6_engines import engine as slot_engine
from paged_engines import engine, serve
from support import ToyModel, assert_alone, expect_no_error, finish_all, refuses
from week3.day6_server.sampling_for_clients import (
    EOS,
    POINT,
    VOCABULARY,
    allowed,
    ask,
    make_logits,
    make_sampler,
    named,
    written,
)

SHORT_LIST = {"type": "array", "items": {"enum": [1, None, "é"]}, "maxItems": 3}


def test_task_2_what_may_follow() -> None:
    assert "{" in allowed(POINT, "")
    assert not allowed(POINT, "") & set('"[x1') | {"EOS"} & allowed(POINT, "")
    assert allowed(POINT, '{"x": 7, "kind": "') == {"r", "g"}
    assert allowed(POINT, '{"x": 7, "kind": "r') == {"e"}
    assert "EOS" in allowed(POINT, '{"x": 7, "kind": "red"}'), "the value is complete"
    assert "EOS" not in allowed(POINT, '{"x": 7, "kind": "red"'), "the value is not complete"
    assert "EOS" in allowed({"type": "integer"}, "12")
    assert "3" in allowed({"type": "integer"}, "12")


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(
    "schema", [POINT, {"type": "array", "items": {"enum": [1, None, "é"]}, "maxItems": 3}, {"type": "null"}]
)
def test_task_2_any_logits_become_json(schema: dict[str, Any], temperature: float) -> None:
    for seed in range(5):
        sampler = make_sampler(3, schema, temperature, seed)
        tokens = answer_of(sampler, [1, 2, 3], lambda place, seed=seed: make_logits(100 * seed + place))
        jsonschema.validate(json.loads(bytes(tokens)), schema)


def test_task_2_any_object() -> None:
    """`{}` is all that a model needs to write that likes to end."""
    sampler = make_sampler(0, {"type": "object"}, logit_bias={ord("}"): 50.0, EOS: 100.0})
    assert json.loads(bytes(answer_of(sampler, [], make_logits))) == {}, (
        "the schema allows an empty object, and the end after it"
    )


def test_task_2_a_model_that_loves_blanks_ends() -> None:
    sampler = make_sampler(0, POINT, logit_bias={ord(" "): 50.0, ord("\n"): 50.0, ord("\t"): 50.0})
    jsonschema.validate(json.loads(bytes(answer_of(sampler, [], make_logits))), POINT)


def test_task_2_a_bias_lifts_no_mask() -> None:
    sampler = make_sampler(0, POINT, logit_bias={ord("q"): 100.0})
    assert int(sampler(make_logits(0), [])) == ord("{"), "what the schema rules out stays ruled out"


def test_task_2_a_vocabulary_that_is_padded() -> None:
    size = VOCABULARY.size + 60
    for best in (size - 1, VOCABULARY.size):
        logits = mx.where(mx.arange(size) == best, mx.array(99.0), make_logits(0, size))
        assert int(make_sampler(0, POINT)(logits, [])) == ord("{"), "no text begins with an id that the tokenizer does not know"


def test_task_2_state_is_a_function_of_the_tokens() -> None:
    grammar = answer.compile_schema(POINT, VOCABULARY)
    guide, choose = answer.JsonGuide(grammar), random.Random(1)
    answers = [b'{"x": 17, "kind": "red"}', b'{"x": 4,\n"kind":"green"}', b'{ "x": 99, "kind": "red"}']
    for _ in range(200):
        text = choose.choice(answers)
        tokens = list(text[: choose.randrange(len(text) + 1)]) + choose.choice([[], [], [EOS], [ord("q")], [EOS, EOS, 5]])
        got = named(guide.allowed(tokens))
        if tokens == list(text[: len(tokens)]):
            assert got == allowed(POINT, bytes(tokens)), f"after {bytes(tokens)!r}, whatever was asked for before"


def test_task_2_one_grammar_for_many_answers() -> None:
    grammar = answer.compile_schema(POINT, VOCABULARY)
    first, second = answer.JsonGuide(grammar), answer.JsonGuide(grammar)
    first.allowed(list(b'{"x": 1, "kind": "'))
    assert named(second.allowed([])) == allowed(POINT, ""), "each answer has a state of its own"
    assert named(answer.JsonGuide(grammar).allowed([])) == allowed(POINT, ""), "a grammar stays as it was"
    assert named(first.allowed(list(b'{"x": 1, "kind": "'))) == {"r", "g"}


def test_task_2_each_token_is_read_once() -> None:
    guide = answer.JsonGuide(answer.compile_schema({"type": "array", "items": {"type": "integer"}}, VOCABULARY))
    consumed = 0

    class Watched:
        """The matcher, whose methods count the tokens that they are given."""

        def __init__(self, matcher: Any) -> None:
            self.matcher = matcher

        def __getattr__(self, name: str) -> Any:
            method = getattr(self.matcher, name)

            def call(*args: Any) -> Any:
                nonlocal consumed
                consumed += sum(len(arg) if isinstance(arg, list) else 1 for arg in args if "consume" in name)
                return method(*args)

            return call

    watched = [name for name, value in vars(guide).items() if isinstance(value, LLMatcher)]
    for name in watched:
        setattr(guide, name, Watched(getattr(guide, name)))
    text = list(b"[" + b"1, " * 60)
    for length in range(len(text)):
        guide.allowed(text[:length])
    if consumed:
        assert consumed < 3 * len(text), f"{len(text)} tokens were consumed {consumed} times: only the new ones need to be"


def test_task_2_draws_that_were_thrown_away() -> None:
    quiet, tossed = make_sampler(2, POINT, 1.5, seed=4), make_sampler(2, POINT, 1.5, seed=4)
    expected = answer_of(quiet, [1, 2], make_logits)
    tokens = [1, 2]
    for place, token in enumerate(expected):
        for ahead in ([expected[place]], [ord("q"), ord("q")], [EOS], expected[place : place + 3]):
            tossed(make_logits(50), [*tokens, *ahead])
        assert int(tossed(make_logits(place), tokens)) == token, f"token {place}: only the tokens before it count"
        tokens.append(token)


def test_task_2_the_last_token_may_be_unread() -> None:
    sampler, other = make_sampler(1, POINT), make_sampler(1, POINT)
    prefix = list(b'{"x": 5')
    token = sampler(make_logits(3), [1, *prefix[:-1], mx.array(prefix[-1], dtype=mx.uint32)])
    assert isinstance(token, mx.array)
    assert int(token) == int(other(make_logits(3), [1, *prefix])), "an array that is not read yet stands for the same token"


BAD_SCHEMAS: dict[str, Any] = {
    "a type that there is not": {"type": "nonsense"},
    "a pointer to nowhere": {"$ref": "#/nope"},
    "nothing fulfils it": {"type": "integer", "minimum": 5, "maximum": 3},
    "a pattern that is none": {"type": "string", "pattern": "("},
    "what is not implemented": {"type": "array", "uniqueItems": True},
    "properties that are none": {"type": "object", "properties": 3},
}


@pytest.mark.parametrize("case", BAD_SCHEMAS)
def test_task_2_bad_schemas(case: str) -> None:
    assert_refused(BAD_SCHEMAS[case])


def test_task_2_a_schema_that_is_nested_too_deeply() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(190):
        schema = {"type": "array", "items": schema}
    assert_refused(schema)


def test_task_2_a_guide_that_gives_up() -> None:
    """A schema that becomes too complicated after the first item: here, because hardly anything is allowed to be."""
    choices = [{"type": "array", "items": {"const": number}} for number in range(30)]
    schema = {"type": "array", "prefixItems": [{"const": 1}, {"anyOf": choices}], "items": False}
    limits = LLParserLimits(max_items_in_row=20)
    grammar = LLMatcher(VOCABULARY.guidance, LLMatcher.grammar_from_json_schema(schema), limits=limits, log_level=0)
    sampler = answer.ClientSampler(answer.SamplingParams(), VOCABULARY, 0, grammar=grammar)
    assert int(sampler(make_logits(0), [])) == ord("[")
    assert sampler.error == ""
    assert int(sampler(make_logits(0), list(b"[1,"))) == EOS, "an exception would end all rows of the step; EOS ends this one"
    assert sampler.error, "and the server can tell that this was no end"
    assert int(sampler(make_logits(0), [])) == ord("[")
    assert sampler.error == "", "if those tokens were thrown away, so is the error"
    assert make_sampler().error == "", "no schema, no error"


@pytest.mark.parametrize("paged", [True, False])
def test_task_2_in_an_engine(toy: ToyModel, paged: bool) -> None:
    def sampler(length: int) -> Any:
        return make_sampler(length, POINT)

    guided = [
        ask(5, 150, sampler, paged=paged, eos_token_ids=[EOS]),
        ask(6, 150, sampler, seed=2, paged=paged, eos_token_ids=[EOS]),
    ]
    others = [ask(5, 8, paged=paged), ask(9, 16, seed=1, paged=paged)]
    asked = [others[0], guided[0], others[1], guided[1]]
    if paged:
        serve(engine(toy, num_blocks=128), *asked)
    else:
        served = slot_engine(toy, max_seq_len=200)
        for request in asked:
            served.submit(request)
        finish_all(served)
    assert_alone(toy, *others)
    for request in guided:
        expect_no_error(request)
        assert request.finish_reason == "stop", "the value is complete, so that EOS is all that can follow"
        jsonschema.validate(written(request), POINT)


def test_task_2_preemption_changes_no_token(toy: ToyModel) -> None:
    def sampler(length: int) -> Any:
        return make_sampler(length, POINT, temperature=1.0, seed=8)

    quiet, tossed = (ask(5, 150, sampler, eos_token_ids=[EOS]) for _ in range(2))
    serve(engine(toy, num_blocks=64), quiet)
    served = engine(toy, num_blocks=64)
    served.submit(tossed)
    for _ in range(600):
        if not served.has_work:
            break
        served.step()
        if tossed.request_id in served.running and len(tossed.generated_tokens) in (3, 8, 15) and tossed.preemptions < 3:
            served.preempt(tossed)
    expect_no_error(tossed)
    assert tossed.preemptions == 3
    assert tossed.generated_tokens == quiet.generated_tokens, "what may follow depends on the tokens before alone"


def answer_of(sampler: Any, prompt: list[int], logits: Any, most: int = 400) -> list[int]:
    """What it draws after `prompt`, up to EOS; AssertionError if that does not come."""
    __tracebackhide__ = True
    tokens = list(prompt)
    for place in range(most):
        token = int(sampler(logits(place), tokens))
        if token == EOS:
            return tokens[len(prompt) :]
        tokens.append(token)
    raise AssertionError(f"no EOS after {most} tokens: {bytes(tokens[len(prompt) :])[:120]!r}")


def assert_refused(schema: Any) -> None:
    """`compile_schema` refuses it as a client's mistake."""
    __tracebackhide__ = True
    name = f"{json.dumps(schema):.80}"
    with refuses(answer.ApiError, f"{name} can't be followed"):
        try:
            answer.compile_schema(schema, VOCABULARY)
        except answer.ApiError as error:
            told = error
            raise
    assert told.status == 400, f"{name}: the status should be 400"
    assert told.as_json()["error"]["param"] == "response_format"
    assert str(told), f"{name}: say what is wrong with it"
