"""`pdm run compare-routers`: routers in front of two real servers, the course's next to vLLM's."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import httpx

from tiny_llm_kit.bench.tenant_chats import (
    COLUMNS,
    KILLED_COLUMNS,
    Counts,
    Killed,
    Measured,
    chats,
    killed_rows,
    rows,
)
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.check_replicas import Asked, ask
from tiny_llm_kit.cli.options import model_option, out_option
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import working
from tiny_llm_kit.cli.router_fronts import TIMEOUT, VLLM_ROUTER, Front, Served, kinds
from tiny_llm_kit.cli.serve import longest_item
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.course.processes import stopped_by_signals
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.workloads.memory import check_paged
from tiny_llm_kit.workloads.paged import PagedSizes

SIZES = PagedSizes(num_blocks=160, max_num_seqs=4)
"""The blocks of each server. The pool holds the system prompts of some seven of the tenants, besides the running requests."""
MAX_SEQ_LEN = 1024
SESSION_HEADER = "X-Session-ID"
"""The header that vllm-router's consistent_hash uses, according to its documentation. The course's router uses `user`."""
AT_ONCE = 4
MAX_TOKENS = 8
KILLED_STREAMS, KILLED_TOKENS = 16, 64
NOTE = (
    "Computed: prompt tokens that were not found in a prefix cache; load: these and the generated tokens, of the busiest of the"
    " two servers over the mean; equal: to the answers of one server. Only counts: how long it took depends on the machine."
)


@click.command()
@model_option
@click.option("--requests", type=click.IntRange(1, 10_000), default=48, show_default=True, help=f"{AT_ONCE} at a time.")
@click.option(
    "--tenants", type=click.IntRange(1, 1000), default=12, show_default=True, help="Each has a system prompt of 300 tokens."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of the list of requests.")
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engine, server and routers: ref, or tiny_llm.")
@ends_politely()
def main(model: str | None, requests: int, tenants: int, seed: int, out: Path, solution: str) -> None:
    """Send the same requests of several tenants to one server, and to two behind each router: how many prompt tokens are
    computed, and how evenly. Then kill one of the two servers (kill -9) mid-stream: what do clients see?

    vLLM's router is in front of two `pdm run serve`; the course's routers are those of `pdm run serve-replicas`. What is not
    installed (vllm-router, Ray) is left out. It takes a minute or two per router.
    """
    console = make_console()
    import_answer(solution)
    bodies = chats(tenants, requests, MAX_TOKENS, seed)
    to_kill = [body | {"max_tokens": KILLED_TOKENS} for body in chats(tenants, KILLED_STREAMS, KILLED_TOKENS, seed + 1)]
    every = kinds()
    for missing in dict.fromkeys(kind.missing for kind in every if kind.missing):
        console.print(f"Left out: {missing}", soft_wrap=True)
    there = [kind for kind in every if not kind.missing]
    if len(there) == 1:
        raise click.ClickException("there is no router to compare: install one of those above")
    loaded = load(model)
    longest = longest_item(loaded, min(MAX_SEQ_LEN, loaded.config.max_position_embeddings), SIZES)
    check_paged(loaded, [[longest]], [1], SIZES)
    served = Served(solution, model, loaded.name, loaded.tokenizer, longest, SIZES)
    del loaded  # each server loads its own
    found: list[Measured] = []
    killed: list[Killed] = []
    right: list[Asked] = []
    right_killed: list[Asked] = []
    with stopped_by_signals():
        for kind in there:
            with working(console, kind.name), kind.opens(served) as front:
                asked = asyncio.run(ask_all(front.url, bodies, AT_ONCE))
                right = right or asked
                found.append(measure(kind.name, settled(front.counts), asked, right))
                if not right_killed:
                    right_killed = asyncio.run(ask_all(front.url, to_kill, AT_ONCE))
                elif kind.killed:
                    killed.append(kill_one(kind.name, front, to_kill, right_killed))

    cells, killed_cells = rows(found), killed_rows(killed)
    title = f"{served.name}, {requests} requests of {tenants} tenants, {AT_ONCE} at a time"
    killed_title = f"a server is killed, when half of {KILLED_STREAMS} streams have begun"
    console.print(plain_table(title, COLUMNS, cells))
    console.print(plain_table(killed_title, KILLED_COLUMNS, killed_cells))
    console.print(NOTE, highlight=False)
    document = {
        "machine": describe_machine(),
        "versions": {name: version(name) for name in (VLLM_ROUTER, "ray")},
        "model": served.name,
        "requests": {"count": requests, "tenants": tenants, "seed": seed, "at_once": AT_ONCE, "max_tokens": MAX_TOKENS},
        "engine": asdict(SIZES),
        "routers": [asdict(one) for one in found],
        "killed": [asdict(one) for one in killed],
    }
    tables = [f"{title}\n\n{markdown(COLUMNS, cells)}", f"{killed_title}\n\n{markdown(KILLED_COLUMNS, killed_cells)}", NOTE]
    write_results(console, out, "routers", document, "\n\n".join(tables))


async def ask_all(
    url: str, bodies: Sequence[dict[str, Any]], at_once: int, kill: Callable[[], None] | None = None
) -> list[Asked]:
    """Ask for all, `at_once` at a time in the order of the list; `kill` is called when half of the streams have begun."""
    asked = [Asked(body) for body in bodies]
    room = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits) as client:

        async def ask_one(one: Asked) -> None:
            async with room:
                await ask(client, f"{url}/v1/completions", one, {SESSION_HEADER: one.body["user"]})

        asking = [asyncio.create_task(ask_one(one)) for one in asked]
        if kill:
            while sum(one.begun for one in asked) < len(asked) // 2 and not all(task.done() for task in asking):
                await asyncio.sleep(0.01)
            kill()
        await asyncio.gather(*asking)
    return asked


def measure(name: str, servers: Sequence[Counts], asked: Sequence[Asked], right: Sequence[Asked]) -> Measured:
    """The figures of one router; `right` are the answers to be compared with."""
    return Measured(name, tuple(servers), len(asked), count_equal(asked, right), sum(not is_whole(one) for one in asked))


def kill_one(name: str, front: Front, bodies: Sequence[dict[str, Any]], right: Sequence[Asked]) -> Killed:
    """Ask for all streams at once, and kill a server in the middle."""
    asked = asyncio.run(ask_all(front.url, bodies, len(bodies), front.kill))
    torn = [one for one in asked if not is_whole(one)]
    begun = sum(one.begun for one in torn)
    return Killed(name, len(asked), count_equal(asked, right), begun, len(torn) - begun)


def is_whole(one: Asked) -> bool:
    """An answer without a finish reason has no end, even if its connection was closed properly."""
    return not one.error and bool(one.finish_reason)


def count_equal(asked: Sequence[Asked], right: Sequence[Asked]) -> int:
    """How many answers are whole and the same, text and finish reason."""
    return sum(
        is_whole(one) and (one.text, one.finish_reason) == (other.text, other.finish_reason)
        for one, other in zip(asked, right, strict=True)
    )


def settled(counts: Callable[[], list[Counts]]) -> list[Counts]:
    """The counts once they no longer change: a client has its last token a moment before the server has counted it."""
    before = counts()
    while True:
        time.sleep(0.5)
        now = counts()
        if now == before:
            return now
        before = now


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
