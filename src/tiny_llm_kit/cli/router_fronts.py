"""Servers as processes, and what can be in front of them: nothing, vLLM's router, or Ray Serve with one of the course's
routers."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click
import httpx

from tiny_llm_kit.bench.tenant_chats import Counts, read_counts
from tiny_llm_kit.cli.answers import import_answer
from tiny_llm_kit.cli.check_replicas import HOST, replica_pids
from tiny_llm_kit.cli.ray_session import NOT_INSTALLED, ray_session
from tiny_llm_kit.cli.serve_replicas import build_engine, make_app
from tiny_llm_kit.cli.server_process import take_port
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.paged import PagedSizes

VLLM_ROUTER = "vllm-router"
NO_VLLM_ROUTER = "vllm-router is not installed: run `pipx install vllm-router==0.1.17`"
SERVERS = 2
STARTING_SECONDS = 180.0
TIMEOUT = 600.0


@dataclass(frozen=True)
class Served:
    """What each server serves, whatever is in front of it. `model`: as --model; `longest`: the longest request that may
    come."""

    solution: str
    model: str | None
    name: str
    tokenizer: Tokenizer
    longest: WorkItem
    sizes: PagedSizes

    @property
    def max_seq_len(self) -> int:
        return len(self.longest.prompt) + self.longest.max_tokens


@dataclass(frozen=True)
class Front:
    """An address to ask, what each server behind it has counted, and a way to kill one of them (kill -9)."""

    url: str
    counts: Callable[[], list[Counts]]
    kill: Callable[[], None]


class OpensFront(Protocol):
    def __call__(self, served: Served) -> contextlib.AbstractContextManager[Front]: ...


@dataclass(frozen=True)
class Kind:
    """A kind of front. missing: says what has to be installed for it; None if nothing has. killed: whether to try killing one,
    too."""

    name: str
    opens: OpensFront
    missing: str | None = None
    killed: bool = False


def kinds() -> list[Kind]:
    """All of them; the first is the one that others are compared with."""
    vllm = None if shutil.which(VLLM_ROUTER) else NO_VLLM_ROUTER
    ray = None if importlib.util.find_spec("ray") else NOT_INSTALLED
    return [
        Kind("one server", alone),
        Kind("vllm-router round_robin", partial(behind_vllm_router, "round_robin"), vllm, killed=True),
        Kind("vllm-router consistent_hash", partial(behind_vllm_router, "consistent_hash"), vllm),
        Kind("vllm-router cache_aware", partial(behind_vllm_router, "cache_aware"), vllm),
        Kind("serve-replicas RoundRobin", partial(on_ray, "RoundRobin"), ray, killed=True),
        Kind("serve-replicas ConsistentHash", partial(on_ray, "ConsistentHash"), ray),
        Kind("serve-replicas PrefixAware", partial(on_ray, "PrefixAware"), ray),
    ]


@contextlib.contextmanager
def alone(served: Served) -> Iterator[Front]:
    """One `pdm run serve`."""
    with _servers(served, 1) as front:
        yield front


@contextlib.contextmanager
def behind_vllm_router(policy: str, served: Served) -> Iterator[Front]:
    """vLLM's router with one of its policies in front of two `pdm run serve`; its other options have their defaults."""
    port, port_of_metrics = _free_port(), _free_port()
    with _servers(served, SERVERS) as servers:
        urls = servers.url.split()
        command = [VLLM_ROUTER, "--worker-urls", *urls, "--policy", policy]
        command += ["--host", HOST, "--port", str(port), "--prometheus-port", str(port_of_metrics)]
        with answering_process(command, _url(port)):
            yield Front(_url(port), servers.counts, servers.kill)


@contextlib.contextmanager
def on_ray(router: str, served: Served) -> Iterator[Front]:
    """`pdm run serve-replicas`, except that each replica writes its counts to a file: its app is not asked for metrics."""
    port = _free_port()
    app = partial(make_app, served.solution, served.name, served.tokenizer, served.max_seq_len, None, TIMEOUT)
    with tempfile.TemporaryDirectory() as folder, ray_session(SERVERS, HOST, port) as serve:
        engine = partial(build_engine, served.solution, served.model, served.longest, 1, served.sizes)
        build = partial(build_counted, Path(folder), engine)
        serve.run(import_answer(served.solution).deploy(build, app, replicas=SERVERS, router=router), name="tiny-llm")
        yield Front(_url(port), partial(_written_counts, Path(folder)), lambda: os.kill(replica_pids()[0], signal.SIGKILL))


def build_counted(folder: Path, build: Callable[[], tuple[Any, Tokenizer]]) -> tuple[Any, Tokenizer]:
    """What `build` makes; after each step the engine's counts are in a file of this process."""
    engine, tokenizer = build()
    path = folder / f"{os.getpid()}.json"
    generated = 0

    def write(state: Any = None) -> None:
        nonlocal generated
        generated += state.new_tokens if state else 0  # the engine's own metrics have these a moment later
        new = path.with_suffix(".new")
        new.write_text(json.dumps([engine.metrics.prefix_cache_queries, engine.metrics.prefix_cache_hits, generated]))
        new.replace(path)  # complete at any moment

    write()
    engine.event_log.readers.append(write)
    return engine, tokenizer


def _written_counts(folder: Path) -> list[Counts]:
    return [Counts(*json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


@contextlib.contextmanager
def _servers(served: Served, count: int) -> Iterator[Front]:
    """This many `pdm run serve`; `url` has all of their addresses."""
    ports = [_free_port() for _ in range(count)]
    sizes = served.sizes
    command = [sys.executable, str(find_root() / "scripts" / "serve.py"), "--solution", served.solution, "--host", HOST]
    command += ["--max-seq-len", str(served.max_seq_len), "--num-blocks", str(sizes.num_blocks)]
    command += ["--block-size", str(sizes.block_size), "--max-num-seqs", str(sizes.max_num_seqs)]
    command += ["--max-num-batched-tokens", str(sizes.max_num_batched_tokens)]
    command += ["--model", served.model] if served.model else []
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(answering_process([*command, "--port", str(port)], _url(port))) for port in ports]
        urls = [_url(port) for port in ports]

        def counts() -> list[Counts]:
            return [read_counts(httpx.get(f"{url}/metrics", timeout=TIMEOUT).text) for url in urls]

        yield Front(" ".join(urls), counts, processes[0].kill)


@contextlib.contextmanager
def answering_process(command: Sequence[str], url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that answers at `url`/health; it is stopped at the end.

    Raises:
        ClickException: with what it said, if it ends instead or does not answer.
    """
    environment = {**os.environ, "PYTHONPATH": str(find_root() / "src")}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            if not _answers(process, url):
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise click.ClickException(f"{Path(command[0]).name} did not start: {said[-2000:]}")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(process: "subprocess.Popen[bytes]", url: str) -> bool:
    deadline = time.perf_counter() + STARTING_SECONDS
    while time.perf_counter() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").status_code == 200:
                return True
        time.sleep(0.1)
    return False


def _free_port() -> int:
    with take_port(HOST, 0) as taken:
        return int(taken.getsockname()[1])


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"
