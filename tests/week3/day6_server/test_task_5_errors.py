"""What is wrong is said in OpenAI's shape, wherever it is noticed, with the status that tells a client what to do."""

import asyncio
import json
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from answer import answer
from asgi_client import Exchange, ask
from patience import PATIENCE
from served_toy import MODEL, Served, served
from support import ToyModel, refuses
from tiny_llm_kit.models.tiny_random import ByteTokenizer

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
BODY = {"prompt": "Hi", "max_tokens": 2}
KEY = "sk-secret"


def expect_error(exchange: Exchange, status: int, *named: str) -> dict[str, Any]:
    """The error of an answer, which must have this status, OpenAI's shape, and a message that says these words."""
    __tracebackhide__ = True
    assert exchange.status == status, f"expected status {status}, got {exchange.status}: {exchange.body[:300]!r}"
    body = exchange.json()
    assert body.keys() == {"error"}, f"an error is {{'error': …}} and nothing else: {body}"
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= error.keys(), f"an error has all four fields: {error}"
    for word in named:
        assert word in error["message"], f"the message should name {word}: {error['message']!r}"
    return error


def asked(toy: ToyModel, path: str, body: Any = None, app: dict[str, Any] | None = None, **options: Any) -> Exchange:
    """One exchange with an app of its own, whose engine must be left empty."""

    async def main(serving: Served) -> Exchange:
        exchange = await ask(serving.app, path, body, **options)
        await serving.until_empty("an answered request is not in the engine any more")
        return exchange

    with served(toy, app=app) as serving:
        return asyncio.run(main(serving))


def test_task_5_another_model_is_not_found(toy: ToyModel) -> None:
    error = expect_error(asked(toy, COMPLETIONS, {**BODY, "model": "gpt-9"}), 404, "gpt-9", MODEL)
    assert error["code"] == "model_not_found", "see `check_model`"
    assert error["param"] == "model", "the field that is at fault"


def test_task_5_another_model_is_not_found_in_a_stream_either(toy: ToyModel) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "gpt-9", "stream": True}
    assert expect_error(asked(toy, CHAT, body), 404, "gpt-9")["code"] == "model_not_found", (
        "a stream begins only when the body is found right"
    )


