"""Week 3 Day 6, task 1: what is refused, and what the client is told."""

from typing import Any

import pytest

from answer import answer
from week3.day6_server.bodies import HELLO, chat, completion, refused, refused_chat, refused_completion

LIMITS: list[tuple[str, Any, Any, str]] = [
    ("n", 8, 9, "8"),
    ("n", 1, 0, "1"),
    ("max_tokens", 1, 0, "1"),
    ("max_completion_tokens", 1, -1, "1"),
    ("temperature", 2, 2.1, "2"),
    ("temperature", 0, -0.1, "0"),
    ("top_p", 1, 1.1, "1"),
    ("top_p", 0.1, 0, "0"),
    ("min_p", 1, 1.1, "1"),
    ("min_p", 0, -0.1, "0"),
    ("top_k", -1, -2, "-1"),
    ("repetition_penalty", 10, 11, "10"),
    ("repetition_penalty", 0.1, 0, "0"),
    ("seed", 2**64 - 1, 2**64, str(2**64)),
    ("stop", ["x"] * 4, ["x"] * 5, "4"),
    ("logit_bias", {str(token): 1 for token in range(300)}, {str(token): 1 for token in range(301)}, "300"),
    ("user", "u" * 256, "u" * 257, "256"),
    ("model", "m" * 256, "m" * 257, "256"),
]


@pytest.mark.parametrize(("field", "within", "beyond", "limit"), LIMITS)
@pytest.mark.parametrize("endpoint", ["chat", "completion"])
def test_task_1_limits(endpoint: str, field: str, within: Any, beyond: Any, limit: str) -> None:
    accept, refuse = (chat, refused_chat) if endpoint == "chat" else (completion, refused_completion)
    accept(**{field: within})
    error = refuse(**{field: beyond})
    assert error["param"] == field, f"param should say which field is at fault: {error}"
    assert repr(beyond)[:20] in error["message"], f"the message should name the value {beyond!r:.60}: {error['message']}"
    assert limit in error["message"], f"the message should name the limit {limit}: {error['message']}"


def test_task_1_limits_of_logprobs() -> None:
    completion(logprobs=20)
    chat(logprobs=True, top_logprobs=20)
    assert refused_completion(logprobs=21)["param"] == "logprobs", "20 is the limit, and the field is named"
    assert refused_chat(logprobs=True, top_logprobs=21)["param"] == "top_logprobs", "20 is the limit, and the field is named"


def test_task_1_limits_of_lists() -> None:
    completion(prompt=["a"] * 64)
    assert "64" in refused_completion(prompt=["a"] * 65)["message"], "a body may hold 64 prompts, and the message says so"
    chat(messages=HELLO * 1024)
    assert "1024" in refused_chat(messages=HELLO * 1025)["message"], "a chat may have 1024 messages, and the message says so"


def test_task_1_limits_of_texts() -> None:
    completion(prompt=["a" * 500_000] * 2)
    error = refused_completion(prompt=["a" * 500_000, "a" * 500_001])
    assert error["param"] == "prompt"
    assert "1000001" in error["message"], f"the message should say how many letters there are, 1000001: {error['message']}"
    assert len(error["message"]) < 1000, "a value is named, but not all of it"
    long = [{"role": "user", "content": "a" * 1_000_001}]
    assert refused_chat(messages=[*HELLO, *long])["param"] == "messages[1].content"


NEITHER = {
    "a switch is not a number": ("n", True),
    "a switch is no temperature": ("temperature", True),
    "a text is not a number": ("temperature", "1"),
    "a text is no whole number": ("max_tokens", "5"),
    "a part of a token": ("max_tokens", 1.5),
    "a number is no switch": ("stream", 1),
    "a text is no switch": ("ignore_eos", "true"),
    "infinity": ("max_tokens", float("inf")),
    "no number": ("temperature", float("nan")),
    "an object": ("user", {}),
    "a stop that is a number": ("stop", 5),
    "an unknown format": ("response_format", {"type": "yaml"}),
}


@pytest.mark.parametrize("case", NEITHER)
def test_task_1_wrong_kinds(case: str) -> None:
    field, value = NEITHER[case]
    for error in (refused_chat(**{field: value}), refused_completion(**{field: value})):
        assert error["param"].split(".")[0] == field, f"{case}: param should be {field}: {error}"


