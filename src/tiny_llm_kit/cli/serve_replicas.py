"""`pdm run serve-replicas`: several engines behind one address, on Ray Serve."""

import signal
import threading
from functools import partial
from typing import Any

import click

from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.options import Real, model_option, paged_options, paged_sizes
from tiny_llm_kit.cli.progress import working
from tiny_llm_kit.cli.ray_session import ray_session
from tiny_llm_kit.cli.serve import longest_item
from tiny_llm_kit.cli.server_process import take_port
from tiny_llm_kit.cli.tables import make_console
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.memory import check_paged
from tiny_llm_kit.workloads.paged import PagedSizes, paged_engine

ROUTERS = ("ConsistentHash", "LeastTokens", "PowerOfTwoChoices", "PrefixAware", "RoundRobin")


@click.command()
@model_option
@click.option("--replicas", type=click.IntRange(1, 64), default=2, show_default=True, help="Engines, each in its own process.")
@click.option("--router", type=click.Choice(ROUTERS), default="PrefixAware", show_default=True, help="Which of them is asked.")
@click.option(
    "--slots", type=click.IntRange(min=1), default=8, show_default=True, help="A replica has the memory of this many slots."
)
@click.option("--max-seq-len", type=click.IntRange(min=2), help="Tokens, prompt and answer.  [default: 2048 or less]")
@paged_options
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--api-key", envvar="TINY_LLM_API_KEY", help="Clients must send it. Better given as $TINY_LLM_API_KEY.")
@click.option("--request-timeout", type=Real(0, min_open=True), default=600.0, show_default=True, help="Seconds for an answer.")
@click.option("--solution", default="ref", show_default=True, help="Whose engine, server and routers: ref, or tiny_llm.")
@ends_politely()
def main(
    model: str | None,
    replicas: int,
    router: str,
    slots: int,
    max_seq_len: int | None,
    host: str,
    port: int,
    api_key: str | None,
    request_timeout: float,
    solution: str,
    **paged: int | None,
) -> None:
    """Serve a model with several engines. If one of them dies, another continues its answers, and Ray starts a new one.

    Needs Ray: `pdm run setup-replicas`. Clients see what `pdm run serve` shows them, except for logit_bias, logprobs and
    response_format, which replicas do not support.
    """
    console = make_console()
    answer = import_answer(solution)
    sizes = paged_sizes(**paged)
    with take_port(host, port):  # a taken port is reported at once, and not by Ray after a minute
        pass
    loaded = load(model)
    longest = longest_item(loaded, max_seq_len, sizes)
    check_paged(loaded, [[longest]], [slots], sizes)
    length = len(longest.prompt) + longest.max_tokens
    app = partial(make_app, solution, loaded.name, loaded.tokenizer, length, api_key, request_timeout)
    name = loaded.name
    del loaded  # each replica loads its own
    with ray_session(replicas, host, port) as serve:
        with working(console, f"Starting {replicas} replicas"):
            build = partial(build_engine, solution, model, longest, slots, sizes)
            serve.run(answer.deploy(build, app, replicas=replicas, router=router), name="tiny-llm")
        console.print(f"{name} is served by {replicas} replicas at http://{host}:{port}/v1. Ctrl-C or SIGTERM ends them.")
        wait_for_signal()
    console.print("Stopped.")


def build_engine(solution: str, model: str | None, longest: WorkItem, slots: int, sizes: PagedSizes) -> tuple[Any, Tokenizer]:
    """An engine and its tokenizer, in the process of a replica."""
    answer, loaded = import_answer(solution), load(model)
    network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, None))
    return paged_engine(answer, network, [longest], slots, sizes, None), loaded.tokenizer


def make_app(
    solution: str,
    model_name: str,
    tokenizer: Tokenizer,
    max_seq_len: int,
    api_key: str | None,
    request_timeout: float,
    engine: Any,
) -> Any:
    """The app of day 6 in front of the replicas, in a process of its own."""
    app = import_answer(solution).create_app
    return app(engine, model_name, tokenizer, max_seq_len=max_seq_len, api_key=api_key, request_timeout=request_timeout)


def wait_for_signal() -> None:
    """Until SIGTERM; Ctrl-C raises KeyboardInterrupt, which ends the program as politely."""
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        told.wait()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