def test_task_5_nobody_counts_the_tokens_of_another_model(toy: ToyModel) -> None:
    assert expect_error(asked(toy, "/tokenize", {"prompt": "Hi", "model": "gpt-9"}), 404)["code"] == "model_not_found", (
        "see `check_model`"
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_task_5_a_prompt_without_room_for_an_answer_is_refused(toy: ToyModel, stream: bool) -> None:
    body = {"prompt": "x" * 128, "stream": stream}
    error = expect_error(asked(toy, COMPLETIONS, body), 400, "128")
    assert error["code"] == "context_length_exceeded", "by this code clients know that they should shorten it"
    assert error["param"] == "prompt"


def test_task_5_a_prompt_that_leaves_room_for_one_token_is_answered(toy: ToyModel) -> None:
    exchange = asked(toy, COMPLETIONS, {"prompt": "x" * 127, "max_tokens": 50})
    assert exchange.status == 200, f"127 of 128 tokens leave room for one: {exchange.body[:300]!r}"
    assert exchange.json()["usage"]["completion_tokens"] == 1


def test_task_5_a_chat_that_is_too_long_names_messages(toy: ToyModel) -> None:
    error = expect_error(asked(toy, CHAT, {"messages": [{"role": "user", "content": "x" * 200}]}), 400, "128")
    assert error["param"] == "messages", "a chat has no field `prompt`"


def test_task_5_an_empty_prompt_is_refused(toy: ToyModel) -> None:
    error = expect_error(asked(toy, COMPLETIONS, {**BODY, "prompt": ""}), 400)
    assert error["param"] == "prompt", f"an error names the field that is at fault, here the prompt: {error}"


def test_task_5_tokens_that_the_model_does_not_know_are_refused(toy: ToyModel) -> None:
    expect_error(asked(toy, COMPLETIONS, {**BODY, "prompt": [1, 2, 99999]}), 400, "99999")


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[1, 2]", b'{"prompt": ', b"\xff\xfe", b"null", b"[" * 5000])
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, "/tokenize"])
def test_task_5_what_is_no_json_object_is_status_400(toy: ToyModel, path: str, body: bytes) -> None:
    expect_error(asked(toy, path, body), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", "many"),
        ("temperature", -1),
        ("n", 0),
        ("n", 1000),
        ("stop", ["a"] * 99),
        ("stream", "maybe"),
        ("logit_bias", {"\ud800": 1}),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_task_5_a_field_that_is_wrong_is_status_400_and_named(toy: ToyModel, field: str, value: Any) -> None:
    error = expect_error(asked(toy, COMPLETIONS, {**BODY, field: value}), 400)
    assert str(error["param"]).startswith(field), f"`param` is the field that is wrong, {field}, and not {error['param']!r}"
    assert error["type"] == "invalid_request_error"


def test_task_5_a_missing_field_is_named(toy: ToyModel) -> None:
    assert expect_error(asked(toy, CHAT, {"model": MODEL}), 400)["param"] == "messages", (
        "`param` names the field that is not there"
    )


def test_task_5_an_unknown_path_has_an_error_in_the_same_shape(toy: ToyModel) -> None:
    expect_error(asked(toy, "/v1/embeddings", {"input": "Hi"}), 404, "/v1/embeddings")


def test_task_5_a_wrong_method_has_an_error_in_the_same_shape(toy: ToyModel) -> None:
    expect_error(asked(toy, COMPLETIONS), 405)


class _Broken(ByteTokenizer):
    def encode(self, text: str) -> list[int]:
        raise RuntimeError("a secret of the tokenizer")


def test_task_5_a_mistake_of_the_server_is_status_500_and_tells_no_secret(
    toy: ToyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("served_toy.TOKENIZER", _Broken())

    async def main(serving: Served) -> Exchange:
        async with Exchange(serving.app, COMPLETIONS, BODY, {"x-request-id": "mine"}) as exchange:
            await asyncio.wait([exchange.task])
            assert isinstance(exchange.task.exception(), RuntimeError), (
                "the error goes on to the server, whose log it belongs in"
            )
            return exchange

    with served(toy) as serving:
        exchange = asyncio.run(main(serving))
    expect_error(exchange, 500)
    assert b"secret" not in exchange.body, "what the server stumbled over is for its log"
    assert exchange.headers["x-request-id"] == "mine", "this answer above all should be found in the log"


def test_task_5_a_tokenizer_that_refuses_is_status_400(toy: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(ByteTokenizer):
        def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]:
            raise ValueError("this model has no chat template")

    monkeypatch.setattr("served_toy.TOKENIZER", Refusing())
    expect_error(asked(toy, CHAT, {"messages": [{"role": "user", "content": "Hi"}]}), 400, "no chat template")


# The key


@pytest.mark.parametrize(
    "sent",
    [None, "Bearer wrong", KEY, f"Basic {KEY}", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer \xe9"],
    ids=["none", "wrong", "bare", "basic", "empty", "longer", "shorter", "not ASCII"],
)
@pytest.mark.parametrize(("path", "body"), [(COMPLETIONS, BODY), ("/v1/models", None), ("/tokenize", {"prompt": "Hi"})])
def test_task_5_without_the_key_nobody_is_served(toy: ToyModel, path: str, body: Any, sent: str | None) -> None:
    headers = {} if sent is None else {"authorization": sent}
    exchange = asked(toy, path, body, app={"api_key": KEY}, headers=headers)
    assert expect_error(exchange, 401)["code"] == "invalid_api_key"
    assert KEY.encode() not in exchange.body, "the message must not tell the key"


def test_task_5_with_the_key_everything_is_served(toy: ToyModel) -> None:
    for scheme in ("Bearer", "bearer"):
        exchange = asked(toy, COMPLETIONS, BODY, app={"api_key": KEY}, headers={"authorization": f"{scheme} {KEY}"})
        assert exchange.status == 200, f"the right key was refused: {exchange.body!r}"


def test_task_5_the_key_is_asked_for_before_the_body_is_read(toy: ToyModel) -> None:
    body = [b"x" * 1000] * 100
    exchange = asked(toy, COMPLETIONS, body, app={"api_key": KEY})
    expect_error(exchange, 401)
    assert exchange.taken <= 1000, f"{exchange.taken} bytes of a stranger's body were read: look at the key first"


def test_task_5_health_and_the_page_need_no_key(toy: ToyModel) -> None:
    for path in ("/", "/health"):
        assert asked(toy, path, app={"api_key": KEY}).status == 200, f"{path} is for monitors and people, who have no key"


# The name of a request


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, BODY),
        (COMPLETIONS, {**BODY, "stream": True}),
        (COMPLETIONS, b"no JSON"),
        ("/nothing", None),
        ("/health", None),
    ],
    ids=["whole", "stream", "refused", "unknown", "health"],
)
def test_task_5_the_request_s_id_is_echoed(toy: ToyModel, path: str, body: Any) -> None:
    exchange = asked(toy, path, body, headers={"x-request-id": "mine-17"})
    assert exchange.headers.get("x-request-id") == "mine-17", "every answer bears the id that its request came with"


