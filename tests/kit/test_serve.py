"""The server as others use it: real sockets, OpenAI's own client, the bodies of other programs, and faults of every kind."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from kit.live_server import MODEL, LiveServer, live_server

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
LONG = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 230, "ignore_eos": True}
NO_FAULT = {429, 503, 504}
"""What a server may say of itself: come back later. Every other status from 500 on is a mistake of ours."""


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with live_server() as server:
        yield server


@pytest.fixture
def client(live: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        yield client
    live.until_empty()


# OpenAI's client


def test_openai_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=7, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 7


def test_openai_streams_are_whole(client: openai.OpenAI) -> None:
    body: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 20, "temperature": 0}
    whole = client.chat.completions.create(**body)
    chunks = list(client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason


def test_openai_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["Once", "Twice"], n=2, max_tokens=4, seed=1, logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(choice.logprobs is not None for choice in answer.choices)
    stream = client.completions.create(model=MODEL, prompt="Once", max_tokens=4, stream=True)
    assert [chunk.choices[0].finish_reason for chunk in stream][-1] in ("length", "stop")


def test_openai_lists_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_openai_is_told_what_is_wrong(client: openai.OpenAI) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO, tools=tools)
    assert refused.value.param == "tools"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=MODEL, prompt="x" * 300)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model=MODEL, messages=HELLO, temperature=-1)


def test_openai_gives_up_and_is_not_served_on(live: LiveServer, client: openai.OpenAI) -> None:
    live.model.gate.clear()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).completions.create(model=MODEL, prompt="Once", max_tokens=200)
    live.model.gate.set()
    live.until_empty()


def test_openai_needs_the_key() -> None:
    with live_server(api_key="sk-right") as live:
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{live.url}/v1", api_key="sk-wrong", max_retries=0).models.list()
        assert openai.OpenAI(base_url=f"{live.url}/v1", api_key="sk-right").models.list().data
        assert httpx.get(f"{live.url}/health").status_code == 200


def test_openai_asynchronous_clients_all_at_once(live: LiveServer) -> None:
    """Each gets what it gets alone."""

    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        answer = await client.completions.create(model=MODEL, prompt=f"Number {number}", max_tokens=12, temperature=0)
        return answer.choices[0].text

    async def main() -> tuple[list[str], list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
            together = await asyncio.gather(*(ask(client, number) for number in range(24)))
            return together, [await ask(client, number) for number in range(24)]

    together, one_by_one = asyncio.run(main())
    assert together == one_by_one


# What other programs send, as they send it

VLLM_BENCH_CHAT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Tell me a story"}]}],
    "max_completion_tokens": 8,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.0,
    "repetition_penalty": 1.0,
    "ignore_eos": True,
}
VLLM_BENCH_COMPLETION = {
    "model": MODEL,
    "prompt": "Tell me a story",
    "temperature": 0.0,
    "repetition_penalty": 1.0,
    "max_tokens": 8,
    "logprobs": None,
    "stream": True,
    "stream_options": {"include_usage": True},
    "ignore_eos": True,
}
LANGCHAIN_CHAT = {
    "messages": [
        {"content": "You are helpful.", "role": "system"},
        {"content": "Hi", "role": "user"},
        {"content": None, "role": "assistant"},
        {"content": "Go on", "role": "user"},
    ],
    "model": MODEL,
    "max_completion_tokens": 8,
    "n": 1,
    "stream": False,
    "temperature": 0.7,
    "stop": None,
    "logprobs": None,
    "frequency_penalty": None,
    "presence_penalty": None,
    "seed": None,
    "logit_bias": None,
    "user": None,
}
GUIDELLM = {"model": MODEL, "prompt": "Hi", "max_tokens": 8, "max_completion_tokens": 8, "stop": None, "ignore_eos": True}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", VLLM_BENCH_CHAT),
        ("/v1/completions", VLLM_BENCH_COMPLETION),
        ("/v1/chat/completions", LANGCHAIN_CHAT),
        ("/v1/chat/completions", {**LANGCHAIN_CHAT, "stream": True}),
        ("/v1/completions", GUIDELLM),
    ],
    ids=["vllm bench chat", "vllm bench completion", "LangChain", "LangChain stream", "guidellm"],
)
def test_bodies_of_other_programs_are_served(live: LiveServer, path: str, body: dict[str, Any]) -> None:
    response = httpx.post(f"{live.url}{path}", json=body, headers={"x-request-id": "bench-7"}, timeout=30)
    assert response.status_code == 200, response.text
    assert response.headers["x-request-id"] == "bench-7"
    if not body.get("stream"):
        assert response.json()["usage"]["completion_tokens"] <= 8
        return
    events = [line[6:] for line in response.text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    if "stream_options" in body:
        usage = json.loads(events[-2])
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == 8, "ignore_eos: exactly as many as a benchmark counts on"


# Bodies that nobody sends on purpose


@pytest.fixture(scope="module")
def narrow() -> Iterator[LiveServer]:
    """Answers are short here, whatever a body asks for."""
    with live_server(max_seq_len=48) as server:
        yield server


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
def test_schemathesis_finds_no_mistake_of_the_server(narrow: LiveServer, path: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{narrow.url}/openapi.json")
    operation = schema[path]["POST"]
    statuses: set[int] = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=50, suppress_health_check=list(HealthCheck), deadline=None)
    def check(case: Any) -> None:
        response = case.call(timeout=20)
        statuses.add(response.status_code)
        assert response.status_code < 500 or response.status_code in NO_FAULT, f"{response.status_code}: {response.text[:300]}"
        assert response.status_code != 422, "OpenAI's clients know 400"
        if response.status_code >= 400:
            assert response.json()["error"]["message"]

    check()
    wanted = 200 if mode is GenerationMode.POSITIVE else 400
    assert wanted in statuses, f"the examples do not try what they should, they were answered {statuses}"
    narrow.until_empty()


def test_schemathesis_finds_no_mistake_in_what_is_only_read(narrow: LiveServer) -> None:
    schema = schemathesis.openapi.from_url(f"{narrow.url}/openapi.json")
    for path in ("/v1/models", "/health", "/metrics"):

        @given(case=schema[path]["GET"].as_strategy())
        @settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
        def check(case: Any) -> None:
            assert case.call(timeout=20).status_code == 200

        check()


def test_a_huge_body_is_refused_and_the_client_hears_of_it(live: LiveServer) -> None:
    body = json.dumps({"model": MODEL, "prompt": "x" * 3_000_000})
    response = httpx.post(f"{live.url}/v1/completions", content=body, timeout=30)
    assert response.status_code == 413
    assert response.json()["error"]["message"]

    def pieces() -> Iterator[bytes]:  # without a content-length
        for start in range(0, len(body), 60_000):
            yield body[start : start + 60_000].encode()

    assert httpx.post(f"{live.url}/v1/completions", content=pieces(), timeout=30).status_code == 413


def test_what_is_no_http_harms_nobody(live: LiveServer) -> None:
    for noise in (
        b"\x00\xff" * 500,
        b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ):
        with raw(live, noise) as connection:
            connection.settimeout(5)
            connection.recv(1000)
    assert httpx.get(f"{live.url}/health").status_code == 200


# Faults


def raw(live: LiveServer, data: bytes) -> socket.socket:
    """A connection on which this was sent."""
    connection = socket.create_connection(("127.0.0.1", int(live.url.rpartition(":")[2])))
    connection.sendall(data)
    return connection


def raw_post(live: LiveServer, body: dict[str, Any]) -> socket.socket:
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return raw(live, head.encode() + data)


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "not streaming"])
def test_a_client_that_hangs_up_frees_its_blocks(live: LiveServer, stream: bool) -> None:
    with live_server(max_num_seqs=1) as alone:
        first, second = (raw_post(alone, {**LONG, "n": 1, "stream": stream}) for _ in range(2))
        alone.until(lambda: len(alone.engine.running) == 1 and len(alone.engine.waiting) == 1, "one runs, and one waits")
        second.close()
        alone.until(lambda: not alone.engine.waiting, "the one that waits should be forgotten")
        first.close()
        alone.until_empty()


def test_a_reader_that_is_too_slow_loses_its_request_and_harms_nobody() -> None:
    with live_server(max_seq_len=512) as live:
        bodies = {**LONG, "max_tokens": 490, "stream": True, "n": 8, "logprobs": 20}
        slow = raw_post(live, bodies)  # and never a recv
        live.until(lambda: len(live.engine.running) == 8, "its choices run")
        answer = httpx.post(f"{live.url}/v1/completions", json={**LONG, "max_tokens": 5}, timeout=60)
        assert answer.status_code == 200
        slow.close()
        live.until_empty()


def test_a_half_open_connection_holds_up_nobody(live: LiveServer) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{"
    halves = [raw(live, head) for _ in range(20)]
    assert httpx.post(f"{live.url}/v1/completions", json={"prompt": "Hi", "max_tokens": 2}, timeout=30).status_code == 200
    for half in halves:
        half.close()


def in_threads(count: int, ask: Callable[[int], Any]) -> tuple[ThreadPoolExecutor, list[Any]]:
    pool = ThreadPoolExecutor(count)
    return pool, [pool.submit(ask, number) for number in range(count)]


@pytest.mark.parametrize("fault", ["killed", "hung"])
def test_when_the_engine_is_gone_health_says_so_and_everybody_is_told(fault: str) -> None:
    with live_server(step_limit=1.0) as live:

        def ask(number: int) -> httpx.Response:
            return httpx.post(f"{live.url}/v1/completions", json={**LONG, "stream": number % 2 == 0}, timeout=30)

        live.model.gate.clear()
        pool, answers = in_threads(6, ask)
        live.until(lambda: live.engine.has_work, "requests come")
        assert httpx.get(f"{live.url}/health").status_code == 200
        if fault == "killed":
            live.thread.post(_die)
            live.model.gate.set()
        began = time.monotonic()
        live.until(lambda: httpx.get(f"{live.url}/health").status_code == 503, "/health should be 503", 2.5)
        assert time.monotonic() - began < 2.5
        if fault == "killed":
            for response in [answer.result() for answer in answers]:
                whole = response.headers["content-type"].startswith("application/json")
                assert response.status_code == 503 if whole else "[DONE]" not in response.text, response.text[-300:]
                assert '"error"' in response.text
        refused = httpx.post(f"{live.url}/v1/completions", json=LONG, timeout=5)
        assert refused.status_code == 503, "nobody should wait for an engine that is gone"
        live.model.gate.set()
        pool.shutdown()


def _die(_: Any) -> None:
    raise SystemExit("the engine's thread is killed")


def test_one_step_that_fails_ends_those_in_it_and_nobody_else(live: LiveServer) -> None:
    model, failed = live.model.model, threading.Event()

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("a step that fails")
        return model(*args, **kwargs)

    live.model.model = fails_once
    try:
        broken = httpx.post(f"{live.url}/v1/completions", json={**LONG, "max_tokens": 3}, timeout=30)
        after = httpx.post(f"{live.url}/v1/completions", json={**LONG, "max_tokens": 3}, timeout=30)
    finally:
        live.model.model = model
    assert broken.status_code == 500
    assert after.status_code == 200
    assert httpx.get(f"{live.url}/health").status_code == 200
    live.until_empty()


def test_the_queue_is_bounded() -> None:
    with live_server(max_num_seqs=1, max_queue=4) as live:
        live.model.gate.clear()
        pool, answers = in_threads(
            16, lambda _: httpx.post(f"{live.url}/v1/completions", json={**LONG, "max_tokens": 2}, timeout=30)
        )
        live.until(lambda: sum(answer.done() for answer in answers) >= 8, "those without a place are sent away at once")
        live.model.gate.set()
        statuses = [answer.result().status_code for answer in answers]
        pool.shutdown()
    assert set(statuses) == {200, 429}
    refused = next(answer.result() for answer in answers if answer.result().status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
