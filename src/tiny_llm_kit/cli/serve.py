"""`pdm run serve`: an OpenAI-compatible server, for any client and for a browser."""

import socket
from typing import Any

import click
from rich.console import Console

from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.options import (
    Real,
    kernels_option,
    kv_bits_option,
    model_option,
    paged_options,
    paged_sizes,
    refuse,
    speculate_option,
)
from tiny_llm_kit.cli.progress import working
from tiny_llm_kit.cli.server_process import run_server, take_port
from tiny_llm_kit.cli.tables import make_console
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.models.load import LoadedModel, load
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.memory import check_paged, check_slots_fit
from tiny_llm_kit.workloads.paged import PagedSizes, paged_engine

SLOTS = 8
MAX_SEQ_LEN = 2048
"""Tokens, if the model was made for more: memory is set aside for each slot, and the pool has that of all slots."""


@click.command()
@model_option
@click.option(
    "--engine", type=click.Choice(("paged", "slots")), default="paged", show_default=True, help="Week 3's, or week 2's."
)
@click.option(
    "--slots", type=click.IntRange(min=1), default=SLOTS, show_default=True, help="Slots, or the memory of this many."
)
@click.option("--max-seq-len", type=click.IntRange(min=2), help=f"Tokens, prompt and answer.  [default: {MAX_SEQ_LEN} or less]")
@paged_options
@kv_bits_option
@speculate_option
@kernels_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any free one.")
@click.option("--api-key", envvar="TINY_LLM_API_KEY", help="Clients must send it. Better given as $TINY_LLM_API_KEY.")
@click.option("--max-queue", type=click.IntRange(min=1), default=256, show_default=True, help="Most requests that may wait.")
@click.option("--request-timeout", type=Real(0, min_open=True), default=600.0, show_default=True, help="Seconds for an answer.")
@click.option(
    "--step-limit",
    type=Real(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds; a longer step counts as hanging.",
)
@click.option("--drain-timeout", type=Real(min=0), default=30.0, show_default=True, help="Seconds for open answers at the end.")
@click.option("--access-log", is_flag=True, help="Print a line for each request.")
@click.option("--solution", default="ref", show_default=True, help="Whose engine and server: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    engine: str,
    slots: int,
    max_seq_len: int | None,
    kernels: str | None,
    host: str,
    port: int,
    api_key: str | None,
    max_queue: int,
    request_timeout: float,
    step_limit: float,
    drain_timeout: float,
    access_log: bool,
    solution: str,
    **paged: Any,
) -> None:
    """Serve a model to OpenAI clients, and a page with chats to browsers.

    The first SIGTERM or Ctrl-C lets open answers end (--drain-timeout) and takes no new ones; the second ends at once.
    """
    console = make_console()
    if api_key == "":
        raise ValueError("the API key is empty: leave it out to let everybody in")
    answer = import_answer(solution)
    if engine == "slots":
        refuse(engine, **paged)
    sizes = paged_sizes(**paged)
    with take_port(host, port) as taken:
        with working(console, "Loading the model"):
            loaded = load(model, keep_quantized=True if kernels == "course" else None)
            longest = longest_item(loaded, max_seq_len, sizes)
            if engine == "paged":
                check_paged(loaded, [[longest]], [slots], sizes)
            else:
                check_slots_fit(loaded, slots, needed_seq_len([longest]))
            operators = choose_operators(answer, kernels)

            def build() -> Any:
                network = answer.Model(loaded.config, loaded.weights, operators)
                if engine == "paged":
                    return paged_engine(answer, network, [longest], slots, sizes, kernels)
                return answer.ContinuousBatchScheduler(network, slots, max_seq_len=needed_seq_len([longest]))

            thread = answer.EngineThread(build, max_queue=max_queue, step_limit=step_limit)
            thread.start()
            app = answer.create_app(
                thread,
                loaded.name,
                loaded.tokenizer,
                request_type=answer.PagedRequest if engine == "paged" else answer.Request,
                api_key=api_key,
                request_timeout=request_timeout,
            )
        try:
            run_server(
                app,
                taken,
                thread,
                drain_timeout,
                access_log=access_log,
                ready=lambda: announce(console, loaded, taken, api_key),
            )
        finally:
            thread.stop()
    console.print("Stopped.")


def longest_item(loaded: LoadedModel, max_seq_len: int | None, sizes: PagedSizes) -> WorkItem:
    """A stand-in for the longest request that may come; if the pool's size is given, one that fits into it.

    Raises:
        ValueError: if the model was not made for this many tokens.
    """
    most = loaded.config.max_position_embeddings
    if max_seq_len is not None and max_seq_len > most:
        raise ValueError(f"--max-seq-len is {max_seq_len}, and {loaded.name} reads {most} tokens at most")
    room = MAX_SEQ_LEN if sizes.num_blocks is None else sizes.num_blocks * sizes.block_size
    length = max_seq_len or min(most, MAX_SEQ_LEN, room)
    return WorkItem(prompt=(0,) * (length - 1), max_tokens=1)


def announce(console: Console, loaded: LoadedModel, taken: socket.socket, api_key: str | None) -> None:
    """Say that the server is ready, and how to use it: in a browser, from a client, from a shell."""
    host, port = taken.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    key = " -H 'authorization: Bearer …'" if api_key else ""
    lines = [
        f"{loaded.name} is served at {url} (a page for browsers) and {url}/v1 (for OpenAI's clients). For example:",
        f"  curl {url}/v1/chat/completions -H 'content-type: application/json'{key} \\",
        '    -d \'{"messages": [{"role": "user", "content": "Why does it rain?"}], "max_tokens": 60}\'',
        "Ctrl-C or SIGTERM lets open answers end, then stops.",
    ]
    console.print(harmless("\n".join(lines)), markup=False, highlight=False, soft_wrap=True)