def test_task_5_a_request_without_an_id_is_given_one(toy: ToyModel) -> None:
    ids = [asked(toy, "/health").headers.get("x-request-id") for _ in range(2)]
    assert all(ids), "an answer without an id cannot be found in a log"
    assert ids[0] != ids[1], "each request has an id of its own"


def test_task_5_what_nobody_has_foreseen_is_told_by_its_kind_alone() -> None:
    told = answer.explain(RuntimeError("/home/me/secret \ud800"))
    assert told.status == 500, f"it was not foreseen, so it is the server's mistake: {told.status}"
    assert "secret" not in told.detail.message, f"the text of an exception may hold anything: {told.detail.message!r}"
    assert "RuntimeError" in told.detail.message, f"its kind is told: {told.detail.message!r}"


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: answer.ApiError(418, "said already"), 418),
        (lambda: ValueError("said already"), 400),
        (lambda: answer.QueueFull("said already", 7), 429),
        (lambda: answer.Draining("said already"), 503),
        (lambda: answer.EngineDead("said already"), 503),
        (lambda: TimeoutError("said already"), 504),
        (lambda: answer.SlowReader("said already"), 500),
    ],
    ids=["ApiError", "ValueError", "QueueFull", "Draining", "EngineDead", "TimeoutError", "another ServingError"],
)
def test_task_5_the_status_says_whether_to_ask_again(make: Callable[[], Exception], status: int) -> None:
    error = make()
    told = answer.explain(error)
    assert told.status == status, f"{type(error).__name__} is told as status {status}, and not as {told.status}"
    assert told.detail.message == "said already", f"the client is told why: {told.detail.message!r}"


def test_task_5_a_deadline_that_says_nothing_is_told_in_words() -> None:
    told = answer.explain(TimeoutError())
    assert (told.status, bool(told.detail.message)) == (504, True), (
        "asyncio's TimeoutError has no text, and a client needs some"
    )


# The size of the body


def padded(size: int) -> bytes:
    """A valid body of this many bytes."""
    text = json.dumps(BODY).encode()
    return text + b" " * (size - len(text))


