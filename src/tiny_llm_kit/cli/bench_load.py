"""`pdm run bench-load`: requests that come at rising rates, until each schedule breaks its service level objective."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from tiny_llm_kit.bench import load_report
from tiny_llm_kit.bench.engines import RequestFailed
from tiny_llm_kit.bench.fits import fit_as_json, load_fit
from tiny_llm_kit.bench.load_test import KEPT, LoadTest, Point, climbing_rates
from tiny_llm_kit.bench.report import Table, as_markdown
from tiny_llm_kit.bench.serving import SCHEDULES, ServingOptions
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.load_sweep import Sweep
from tiny_llm_kit.cli.options import (
    MOST_REQUESTS,
    Real,
    kernels_option,
    model_option,
    noise_option,
    out_option,
    paged_options,
    paged_sizes,
    refuse,
    seed_type,
    simulate_option,
    trace_files,
    trace_option,
)
from tiny_llm_kit.cli.outputs import check_apart, write_results
from tiny_llm_kit.cli.progress import progress_bar, working
from tiny_llm_kit.cli.tables import make_console, minutes, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.timeline.files import write_trace
from tiny_llm_kit.workloads.chosen import choose_seeds, chosen_lists
from tiny_llm_kit.workloads.items import needed_seq_len
from tiny_llm_kit.workloads.lists import WORKLOADS
from tiny_llm_kit.workloads.memory import check_paged, check_slots_fit

REQUESTS = 24
LEAST_RATE = 1e-6


class Rates(click.ParamType):
    """A list of request rates, with commas between them."""

    name = "R,R,…"

    def convert(self, value: str | list[float], param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if isinstance(value, list):
            return value
        try:
            rates = sorted({float(part) for part in value.split(",")})
        except ValueError:
            self.fail(f"{value!r} is not a list of rates such as 0.5,1,2", param, ctx)
        if not all(LEAST_RATE <= rate < float("inf") for rate in rates):
            self.fail(
                f"{value!r} holds a rate that is not a number above 0: give requests per second from {LEAST_RATE:g} on",
                param,
                ctx,
            )
        return rates


_above_zero = Real(min=0, min_open=True)


@click.command()
@model_option
@click.option(
    "--engine", "engines", type=click.Choice(SCHEDULES), multiple=True, help="Only these.  [default: all but sequential]"
)
@click.option("--workload", "workload_name", type=click.Choice(list(WORKLOADS)), default="heavy-tail", show_default=True)
@click.option("--requests", type=click.IntRange(2, MOST_REQUESTS), default=REQUESTS, show_default=True, help="At each rate.")
@click.option("--rates", type=Rates(), help="Requests per second to try.  [default: up, until the SLO breaks]")
@click.option("--slo-ttft", type=_above_zero, default=2.0, show_default=True, help="Most seconds to the first token.")
@click.option("--slo-tpot", type=_above_zero, default=0.25, show_default=True, help="Most seconds per further token.")
@click.option(
    "--burstiness", type=_above_zero, default=1.0, show_default=True, help="1: Poisson; less: bursts; more: steadier."
)
@click.option("--seed", type=seed_type, help="Other arrivals and, where there are such, other requests.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Slots, or rows of a group.")
@click.option("--max-wait", type=Real(min=0), default=0.5, show_default=True, help="dynamic: seconds until a group starts.")
@click.option("--prefill-step", type=click.IntRange(min=1), default=128, show_default=True, help="Prompt tokens per step.")
@click.option("--closed-loop", type=click.IntRange(min=1), metavar="CLIENTS", help="Also with clients that wait for answers.")
@simulate_option
@paged_options
@kernels_option
@noise_option
@trace_option
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engines: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    engines: tuple[str, ...],
    workload_name: str,
    requests: int,
    rates: list[float] | None,
    slo_ttft: float,
    slo_tpot: float,
    burstiness: float,
    seed: int | None,
    batch_size: int,
    max_wait: float,
    prefill_step: int,
    closed_loop: int | None,
    simulate: Path | None,
    kernels: str | None,
    noise: float,
    trace: Path | None,
    out: Path,
    solution: str,
    **sizes: int | None,
) -> None:
    """Offer requests at rising rates, in an open loop, until each schedule breaks its service level objective (SLO).

    The SLO is broken when fewer than 90 % of the requests keep to both limits. Without --rates the first rate is 40 % of what
    `continuous` can serve, and each further one 1.5 times as much. static takes the waiting requests when its last group is
    over.

    A run during which other programs had more than --noise of the CPU is repeated, and marked if every try was noisy. It takes
    about eight minutes on two cores.
    """
    console = make_console()
    chosen_seeds = choose_seeds([workload_name], [] if seed is None else [seed], None)
    wanted = [name for name in SCHEDULES if name in engines] if engines else list(SCHEDULES[1:])
    if "paged" not in wanted:
        refuse(wanted[-1], **sizes)
    answer = import_answer(solution)
    check_apart({"--simulate": simulate, **trace_files(trace)})
    cost = load_fit(answer, simulate) if simulate else None
    slo = answer.Slo(slo_ttft, slo_tpot)
    options = ServingOptions(batch_size, prefill_step, max_wait, paged_sizes(**sizes), kernels)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=False)
        (items,) = chosen_lists([workload_name], loaded.tokenizer, chosen_seeds, requests).values()
        check_slots_fit(loaded, batch_size, 2 * needed_seq_len(items))  # finished rows of a group keep running
        if "paged" in wanted:
            check_paged(loaded, [items], [batch_size], options.sizes)
        network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
    test = LoadTest(answer, network, items, options, slo, burstiness, seed or 0, noise)
    try:
        with working(console, "Measuring what can be served"):
            capacity = test.capacity()
        offered = rates or climbing_rates(capacity)
        loads = [*(min(rate, capacity) for rate in offered), *([capacity] if closed_loop else [])]
        seconds = len(wanted) * sum(len(items) / load for load in loads)
        console.print(
            f"continuous serves {capacity:.2f} requests per second when all are there from the start. This will take about"
            f" {minutes(seconds)}: less where the SLO breaks early, and more where a schedule is slower or a run disturbed.",
            highlight=False,
        )
        with progress_bar(console, "schedules", total=len(wanted)) as bar:
            sweep = Sweep(test, bar, offered, climbing=rates is None, cost=cost, clients=closed_loop)
            found = {schedule: sweep.run(schedule) for schedule in wanted}
    except RequestFailed as error:
        raise click.ClickException(harmless(str(error))) from None

    points = [point for schedule in found.values() for point in schedule]
    highest = load_report.highest_rates(points)
    title = f"{loaded.name}, {workload_name}: {len(items)} requests at each rate, {batch_size} slots"
    promise = f"SLO: TTFT ≤ {slo_ttft:g} s and TPOT ≤ {slo_tpot:g} s for {KEPT:.0%} of the requests"
    tables = [
        Table(title, load_report.LOAD_COLUMNS, load_report.load_rows(points)),
        Table("latencies", load_report.LATENCY_COLUMNS, load_report.latency_rows(points)),
        Table(promise, load_report.RATE_COLUMNS, load_report.rate_rows(highest)),
    ]
    for table in tables:
        console.print(plain_table(table.title, table.columns, table.rows))
    console.print(load_report.NOTE, highlight=False)
    text = as_markdown(tables, load_report.NOTE)
    document = {
        "machine": describe_machine(),
        "model": loaded.name,
        "workload": {"name": workload_name, "requests": len(items), "seed": seed},
        "arrivals": {"burstiness": burstiness, "seed": seed or 0},
        "options": asdict(options),
        "slo": {**asdict(slo), "share": KEPT},
        "capacity_requests_per_second": capacity,
        "simulated": None if cost is None else fit_as_json(cost),
        "highest_rates": highest,
        "points": [point.as_json() for point in points],
    }
    draw = partial(load_report.draw, points, slo, title=title)
    write_results(console, out, "load", document, text, draw)
    if trace:
        write_trace(console, trace, sweep.recorders)
    _complain(console, points, slo_ttft)


def _complain(console: Console, points: Sequence[Point], slo_ttft: float) -> None:
    """What makes figures doubtful: a late generator, and other programs.

    Raises:
        click.ClickException: if other programs had too much of the CPU.
    """
    late = [point for point in points if point.lateness and point.lateness.beyond_p95 > 0.05 * slo_ttft]
    if late:
        worst = max(late, key=lambda point: point.lateness.beyond_p95 if point.lateness else 0.0)
        assert worst.lateness is not None
        console.print(
            f"The generator was late in {len(late)} runs, beyond the steps that it had to wait for: by"
            f" {worst.lateness.beyond_p95:.2f} s (p95) with {worst.schedule}. It offered less than it should have.",
            highlight=False,
        )
    if noisy := [point for point in points if point.noisy]:
        raise click.ClickException(
            f"{len(noisy)} of {len(points)} runs were disturbed by other programs, also when they were tried again, and are"
            " marked: close these, and run again"
        )
