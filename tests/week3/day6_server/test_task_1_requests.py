"""Week 3 Day 6, task 1: bodies as clients really send them, and what they mean."""

import json
from typing import Any

import pytest

from answer import answer
from week3.day6_server.bodies import HELLO, chat, completion

# What clients send, written down from their requests.
VLLM_BENCH = {
    "model": "m",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Say 1."}]}],
    "max_completion_tokens": 128,
    "temperature": 0.0,
    "repetition_penalty": 1.0,
    "logprobs": None,
    "stream": True,
    "stream_options": {"include_usage": True},
    "ignore_eos": True,
}
LANGCHAIN = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief.", "name": None},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": None},
        {"role": "user", "content": "Hi?"},
    ],
    "stream": False,
    "n": 1,
    "temperature": 0.7,
    "frequency_penalty": None,
    "presence_penalty": None,
    "stop": None,
    "max_tokens": None,
    "tools": None,
}


def test_task_1_vllm_bench() -> None:
    request = answer.parse_body(answer.ChatCompletionRequest, json.dumps(VLLM_BENCH).encode())
    assert request.conversation() == [{"role": "user", "content": "Say 1."}], "a list with one text part is its text"
    assert request.answer_tokens(1000) == 128
    assert request.alternatives is None, "logprobs: null wants no log-probabilities"
    assert (request.stream, request.stream_options.include_usage, request.ignore_eos) == (True, True, True)


def test_task_1_langchain() -> None:
    request = answer.parse_body(answer.ChatCompletionRequest, json.dumps(LANGCHAIN).encode())
    assert request.conversation()[2] == {"role": "assistant", "content": ""}, "an assistant's content: null is no text"
    assert (request.n, request.stop, request.sampling_params().temperature) == (1, [], 0.7)


OPTIONAL = [
    "model", "max_tokens", "max_completion_tokens", "n", "stop", "stream", "stream_options", "user", "temperature", "top_p",
    "logit_bias", "response_format", "top_k", "min_p", "repetition_penalty", "ignore_eos", "priority", "logprobs",
    "top_logprobs", "tools", "tool_choice", "functions", "function_call", "presence_penalty", "frequency_penalty",
]  # fmt: skip


def test_task_1_null_is_the_default() -> None:
    plain = chat(seed=5)
    for field in OPTIONAL:
        with_null = chat(seed=5, **{field: None})
        assert with_null == plain, f"{field}: null should be the same as no {field}"
    nested = chat(seed=5, stream_options={"include_usage": None}, response_format={"type": None, "json_schema": None})
    assert nested == plain, "null is the default inside of stream_options and response_format, too"


def test_task_1_nulls_in_a_schema_stay() -> None:
    schema = {"enum": [None, "a"], "default": None}
    sent = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": None}}
    wanted = chat(response_format=sent).response_format.schema_wanted
    assert wanted == schema, "what is in a schema is the schema's: null is a value there"


def test_task_1_unknown_fields_are_ignored() -> None:
    assert chat(seed=5, store=True, metadata={"a": "b"}) == chat(seed=5)
    messages = [{"role": "user", "content": "hello", "name": "Ada"}]
    assert chat(messages=messages).conversation() == HELLO, "a chat template gets role and content, and nothing else"


def test_task_1_content_in_parts() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    turns = chat(messages=[{"role": "user", "content": parts}, {"role": "assistant", "content": []}]).conversation()
    assert [turn["content"] for turn in turns] == ["one\ntwo", ""], "parts are joined by line breaks"


def test_task_1_a_developer_is_the_system() -> None:
    turns = chat(messages=[{"role": "developer", "content": "Be brief."}, *HELLO]).conversation()
    assert [turn["role"] for turn in turns] == ["system", "user"], "no chat template knows a developer"


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("ab", ["ab"]), (["a", "b"], ["a", "b"]), ([7, 0], [[7, 0]]), ([[7], [8, 9]], [[7], [8, 9]]), ("", [""])],
)
def test_task_1_prompts(prompt: Any, prompts: list[Any]) -> None:
    assert completion(prompt=prompt).prompt == prompts, "a prompt is text or token ids, alone or in a list"


def test_task_1_length_of_the_answer() -> None:
    assert chat(max_tokens=5, max_completion_tokens=9).answer_tokens(100) == 9, "max_completion_tokens wins"
    assert completion(max_tokens=9, max_completion_tokens=5).answer_tokens(100) == 5, "max_completion_tokens wins"
    assert chat(max_tokens=5).answer_tokens(100) == 5
    assert chat(max_tokens=500).answer_tokens(100) == 100, "no more than there is room for"
    assert chat().answer_tokens(100) == 100, "a chat that does not say has all the room that there is"
    assert completion().answer_tokens(100) == 16, "a completion that does not say has 16 tokens, as at OpenAI"
    assert completion().answer_tokens(3) == 3, "no more than there is room for"


def test_task_1_one_stop_string() -> None:
    assert chat(stop="end").stop == ["end"], "a string is a list of one"
    assert chat(stop=["a", "b"]).stop == ["a", "b"]


