"""`pdm run check-replicas`: two replicas on Ray Serve, one is killed mid-stream, and every answer is complete.

It is the step `replicas` of `pdm run check`, and needs Ray.
"""

import asyncio
import importlib.util
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
import psutil
from rich.console import Console

from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.options import OutFolder
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import working
from tiny_llm_kit.cli.ray_session import NOT_INSTALLED, ray_session
from tiny_llm_kit.cli.serve_replicas import make_app
from tiny_llm_kit.cli.server_process import take_port
from tiny_llm_kit.cli.tables import make_console, markdown
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config
from tiny_llm_kit.models.tokenizer import Tokenizer

HOST = "127.0.0.1"
MAX_SEQ_LEN = 256
REPLICA = "EngineDeployment"
COLUMNS = ("answers that were complete and equal", "when the replica was killed", "all answers")
BACK_SECONDS = 60.0
"""Seconds within which another replica should serve in place of the one that was killed."""


@dataclass
class Asked:
    """One request, what it got, and what it should have got."""

    body: dict[str, Any]
    text: str = ""
    finish_reason: str = ""
    error: str = ""
    begun: bool = False


@dataclass(frozen=True)
class Outcome:
    """`right` of `requests` were complete and equal; a replica was killed when this many had `begun` and `ended`."""

    requests: int
    replicas: int
    right: int
    begun: int
    ended: int
    seconds: float
    replaced: bool


@click.command()
@click.option("--requests", type=click.IntRange(2, 2000), default=200, show_default=True, help="All at the same time.")
@click.option("--replicas", type=click.IntRange(2, 16), default=2, show_default=True)
@click.option("--solution", default="ref", show_default=True, help="Whose engine, server and routers: ref, or tiny_llm.")
@click.option("--out", type=OutFolder(), help="Write what came of it to this folder, as JSON and Markdown.")
@ends_politely()
def main(requests: int, replicas: int, solution: str, out: Path | None) -> None:
    """Replicas of a tiny random model on Ray Serve answer many requests at once, and one replica is killed (kill -9)
    mid-stream. Every answer must be complete, and the one that the request gets alone.

    Without Ray (`pdm run setup-replicas`) it says that it was skipped, and ends with exit code 0.
    """
    console = make_console()
    if importlib.util.find_spec("ray") is None:
        console.print(f"skipped: {NOT_INSTALLED}", soft_wrap=True)
        return
    answer = import_answer(solution)
    asked = [Asked(body_of(number)) for number in range(requests)]
    with take_port(HOST, 0) as taken:
        port = taken.getsockname()[1]
    with ray_session(replicas, HOST, port) as serve:
        with working(console, f"Starting {replicas} replicas"):
            app = partial(make_app, solution, "tiny-random", ByteTokenizer(), MAX_SEQ_LEN, None, 300.0)
            serve.run(answer.deploy(partial(build_tiny, solution), app, replicas=replicas), name="tiny-llm")
        with working(console, f"{requests} requests at once, and a replica is killed"):
            killed, seconds = asyncio.run(ask_all(f"http://{HOST}:{port}/v1/completions", asked))
        with working(console, "Waiting for Ray to replace it"):
            back = wait_for_replicas(replicas, killed)
    with working(console, "The same requests, each alone"):
        engine, tokenizer = build_tiny(solution)
        wrong = [one for one in asked if not is_right(answer, engine, tokenizer, one)]
    for one in wrong[:3]:
        console.print(f"wrong: {one}", markup=False)
    console.print(
        f"{requests - len(wrong)} of {requests} answers are complete, and those that the request gets alone;"
        f" {seconds:.1f} s; a replica was killed when {killed.begun} answers had begun and {killed.ended} had ended;"
        f" {'another' if back else 'NO other'} replica has taken its place",
        soft_wrap=True,
    )
    if out:
        _write(console, out, Outcome(requests, replicas, requests - len(wrong), killed.begun, killed.ended, seconds, back))
    sys.exit(0 if not wrong and back else 1)


def _write(console: Console, out: Path, outcome: Outcome) -> None:
    row = [
        f"{outcome.right} of {outcome.requests}",
        f"{outcome.begun} had begun, {outcome.ended} had ended",
        f"{outcome.seconds:.1f} s",
    ]
    document = {"machine": describe_machine(), "versions": {"ray": version("ray")}, "outcome": asdict(outcome)}
    write_results(console, out, "failover", document, markdown(COLUMNS, [row]))