def test_task_1_params_are_paths() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": ["a", "x" * 257]}, "stop[1]"),
        ({"stream_options": {"include_usage": 5}}, "stream_options.include_usage"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7"),
        ({"logit_bias": {"seven": 1}}, "logit_bias.seven"),
        ({"logit_bias": {"-7": 1}}, "logit_bias.-7"),
        ({"messages": [*HELLO, {"role": "tool", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ]
    for fields, path in wrong:
        assert refused_chat(**fields)["param"] == path, f"`param` is the path to what is wrong in {fields}"


@pytest.mark.parametrize("content", [5, {"text": "x"}, ["x"], [{"type": "image_url"}], [{"type": "text", "text": 5}]])
def test_task_1_content_that_is_no_text(content: Any) -> None:
    error = refused_chat(messages=[*HELLO, {"role": "user", "content": content}])
    assert error["param"] == "messages[1].content", "`param` is the path to what is wrong: the message's index and its field"


@pytest.mark.parametrize("prompt", [None, [], [[]], [["a"]], ["a", 5], [5, "a"], [[5], "a"], [5, True], [-1], 5, {}, [None]])
def test_task_1_prompts_that_are_none(prompt: Any) -> None:
    assert refused_completion(prompt=prompt)["param"] == "prompt", (
        "a prompt is a text, a list of token ids, or a list of either"
    )


def test_task_1_what_is_missing() -> None:
    for kind, field in (("ChatCompletionRequest", "messages"), ("CompletionRequest", "prompt")):
        for body in (b"{}", f'{{"{field}": null}}'.encode()):
            error = refused(kind, body)
            assert error["param"] == field
            assert "missing" in error["message"], f"the message should say that {field} is missing: {error['message']}"
    assert refused_chat(messages=[])["param"] == "messages"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"\xff",
        b'{"prompt": ' + b"[" * 5000,
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_task_1_what_is_no_json(body: bytes) -> None:
    for kind in ("ChatCompletionRequest", "CompletionRequest", "TokenizeRequest"):
        error = refused(kind, body)
        assert error["type"] == "invalid_request_error"
        assert error["message"], "a client is told what is wrong with its body"


UNSUPPORTED = {
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "auto",
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "presence_penalty": 0.5,
    "frequency_penalty": -1,
}


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_task_1_what_is_not_supported(field: str) -> None:
    error = refused_chat(**{field: UNSUPPORTED[field]})
    assert error["param"] == field, f"an answer without {field} would look right, and be none: {error}"


def test_task_1_what_is_not_supported_in_completions() -> None:
    for field, value in {"echo": True, "suffix": "end", "best_of": 2}.items():
        assert refused_completion(**{field: value})["param"] == field, (
            f"{field} is not supported: a client that asks for it must be told, not ignored"
        )
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]
    error = refused_chat(messages=[*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}])
    assert error["param"] == "messages[1].tool_calls", "tools are not supported, in old messages either"


def test_task_1_what_does_not_go_together() -> None:
    assert refused_chat(top_logprobs=3)["param"] == "top_logprobs", "it needs logprobs: true"
    assert refused_chat(logprobs=False, top_logprobs=3)["param"] == "top_logprobs"
    assert refused_chat(logprobs=3)["param"] == "logprobs", "a number is the form of completions"
    assert refused_completion(logprobs=True)["param"] == "logprobs", "a switch is the form of chats"
    assert refused_chat(response_format={"type": "json_schema"})["param"] == "response_format", "where is the schema?"
    error = refused_chat(response_format={"type": "json_object"}, ignore_eos=True)
    assert error["param"] == "ignore_eos", "when the value is complete, nothing but an EOS can follow"
    chat(ignore_eos=True, response_format={"type": "text"})


def test_task_1_errors_of_fastapi() -> None:
    raised = [{"type": "greater_than", "loc": ("body", "messages", 1, "n"), "msg": "Input should be greater", "input": 5}]
    error = answer.validation_error(raised)
    assert error.status == 400, "FastAPI would say 422, and OpenAI's clients know 400"
    told = error.as_json()["error"]
    assert told["param"] == "messages[1].n", 'a path of FastAPI\'s begins with "body", which no client has written'
    assert "5" in told["message"]
    second = {"type": "missing", "loc": ("body", "prompt"), "msg": "Field required", "input": {}}
    told = answer.validation_error([*raised, second]).as_json()["error"]
    assert told["param"] == "messages[1].n", "of several errors, the first is told"


def test_task_1_an_error_is_whole() -> None:
    error = answer.ApiError(404, "no model 'x'", param="model", code="model_not_found")
    expected = {"message": "no model 'x'", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    assert error.as_json() == {"error": expected}
    bare = answer.ApiError(500, "oh", "server_error").as_json()["error"]
    assert bare == {"message": "oh", "type": "server_error", "param": None, "code": None}, "all four, also where there is none"
