"""`pdm run simulate`: what an engine would do on another machine, with other requests, or with a million of them."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from tiny_llm_kit.bench.simulation import (
    ENGINES,
    LATENCY_COLUMNS,
    MOST_WAITING,
    Simulated,
    Watch,
    figure_rows,
    latency_rows,
)
from tiny_llm_kit.bench.sketch import RELATIVE_ERROR, RunSketch
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.costs import choose_cost, cost_options
from tiny_llm_kit.cli.options import Real, paged_options, paged_sizes, refuse, seed_type, trace_files, trace_option
from tiny_llm_kit.cli.outputs import OutFile, check_apart, write_json
from tiny_llm_kit.cli.progress import Bar, progress_bar, working
from tiny_llm_kit.cli.tables import make_console, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.shapes import SHAPES, shape
from tiny_llm_kit.timeline import Recorder, write_trace
from tiny_llm_kit.workloads.azure_trace import AzureTrace
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import SEEDED, WORKLOADS, workload
from tiny_llm_kit.workloads.streams import AT_ONCE, arriving, endless

REQUESTS = 1000
SLOTS = 64
MOST_SLOTS = 1_000_000
MOST_SIZE = 10_000_000
_positive = Real(1e-9, 1e9)
_above_zero = click.IntRange(min=1)


@click.command()
@click.option("--workload", "workload_name", type=click.Choice(list(WORKLOADS)), help="Which requests.  [default: heavy-tail]")
@click.option(
    "--trace-in", type=click.Path(path_type=Path), help="Requests from a .csv file in the format of Azure's LLM traces."
)
@click.option("--requests", type=click.IntRange(1, 10**9), help=f"How many.  [default: {REQUESTS}; of a trace, all]")
@click.option(
    "--rate", type=Real(1e-6, 1e9), help="Requests per second, at random.  [default: all at once; of a trace, its own times]"
)
@click.option("--burstiness", type=_positive, help="With --rate: 1 is Poisson, less is burstier.  [default: 1]")
@click.option("--seed", type=seed_type, default=0, show_default=True, help="Seed of the requests and their arrivals.")
@click.option("--engine", type=click.Choice(ENGINES), default="slots", show_default=True, help="What is simulated.")
@click.option("--slots", type=click.IntRange(1, MOST_SLOTS), help=f"Rows of the batch, or of a group.  [default: {SLOTS}]")
@click.option("--prefill-step", type=_above_zero, help="Prompt tokens per step; not for paged.  [default: 128]")
@click.option("--strategy", help="For slots: fifo, shortest-remaining or length-balance.  [default: fifo]")
@click.option("--max-wait", type=Real(0, 1e9), help="For dynamic: seconds until a group starts even if it is not full.")
@paged_options
@cost_options(SHAPES[0])
@click.option("--slo-ttft", type=_positive, help="Goodput: seconds to the first token that users accept.")
@click.option("--slo-tpot", type=_positive, help="Goodput: seconds per output token that they accept.")
@click.option("--json", "json_file", type=OutFile(), help="Write all figures to this file.")
@trace_option
@click.option("--solution", default="ref", show_default=True, help="Whose simulators: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    workload_name: str | None,
    trace_in: Path | None,
    requests: int | None,
    rate: float | None,
    burstiness: float | None,
    seed: int,
    engine: str,
    slots: int | None,
    prefill_step: int | None,
    strategy: str | None,
    max_wait: float | None,
    fit_file: Path | None,
    preset: str | None,
    model: str | None,
    config_file: Path | None,
    bytes_per_weight: float | None,
    slo_ttft: float | None,
    slo_tpot: float | None,
    json_file: Path | None,
    trace: Path | None,
    solution: str,
    **sizes: int | None,
) -> None:
    """Simulate an engine: its own scheduler decides, and a cost model takes the model's place.

    What calls cost comes from a run on this machine (--fit) or from what another machine can do at best (--preset). Requests
    come one by one and are forgotten when they have ended, so there may be a million; percentiles are exact to half a percent.
    Sizes that are not given are the engines' own; the paged engine has the memory of --slots slots.
    """
    console = make_console()
    answer = import_answer(solution)
    inputs = {"--trace-in": trace_in, "--fit": fit_file, "--config": config_file}
    check_apart({**inputs, "--json": json_file, **trace_files(trace)})
    simulated = _engine(engine, slots, prefill_step, strategy, max_wait, sizes, answer)
    cost, about_cost = choose_cost(answer, SHAPES[0], fit_file, preset, model, config_file, bytes_per_weight)
    if burstiness is not None and rate is None:
        raise ValueError("--burstiness is about the gaps between requests that come at a --rate: give that, too")
    if trace_in is None and rate is None and (requests or 0) > MOST_WAITING:
        raise ValueError(f"{requests:,} requests at once would all wait in memory: let them come at a --rate")
    if trace_in is not None and workload_name is not None:
        raise ValueError("--trace-in and --workload both say which requests come: give one of them")
    azure = AzureTrace(trace_in) if trace_in is not None else None
    requests = requests or (None if azure else REQUESTS)
    with working(console, "Reading the requests"):
        items = iter(azure) if azure else _requests(workload_name or "heavy-tail", seed, min(AT_ONCE, requests or AT_ONCE))
        items = islice(items, requests)
        if rate is not None:
            items = arriving(answer, items, rate, burstiness or 1.0, seed)
        sample = list(islice(items, AT_ONCE))
    if not sample:
        raise ValueError(f"{str(trace_in)!r} holds no request whose answer has a token")
    slo = _slo(answer, slo_ttft, slo_tpot)
    sketch = RunSketch(answer, slo)
    paged = engine == "paged"
    block_tokens = simulated.sizes.block_size if paged else None
    lanes = None if paged else simulated.rows
    recorder = Recorder(engine, lanes, block_size=block_tokens, launch_waits=cost.launch_waits)
    started = time.perf_counter()
    with progress_bar(console, "simulating", total=requests) as bar:
        watch = Watch(sketch, partial(_show, bar, started))
        readers = [sketch.read, watch.read, *([recorder.read] if trace else [])]
        simulated.run(answer, watch.coming(chain(sample, items)), sample, cost, readers=readers, wanted=sketch.wanted)
    seconds = time.perf_counter() - started

    summary = sketch.summary()
    source = str(trace_in) if trace_in else workload_name or "heavy-tail"
    title = f"{engine}, {simulated.rows} rows, {source}, {about_cost['words']}"
    console.print(plain_table(harmless(title), ["", "simulated"], figure_rows(summary, sketch)))
    console.print(plain_table("latencies", LATENCY_COLUMNS, latency_rows(summary)))
    steps = sketch.recorder.steps
    speed = f"{steps:,} steps in {seconds:.1f} s: {steps / seconds:,.0f} steps per second."
    console.print(f"{speed} Percentiles are exact to {RELATIVE_ERROR:.1%}.", highlight=False)
    if azure is not None and azure.left_out:
        console.print(f"{azure.left_out:,} lines were left out: their answers have no token.", highlight=False)
    if json_file is not None:
        document = {
            "machine": describe_machine(),
            "cost": about_cost,
            "engine": asdict(simulated),
            "requests": {"source": source, "seed": seed, "rate": rate, "burstiness": burstiness},
            "slo": {"ttft": slo_ttft, "tpot": slo_tpot},
            "summary": asdict(summary) | {"inter_token": None},  # a simulation has none
            "relative_error": RELATIVE_ERROR,
            "preemptions": sketch.preemptions,
            "steps": steps,
            "seconds": seconds,
        }
        write_json(json_file, document)
        console.print(harmless(f"Written: {json_file}"), markup=False, highlight=False, soft_wrap=True)
    if trace:
        write_trace(console, trace, [recorder])


def _requests(name: str, seed: int, at_once: int) -> Iterator[WorkItem]:
    """Requests of a workload without end: one list of this many after another."""
    if name in SEEDED:
        yield from endless(partial(WORKLOADS[name], shape(SHAPES[0]).vocab_size), seed, at_once)
    items = workload(name, load(keep_quantized=True).tokenizer)
    while True:
        yield from items


def _engine(
    engine: str,
    slots: int | None,
    prefill_step: int | None,
    strategy: str | None,
    max_wait: float | None,
    sizes: dict[str, int | None],
    answer: ModuleType,
) -> Simulated:
    """What is simulated; options that mean nothing to it are refused."""
    if engine == "paged":
        refuse(engine, prefill_step=prefill_step)
    else:
        refuse(engine, **sizes)
    if engine == "sequential":
        refuse(engine, slots=slots)
    if engine not in ("slots", "sequential"):
        refuse(engine, strategy=strategy)
    if engine != "dynamic":
        refuse(engine, max_wait=max_wait)
    if strategy is not None and strategy not in answer.STRATEGIES:
        raise ValueError(f"there is no strategy {strategy!r}: choose one of {', '.join(answer.STRATEGIES)}")
    paged = paged_sizes(**sizes)
    paged.check()
    for name, size in asdict(paged).items():
        if size is not None and size > MOST_SIZE:
            raise ValueError(f"--{name.replace('_', '-')} is {size}: nothing larger than {MOST_SIZE:,} is simulated")
    return Simulated(engine, slots or SLOTS, prefill_step or 128, strategy or "fifo", max_wait or 0.0, paged)


def _slo(answer: ModuleType, ttft: float | None, tpot: float | None) -> Any:
    if ttft is None and tpot is None:
        return None
    return answer.Slo(float("inf") if ttft is None else ttft, float("inf") if tpot is None else tpot)


def _show(bar: Bar, started: float, finished: int, seconds: float, steps: int) -> None:
    speed = steps / max(time.perf_counter() - started, 1e-9)
    bar.describe(f"simulated {seconds:,.0f} s, {speed:,.0f} steps/s")
    bar.reach(finished)
