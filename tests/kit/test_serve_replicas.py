"""`pdm run serve-replicas` and `pdm run check-replicas`, as far as they go without Ray; with it, the latter is the test."""

import importlib.util
import pickle
import socket
import sys
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner

import tiny_llm_ref
from tiny_llm_kit.cli import check_replicas, serve_replicas
from tiny_llm_kit.cli.check_replicas import Asked, body_of, build_tiny, is_right, note
from tiny_llm_kit.models.tiny_random import ByteTokenizer


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Ray was not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find_spec(name))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.usefixtures("no_ray")
def test_without_ray_it_says_how_to_get_it() -> None:
    result = CliRunner().invoke(serve_replicas.main, ["--port", str(free_port())])
    assert result.exit_code != 0
    assert "pdm run setup-replicas" in result.output
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("no_ray")
def test_the_check_is_skipped_without_ray() -> None:
    result = CliRunner().invoke(check_replicas.main, [])
    assert result.exit_code == 0, result.output
    assert "skipped" in result.output
    assert "pdm run setup-replicas" in result.output


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(serve_replicas.main, ["--port", str(port)])
    assert result.exit_code != 0
    assert str(port) in result.output


@pytest.mark.parametrize("arguments", [["--replicas", "0"], ["--router", "Random"], ["--num-blocks", "0"]])
def test_refuses(arguments: list[str]) -> None:
    assert CliRunner().invoke(serve_replicas.main, arguments).exit_code == 2


def test_its_routers_are_those_that_there_are() -> None:
    assert all(hasattr(tiny_llm_ref, name) for name in serve_replicas.ROUTERS)


def test_what_travels_can_be_pickled() -> None:
    build = pickle.loads(pickle.dumps(partial(build_tiny, "ref")))
    engine, tokenizer = build()
    assert engine.generate(["Hello"], 3, tokenizer)[0].finish_reason is not None


def app_of(engine: Any) -> Any:
    return serve_replicas.make_app("ref", "tiny-random", ByteTokenizer(), 256, None, 60.0, engine)


def test_the_app_serves_a_replicated_engine() -> None:
    """All but Ray: bodies in, answers out, through two replicas, the first of which dies each time behind 3 deltas."""
    from fastapi.testclient import TestClient

    made = [tiny_llm_ref.EngineDeployment(partial(build_tiny, "ref")) for _ in range(2)]

    async def dies(request: Any) -> Any:
        count = 0
        async for delta in made[0].stream(request):
            yield delta
            count += 1
            if count == 3:
                raise tiny_llm_ref.UpstreamDied("as this test wants it")

    engine: Any = tiny_llm_ref.ReplicatedEngine(tiny_llm_ref.RoundRobin(), {"a": dies, "b": made[1].stream})
    try:
        with TestClient(app_of(engine)) as client:
            assert client.get("/health").status_code == 200
            body = {**body_of(1), "stream": False}
            answer = client.post("/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            choice = answer.json()["choices"][0]
            asked = Asked(body, choice["text"], choice["finish_reason"])
            assert is_right(tiny_llm_ref, *build_tiny("ref"), asked), choice
            refused = client.post("/v1/completions", json={**body, "logit_bias": {"5": 1}})
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == "logit_bias"
    finally:
        for one in made:
            one.engine.stop()


def test_the_check_notices_what_is_wrong() -> None:
    engine, tokenizer = build_tiny("ref")
    one = Asked(body_of(2))
    (alone,) = engine.generate([one.body["prompt"]], one.body["max_tokens"], tokenizer)
    for text in (alone.text, alone.text[:-1], alone.text[:5] + alone.text):
        asked = Asked(one.body)
        for letter in text:
            note(asked, {"choices": [{"text": letter, "finish_reason": None}]})
        assert not is_right(tiny_llm_ref, engine, tokenizer, asked), "an answer without an end is not complete"
        note(asked, {"choices": [{"text": "", "finish_reason": alone.finish_reason}]})
        assert is_right(tiny_llm_ref, engine, tokenizer, asked) == (text == alone.text)
    note(asked := Asked(one.body, alone.text, alone.finish_reason or ""), {"error": {"message": "died"}})
    assert not is_right(tiny_llm_ref, engine, tokenizer, asked)