@pytest.mark.parametrize(
    "announced", [None, "right", "10"], ids=["no content-length", "content-length", "a wrong content-length"]
)
@pytest.mark.parametrize("pieces", [1, 7])
def test_task_5_a_body_over_the_limit_is_status_413(toy: ToyModel, announced: str | None, pieces: int) -> None:
    body = padded(1001)
    step = -(-len(body) // pieces)
    parts = [body[start : start + step] for start in range(0, len(body), step)]
    headers = {} if announced is None else {"content-length": str(len(body)) if announced == "right" else announced}
    expect_error(asked(toy, COMPLETIONS, parts, app={"max_body_bytes": 1000}, headers=headers), 413, "1000")


def test_task_5_a_body_at_the_limit_is_read(toy: ToyModel) -> None:
    body = padded(1000)
    exchange = asked(toy, COMPLETIONS, [body[:300], body[300:]], app={"max_body_bytes": 1000})
    assert exchange.status == 200, f"exactly max_body_bytes are allowed: {exchange.body!r:.300}"


def test_task_5_an_endless_body_is_not_read_for_ever(toy: ToyModel) -> None:
    body = [b"x" * 500] * 2000
    exchange = asked(toy, COMPLETIONS, body, app={"max_body_bytes": 1000})
    expect_error(exchange, 413)
    assert exchange.taken < 100_000, f"{exchange.taken} bytes were read of a body that may have 1000"


def test_task_5_a_body_over_the_limit_is_read_to_its_end(toy: ToyModel) -> None:
    body = padded(5000)
    parts = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    exchange = asked(toy, COMPLETIONS, parts, app={"max_body_bytes": 1000}, headers={"content-length": "5000"})
    expect_error(exchange, 413)
    assert exchange.taken == 5000, (
        f"{exchange.taken} of 5000 bytes were read, up to eight times the limit should be: a client that sends first and reads"
        " later would see a broken pipe, and no 413"
    )


def test_task_5_a_body_that_is_too_large_is_not_kept() -> None:
    most, sent = 100_000, 0

    async def receive() -> dict[str, Any]:
        nonlocal sent
        sent += 1
        return {"type": "http.request", "body": b"x" * most, "more_body": sent < 8}

    async def main() -> int:
        tracemalloc.start()
        try:
            with refuses(answer.ApiError, "a body of 800,000 bytes where 100,000 are allowed is a 413"):
                await answer.read_body(receive, most)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak = asyncio.run(main())
    assert peak < 5 * most, f"{peak} bytes were held at once of a body that may have {most}: throw away what is too much"


def receiving(*messages: dict[str, Any]) -> Callable[[], Awaitable[dict[str, Any]]]:
    """What `read_body` is given: each call returns the next message, and one too many is an error."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        assert left, "the body was complete, or should not be read at all, and yet `read_body` went on reading"
        return left.pop(0)

    return receive


def test_task_5_a_body_is_all_of_its_parts() -> None:
    parts = [{"type": "http.request", "body": b"one, ", "more_body": True}, {"type": "http.request", "body": b"two"}]
    body = asyncio.run(answer.read_body(receiving(*parts), 8))
    assert body == b"one, two", f"8 bytes in two parts, of which the last does not say more_body, and 8 are allowed: {body!r}"


@pytest.mark.parametrize("announced", ["100000", "9" * 30])
def test_task_5_a_body_that_is_announced_as_far_too_large_is_not_read(announced: str) -> None:
    with refuses(answer.ApiError, f"{announced} bytes are announced, and 10 are allowed", "10 bytes"):
        asyncio.run(answer.read_body(receiving(), 10, announced))


def test_task_5_half_a_body_is_none() -> None:
    half = {"type": "http.request", "body": b'{"prompt": "Delete nothing', "more_body": True}
    with refuses(ClientDisconnect, "the client has left while sending, and what has come is not what it wanted to say"):
        asyncio.run(answer.read_body(receiving(half, {"type": "http.disconnect"}), 1000))


def test_task_5_a_body_that_drips_is_status_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_globals_of_guard(), "BODY_SECONDS", 0.05)
    sent = 0

    async def receive() -> dict[str, Any]:
        nonlocal sent
        sent += 1
        await asyncio.sleep(0.005)
        return {"type": "http.request", "body": b" ", "more_body": sent < 50}

    with refuses(answer.ApiError, "BODY_SECONDS are for all of the body: a byte now and then must not keep a connection open"):
        asyncio.run(answer.read_body(receive, 1000))


def test_task_5_a_body_that_never_comes_is_status_408(toy: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(toy) as serving:
        monkeypatch.setitem(_globals_of_guard(), "BODY_SECONDS", 0.05)

        async def main() -> Exchange:
            async with Exchange(serving.app, COMPLETIONS, [b'{"prompt": '], ends=False) as exchange:
                return await exchange.answered()

        expect_error(asyncio.run(main()), 408)


def _globals_of_guard() -> Any:
    """The globals of the module that `read_body` of the package under test is in."""
    return answer.read_body.__globals__


def test_task_5_a_client_that_leaves_while_it_sends_is_no_mistake_of_the_server(toy: ToyModel) -> None:
    async def main(serving: Served) -> None:
        async with Exchange(serving.app, COMPLETIONS, [b'{"prompt": '], ends=False) as exchange:
            await asyncio.sleep(0.01)
            exchange.hang_up()
            await asyncio.wait([exchange.task], timeout=PATIENCE)
            assert exchange.task.done(), "the client is gone, and the request should be over"
            assert exchange.task.exception() is None, "a client that leaves is no error of the server"

    with served(toy) as serving:
        asyncio.run(main(serving))


def test_task_5_a_lone_surrogate_anywhere_is_no_mistake_of_the_server(toy: ToyModel) -> None:
    for body in ({**BODY, "prompt": "\ud800"}, {**BODY, "stop": ["\udfff"]}, {**BODY, "model": "\ud800"}):
        exchange = asked(toy, COMPLETIONS, body)
        assert exchange.status in (400, 404), f"the client's mistake was answered {exchange.status}: {exchange.body!r:.300}"
        expect_error(exchange, exchange.status)
