"""`pdm run serve` as a process: how it starts, what it refuses, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from kit.tiny_models import save_folder
from tiny_llm_kit.cli.serve import main
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.models.tiny_random import tiny_config

PATIENCE = 90.0
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_folder(tmp_path_factory.mktemp("serve"), tiny_config())
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


class Process:
    """A server in a process of its own. output: all that it has said."""

    def __init__(self, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(find_root() / "src")}
        command = [sys.executable, str(find_root() / "scripts/serve.py"), "--port", "0", *arguments]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self.until(r"is served at (http://\S+)")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def until(self, pattern: str) -> str:
        """Wait until it has said this."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.output)):
            alive = time.monotonic() < end and self.process.poll() is None
            assert alive, f"it never said {pattern!r}: {self.output}"
            time.sleep(0.02)
        return found[1] if found.groups() else found[0]

    def end(self) -> int:
        """Its exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(5)
        return code


@contextmanager
def serving(*arguments: str) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


def ask(url: str, max_tokens: int = 4, **more: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": max_tokens, "ignore_eos": True, **more}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def test_sigterm_under_load_lets_answers_end_and_exits_with_0(model: Path) -> None:
    with serving("--model", str(model)) as server, ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(ask, server.url, 300, stream=number % 2 == 0) for number in range(10)]
        end = time.monotonic() + PATIENCE
        while "vllm:num_requests_running" not in (text := httpx.get(f"{server.url}/metrics").text) or not re.search(
            r"num_requests_running\{.*\} 10\.0", text
        ):
            assert time.monotonic() < end, text
        watching = pool.submit(httpx.get, f"{server.url}/live", timeout=60)  # a page that is open must not hold it up
        server.process.send_signal(signal.SIGTERM)
        server.until("Draining")
        try:
            late = ask(server.url)
            assert late.status_code == 503, "no new requests while it drains"
            assert httpx.get(f"{server.url}/health").status_code == 503
        except httpx.TransportError:
            pass  # it had ended already
        for number, answer in enumerate(answers):
            response = answer.result()
            assert response.status_code == 200, response.text
            assert ("[DONE]" in response.text) == (number % 2 == 0), "an answer was cut off"
        watching.result()
        assert server.end() == 0, server.output
        assert "Stopped." in server.output
        assert "Traceback" not in server.output, server.output


def test_what_does_not_end_in_time_is_told_so(model: Path) -> None:
    with serving("--model", str(model), "--drain-timeout", "0", "--access-log") as server, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, server.url, 500, stream=stream) for stream in (True, False)]
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        assert server.end() == 0, server.output
        for answer in answers:
            response = answer.result()
            assert "[DONE]" not in response.text
            assert response.status_code != 200 or "error" in response.text, "an answer that was cut off must not look whole"
        assert "/v1/chat/completions" in server.output, "--access-log prints a line for each request"


def test_the_slot_engine_and_the_key_of_the_environment(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_LLM_API_KEY", "sk-environment")
    with serving("--model", str(model), "--engine", "slots", "--slots", "2") as server:
        assert ask(server.url).status_code == 401
        client = httpx.Client(base_url=server.url, headers={"authorization": "Bearer sk-environment"}, timeout=60)
        body = {"prompt": "Hi", "max_tokens": 5, "temperature": 0, "n": 3, "ignore_eos": True, "logprobs": 1}
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == 15
        assert 'kv_unit": "slots"' in next(iter(stream_lines(f"{server.url}/live")))
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0, server.output
        assert "sk-environment" not in server.output, "the key is nobody's business"


def test_drafts_change_no_answer_and_are_counted(model: Path) -> None:
    texts = []
    for options in ([], ["--speculate", "ngram"]):
        with serving("--model", str(model), *options) as server:
            texts.append(ask(server.url, 200, temperature=0).json()["choices"][0]["message"]["content"])
            metrics = httpx.get(f"{server.url}/metrics").text
    assert texts[0] == texts[1]
    drafted = re.search(r"spec_decode_num_draft_tokens\S*\{.*\} (\S+)", metrics)
    assert drafted, metrics
    assert float(drafted[1]) > 0, metrics


def stream_lines(url: str) -> Iterator[str]:
    with httpx.stream("GET", url, timeout=10) as response:
        yield from response.iter_lines()


def test_a_port_in_use_is_named(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["--model", str(model), "--port", str(port)])
    assert result.exit_code == 1, result.output
    assert f"port {port} of 127.0.0.1 is in use" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no/such-model"], "no/such-model"),
        (["--host", "256.1.1.1"], "256.1.1.1"),
        (["--port", "99999"], "99999 is not in the range"),
        (["--engine", "slots", "--num-blocks", "8"], "means nothing to --engine slots"),
        (["--engine", "slots", "--speculate", "ngram"], "means nothing to --engine slots"),
        (["--kv-bits", "5"], "5"),
        (["--max-seq-len", "100000"], "reads 8192 tokens at most"),
        (["--num-blocks", "2", "--max-seq-len", "64"], "give at least 4"),
        (["--max-num-seqs", "300"], "max_num_batched_tokens is 192"),
        (["--slots", "100000000"], "would fit"),
        (["--api-key", ""], "empty"),
        (["--max-queue", "0"], "0 is not in the range"),
        (["--request-timeout", "nan"], "nan is not a finite number"),
        (["--drain-timeout", "-1"], "-1.0 is not in the range"),
        (["--solution", "nobody"], "nobody"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["--port", "0", *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_unfinished_task_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stub(*_: object, **__: object) -> None:
        raise NotImplementedError("Week 9 Day 9, task 9: a stub")

    monkeypatch.setattr("tiny_llm_ref.Engine.__init__", stub)
    result = CliRunner().invoke(main, ["--model", str(model), "--port", "0"])
    assert result.exit_code == 2, result.output
    assert "Week 9 Day 9, task 9" in result.output