def build_tiny(solution: str) -> tuple[Any, Tokenizer]:
    """An engine of a tiny random model."""
    answer = import_answer(solution)
    config = tiny_config()
    network = answer.Model(config, random_weights(config), answer.OPERATORS["arrays"])
    return answer.Engine(network, num_blocks=1024, block_size=16, max_seq_len=MAX_SEQ_LEN), ByteTokenizer()


def body_of(number: int) -> dict[str, Any]:
    """Every kind of request: greedy, drawn and penalized, some with a stop string, some with a prefix that others share."""
    random = np.random.default_rng(number)
    prompt = [*b"You are a helpful assistant. "] if number % 3 else []
    prompt += random.integers(32, 127, 4 + number % 20).tolist()
    body = {"prompt": prompt, "max_tokens": 24 + number % 40, "temperature": 0, "seed": number, "stream": True}
    body |= {"temperature": 1.0, "top_p": 0.9} if number % 2 else {}
    body |= {"repetition_penalty": 1.3} if number % 5 == 0 else {}
    body |= {"stop": ["e", "ou"]} if number % 7 == 0 else {}
    return body


@dataclass(frozen=True)
class Killed:
    """Which process was killed, and when: how many answers had begun, and how many had ended."""

    pid: int
    begun: int
    ended: int


async def ask_all(url: str, asked: list[Asked]) -> tuple[Killed, float]:
    """Ask for everything at once, and kill a replica when a quarter has begun; the seconds that it took."""
    begin = time.perf_counter()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=300, limits=limits) as client:
        asking = [asyncio.create_task(ask(client, url, one)) for one in asked]
        while sum(one.begun for one in asked) < len(asked) // 4 and not all(task.done() for task in asking):
            await asyncio.sleep(0.01)
        killed = Killed(replica_pids()[0], sum(one.begun for one in asked), sum(task.done() for task in asking))
        os.kill(killed.pid, signal.SIGKILL)
        await asyncio.gather(*asking)
    return killed, time.perf_counter() - begin


async def ask(client: httpx.AsyncClient, url: str, one: Asked, headers: dict[str, str] | None = None) -> None:
    """Read one stream; what goes wrong is noted."""
    try:
        async with client.stream("POST", url, json=one.body, headers=headers) as response:
            if response.status_code != 200:
                one.error = f"{response.status_code}: {(await response.aread()).decode()}"
                return
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    note(one, json.loads(line.removeprefix("data: ")))
    except httpx.HTTPError as error:
        one.error = repr(error)


def note(one: Asked, event: dict[str, Any]) -> None:
    if "error" in event:
        one.error = str(event["error"])
    for choice in event.get("choices", []):
        one.begun = True
        one.text += choice["text"]
        one.finish_reason = choice["finish_reason"] or one.finish_reason


def is_right(answer: Any, engine: Any, tokenizer: Tokenizer, one: Asked) -> bool:
    """Whether it got what an engine that has nothing else to do makes of it."""
    names = ("temperature", "seed", "top_p", "repetition_penalty")
    sampling = answer.SamplingParams(**{name: one.body[name] for name in names if name in one.body})
    (alone,) = engine.generate(
        [one.body["prompt"]], one.body["max_tokens"], tokenizer, sampling=sampling, stop=one.body.get("stop", [])
    )
    return not one.error and (one.text, one.finish_reason) == (alone.text, alone.finish_reason)


def replica_pids() -> list[int]:
    """The processes of the replicas, which Ray has named so."""
    own = psutil.Process().children(recursive=True)
    return [process.pid for process in own if f"ServeReplica:tiny-llm:{REPLICA}" in " ".join(_command(process))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended in the meantime
        return []


def wait_for_replicas(count: int, killed: Killed) -> bool:
    """Whether there are as many as before, without the one that was killed."""
    deadline = time.perf_counter() + BACK_SECONDS
    while time.perf_counter() < deadline:
        if len(set(replica_pids()) - {killed.pid}) >= count:
            return True
        time.sleep(0.2)
    return False
