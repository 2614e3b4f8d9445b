"""The two processes of a load test: a real `pdm run serve`, and locust, which asks it. Neither outlives what started it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

import tiny_llm_kit
from tiny_llm_kit.bench.served_load import Answer, Sample, is_clear
from tiny_llm_kit.course.course_map import find_root

LOCUSTFILE = Path(__file__).parent / "served_locustfile.py"
READY_SECONDS = 300.0
EMPTY_SECONDS = 10.0
END_SECONDS = 60.0
SAMPLE_SECONDS = 0.5
_TAIL = 2000


class Server:
    """url: of the server. model: its name there."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log
        self.url = self._until_ready()
        self._client = httpx.Client(base_url=self.url, timeout=60.0, trust_env=False)
        self._memory = psutil.Process(process.pid)
        self.model: str = self.get("/v1/models").json()["data"][0]["id"]

    def _until_ready(self) -> str:
        end = time.monotonic() + READY_SECONDS
        while not (found := re.search(r"is served at (http://\S+)", self.said())):
            if self.process.poll() is not None or time.monotonic() > end:
                raise click.ClickException(f"the server did not start:\n{self.said()}")
            time.sleep(0.05)
        return found[1]

    def said(self) -> str:
        """The end of what it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]

    def get(self, path: str) -> httpx.Response:
        """Raises ClickException if there is no answer."""
        try:
            return self._client.get(path)
        except httpx.HTTPError as error:
            raise click.ClickException(f"the server does not answer at {path} ({error!r}). It said:\n{self.said()}") from None

    def alone(self, body: dict[str, Any]) -> Answer | None:
        """The answer to the request when there is no other; None if another token would have been nearly as good.

        Raises:
            ClickException: if it is not answered.
        """
        answered = self._client.post("/v1/completions", json={**body, "logprobs": 2})
        if answered.status_code != 200:
            raise click.ClickException(f"a request alone was answered with {answered.status_code}: {answered.text}")
        found = answered.json()
        (choice,) = found["choices"]
        if not is_clear(choice["logprobs"]["top_logprobs"]):
            return None
        return Answer(choice["text"], found["usage"]["completion_tokens"], choice["finish_reason"])

    def sample(self) -> Sample:
        """Its memory, and what `/metrics` says."""
        waiting, running, used = read_metrics(self.get("/metrics").text)
        return Sample(time.monotonic(), self._memory.memory_info().rss, waiting, running, used)

    def until_empty(self) -> Sample:
        """The first sample in which nothing is left, or the last one before patience ends."""
        end = time.monotonic() + EMPTY_SECONDS
        while True:
            sample = self.sample()
            if not (sample.waiting or sample.running or sample.kv_used) or time.monotonic() > end:
                return sample
            time.sleep(0.1)

    @property
    def healthy(self) -> bool:
        return self.get("/health").status_code == 200

    def stop(self) -> int:
        """Tell it to end, with SIGTERM; its exit code."""
        return _end(self.process)


def read_metrics(text: str) -> tuple[int, int, float]:
    """How many wait and run, and the share of blocks or slots in use, from Prometheus' text format."""
    values = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    return (
        int(values["vllm:num_requests_waiting"]),
        int(values["vllm:num_requests_running"]),
        values["vllm:kv_cache_usage_perc"],
    )


@contextmanager
def served(arguments: Sequence[str], folder: Path) -> Iterator[Server]:
    """A server on a free port; its output goes to a file in the folder."""
    program = str(find_root(Path(__file__)) / "scripts" / "serve.py")
    log = folder / "server.log"
    with log.open("wb") as output:
        process = _start([sys.executable, program, "--port", "0", *arguments], output, _environment())
    try:
        yield Server(process, log)
    finally:
        _end(process)


def ask_with_locust(
    server: Server, plan: dict[str, Any], clients: int, seconds: int, folder: Path, look: Callable[[Sample], None]
) -> tuple[str, int]:
    """Have locust carry out a plan, and look at the server meanwhile; its records, and how many requests it has counted itself.

    Args:
        plan: see `served_locustfile`; where its records are is added.
        clients: locust's users; 1 in an open loop.
        seconds: for which requests are sent. All that are open then are waited for.
        look: called with each sample.
    Raises:
        ClickException: if locust or the server fails.
    """
    records, counts, log = folder / "records.jsonl", folder / "counts", folder / "locust.log"
    (folder / "plan.json").write_text(json.dumps({**plan, "records": str(records)}), encoding="utf-8")
    users = ["--users", str(clients), "--spawn-rate", str(clients)]
    times = ["--run-time", f"{seconds}s", "--stop-timeout", "300"]
    quiet = ["--headless", "--only-summary", "--loglevel", "WARNING", "--exit-code-on-error", "0"]
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", server.url, *users, *times, *quiet]
    with log.open("wb") as output:
        environment = {**_environment(), "TINY_LLM_LOAD_PLAN": str(folder / "plan.json")}
        process = _start([*command, "--json-file", str(counts)], output, environment)
    try:
        while process.poll() is None:
            look(server.sample())
            time.sleep(SAMPLE_SECONDS)
    finally:
        process.kill()  # it is still there only if something has failed, or on Ctrl-C
        process.wait()
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        raise click.ClickException(f"locust ended with exit code {process.returncode}:\n{said}")
    counted = json.loads(counts.with_suffix(".json").read_text(encoding="utf-8"))
    return records.read_text(encoding="utf-8"), sum(entry["num_requests"] for entry in counted)


def _environment() -> dict[str, str]:
    paths = [str(Path(tiny_llm_kit.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _start(command: Sequence[str], output: Any, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """In a session of its own: Ctrl-C reaches us alone, and we end it cleanly."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Its exit code after SIGTERM; it is killed if it doesn't end in time."""
    process.terminate()
    try:
        return process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    except BaseException:  # Ctrl-C once more
        process.kill()
        raise