def test_task_1_sampling_params() -> None:
    params = completion(
        temperature=0.5, top_k=4, top_p=0.9, min_p=0.1, repetition_penalty=1.5, seed=7
    ).sampling_params()  # fmt: skip
    assert params == answer.SamplingParams(0.5, 4, 0.9, 0.1, 1.5, 7)
    default = chat(seed=7).sampling_params()
    assert default == answer.SamplingParams(temperature=1.0, seed=7), "OpenAI's default temperature is 1"


def test_task_1_values_that_a_sampler_cannot_take() -> None:
    assert chat(top_k=-1).sampling_params().top_k == 0, "vLLM's top_k: -1 keeps all tokens"
    assert chat(temperature=1e-9).sampling_params().temperature == 0, "too small to divide by: the most likely token"
    assert chat(temperature=1e-5).sampling_params().temperature == 1e-5


def test_task_1_each_choice_has_its_own_seed() -> None:
    request = chat(seed=2**32 - 2, n=4)
    seeds = [request.sampling_params(choice).seed for choice in range(4)]
    assert len(set(seeds)) == 4, f"n answers from one seed would all be the same: {seeds}"
    assert seeds == [request.sampling_params(choice).seed for choice in range(4)], "the same body, the same seeds"
    assert seeds[0] == chat(seed=2**32 - 2).sampling_params().seed, "the first is what it is without n"


@pytest.mark.parametrize("seed", [0, 2**32, 2**63 - 1, -1, -(2**63)])
def test_task_1_seeds_of_64_bits(seed: int) -> None:
    drawn = chat(seed=seed).sampling_params().seed
    assert drawn == chat(seed=seed).sampling_params().seed, "the same seed gives the same answer"
    assert 0 <= drawn < 2**32
    assert drawn != chat(seed=seed + 1).sampling_params().seed


def test_task_1_a_seed_is_drawn_once() -> None:
    requests = [chat(), chat(), chat(seed=None)]
    assert len({request.seed for request in requests}) == 3, "without a seed, each request has another"
    for request in requests:
        assert request.sampling_params().seed == request.sampling_params().seed, "drawn once, and then kept"
        again = chat(seed=request.seed)
        assert again.sampling_params() == request.sampling_params(), "the seed that was drawn gives the answer again"


def test_task_1_logprobs_of_completions() -> None:
    assert completion(logprobs=3).alternatives == 3
    assert completion(logprobs=0).alternatives == 0, "0 wants log-probabilities of the tokens themselves: it is not None"
    assert completion().alternatives is None


def test_task_1_logprobs_of_chats() -> None:
    assert chat(logprobs=True, top_logprobs=3).alternatives == 3
    assert chat(logprobs=True).alternatives == 0, "it wants log-probabilities of the tokens themselves: 0 is not None"
    assert chat(logprobs=False).alternatives is None
    assert chat(logprobs=False, top_logprobs=0).alternatives is None


def test_task_1_response_format() -> None:
    def wanted(response_format: Any) -> Any:
        return chat(response_format=response_format).response_format.schema_wanted

    schema = {"type": "integer"}
    assert wanted({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}) == schema
    assert wanted({"type": "json_object"}) == {"type": "object"}
    assert wanted({"type": "text"}) is None
    assert wanted(None) is None
    assert wanted({"type": "text", "json_schema": {"name": "x", "schema": schema}}) is None, "text is any text"


def test_task_1_logit_bias() -> None:
    biases = chat(logit_bias={"5": 100, "0": -1.5}).logit_bias
    assert biases == {5: 100, 0: -1.5}, "JSON's keys are strings, and token ids are numbers"


def test_task_1_what_vllm_adds() -> None:
    request = completion(priority=-2, ignore_eos=True, user="ada")
    assert (request.priority, request.ignore_eos, request.user) == (-2, True, "ada"), (
        "what vLLM has beyond OpenAI's fields is read as well"
    )


def test_task_1_what_is_not_supported_may_ask_for_nothing() -> None:
    plain = chat(seed=5)
    harmless = {"tools": [], "functions": [], "tool_choice": "none", "function_call": "none", "presence_penalty": 0}
    for field, value in harmless.items():
        assert chat(seed=5, **{field: value}) == plain, f"{field}: {value!r} asks for nothing: it is as if it was null"
    assert completion(seed=5, echo=False, suffix="", best_of=1) == completion(seed=5)


def test_task_1_tokenize() -> None:
    text = answer.parse_body(answer.TokenizeRequest, b'{"prompt": "hello", "model": null}')
    assert (text.prompt, text.messages) == ("hello", []), (
        "`messages` is empty if there is a prompt, and null is as good as left out"
    )
    talk = answer.parse_body(answer.TokenizeRequest, json.dumps({"messages": HELLO}).encode())
    assert [message.turn() for message in talk.messages] == HELLO, "a conversation can be counted, too: see `Message.turn`"
