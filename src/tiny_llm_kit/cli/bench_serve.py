"""`pdm run bench-serve`: what the HTTP server costs on top of the engine itself, and how late its streams are."""

import gc
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tiny_llm_kit.bench import serve_report
from tiny_llm_kit.bench.engines import RequestFailed
from tiny_llm_kit.bench.report import TARGET_COLUMNS, Table, as_markdown
from tiny_llm_kit.bench.run import MAX_TRIES
from tiny_llm_kit.bench.serve_report import CostResult
from tiny_llm_kit.bench.server_cost import WAYS, CostRun, ServerCost
from tiny_llm_kit.bench.step_times import measure_step_times
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.options import (
    kernels_option,
    model_option,
    noise_option,
    out_option,
    paged_options,
    paged_sizes,
    seed_type,
)
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import Bar, progress_bar, working
from tiny_llm_kit.cli.tables import make_console, minutes, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.workloads.chosen import chosen_lists
from tiny_llm_kit.workloads.memory import check_paged
from tiny_llm_kit.workloads.paged import paged_engine

MOST_STREAMS = 256
"""At once: the server's queue must hold them, and each is a connection."""
NOTE = (
    "generate: all requests are submitted to the engine, which is stepped until they have ended. server: each is a stream of"
    " /v1/completions, all asked for at once. Process, client, others: shares of the machine's CPU; the client is a process of"
    " its own, which only notes the time of what comes. CPU per token is the process's. A token is there at the end of its step"
    " in the event log; bytes are there when the client has them, by a clock that both processes share. Steps: median steps of"
    " the run. The loop is asked to call back after 10 ms, all the time."
)


@click.command()
@model_option
@click.option("--requests", type=click.IntRange(1, MOST_STREAMS), default=32, show_default=True, help="From heavy-tail.")
@click.option("--seed", type=seed_type, help="Another list of requests.")
@click.option(
    "--slots", type=click.IntRange(min=1), default=8, show_default=True, help="The pool has the memory of this many slots."
)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Quiet runs of each way.")
@paged_options
@kernels_option
@noise_option
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engine and server: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    requests: int,
    seed: int | None,
    slots: int,
    repeats: int,
    kernels: str | None,
    noise: float,
    out: Path,
    solution: str,
    **paged: Any,
) -> None:
    """Measure what the server of `pdm run serve` costs: tokens per second compared with the engine's own, and how late streams
    are.

    heavy-tail's requests are served by the engine itself and, as concurrent streams, by the server, in turn.

    A run during which other programs had more than --noise of the CPU is repeated, and does not count. Close what you can
    before you start; first it says how long it will take.
    """
    console = make_console()
    answer = import_answer(solution)
    sizes = paged_sizes(**paged)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=True if kernels == "course" else None)
        (items,) = chosen_lists(["heavy-tail"], loaded.tokenizer, [seed], requests).values()
        check_paged(loaded, [items], [slots], sizes)
        operators = choose_operators(answer, kernels)
    with working(console, "Timing a few steps"):
        times = measure_step_times(answer, answer.Model(loaded.config, loaded.weights, operators), slots)
    seconds = times.continuous(sum(len(item.prompt) for item in items), [item.max_tokens for item in items])
    console.print(f"On this machine, this will take about {minutes(len(WAYS) * repeats * seconds)}.", highlight=False)
    gc.freeze()  # as in `bench`

    def build() -> Any:
        network = answer.Model(loaded.config, loaded.weights, operators)
        return paged_engine(answer, network, items, slots, sizes, kernels, time.monotonic)

    cost = ServerCost(answer, loaded, items, build, noise)
    try:
        with progress_bar(console, "quiet runs", total=len(WAYS) * repeats) as bar:
            result = CostResult([run for _ in range(repeats) for way in WAYS for run in _tries(bar, cost, way)])
    except RequestFailed as error:
        raise click.ClickException(harmless(str(error))) from None

    goals = serve_report.targets(result)
    tables = [
        Table(
            f"{harmless(loaded.name)}, heavy-tail: {len(items)} requests",
            serve_report.COST_COLUMNS,
            serve_report.cost_rows(result),
        ),
        Table("delays", serve_report.DELAY_COLUMNS, serve_report.delay_rows(result)),
        Table("targets", TARGET_COLUMNS, [goal.row() for goal in goals]),
    ]
    for table in tables:
        console.print(plain_table(table.title, table.columns, table.rows))
    console.print(NOTE, highlight=False)
    document = {
        "machine": describe_machine(),
        "model": loaded.name,
        "kernels": kernels,
        "workload": {"name": "heavy-tail", "requests": len(items), "seed": seed},
        "slots": slots,
        "sizes": asdict(sizes),
        "repeats": repeats,
        "targets": [goal.as_json() for goal in goals],
        "results": serve_report.as_json(result),
    }
    text = as_markdown(tables, NOTE)
    write_results(console, out, "serve", document, text)
    if any(not result.of(way) for way in WAYS):
        raise click.ClickException("a way had no quiet run and so has no result: close other programs, and run again")


def _tries(bar: Bar, cost: ServerCost, way: str) -> list[CostRun]:
    """Runs up to the first quiet one, or as many as are tried."""
    runs: list[CostRun] = []
    while not runs or (runs[-1].noisy and len(runs) < MAX_TRIES):
        bar.describe(f"{way}: quiet runs")
        run = cost.run(way)
        runs.append(run)
        others = f"others had {run.meter.others:.0%} of the CPU: not counted" if run.noisy else f"others {run.meter.others:.1%}"
        client = f", the client {run.meter.helper_cpu:.1%}" if run.streams else ""
        bar.print(f"{way:>9}  {run.tokens_per_second:6.1f} tokens/s  ({others}{client})")
    if not runs[-1].noisy:
        bar.advance()
    return runs
