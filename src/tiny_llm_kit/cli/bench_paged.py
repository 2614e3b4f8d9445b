"""`pdm run bench-paged`: the paged engine next to the slot engine and mlx-lm, and what its steps cost."""

import gc
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console

from tiny_llm_kit.bench import drafts, paged_report
from tiny_llm_kit.bench.engines import AnswerEngines, MlxLmEngine, RequestFailed
from tiny_llm_kit.bench.paged_costs import PARTS, Costs, expected_seconds, measure_costs
from tiny_llm_kit.bench.paged_report import ENGINES, Served
from tiny_llm_kit.bench.peer import mlx_lm_model
from tiny_llm_kit.bench.report import TARGET_COLUMNS, Table, as_markdown
from tiny_llm_kit.bench.run import MAX_TRIES, Case, Run, run_in_turn
from tiny_llm_kit.bench.step_times import StepTimes, measure_step_times
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.bench import TARGET_SLOTS, show_run
from tiny_llm_kit.cli.options import (
    MOST_REQUESTS,
    Numbers,
    kernels_option,
    kv_bits_option,
    model_option,
    noise_option,
    out_option,
    paged_options,
    paged_sizes,
    refuse,
    seed_type,
    speculate_option,
    trace_option,
)
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import Bar, progress_bar, working
from tiny_llm_kit.cli.tables import make_console, minutes, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import LoadMeter, describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.timeline import write_trace
from tiny_llm_kit.workloads.chosen import chosen_lists
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.lists import SEEDED
from tiny_llm_kit.workloads.memory import check_paged, check_slots_fit

SEEDS = (1, 2, 3)
NOTE = (
    "Engines in turn, in one process, with the same weights and BLAS. paged has the memory of the slots, in blocks. mlx-lm is"
    " its BatchGenerator with as many rows as there are slots; it shares no prefixes. In flight: requests being served, on"
    " average over the steps that leave a request waiting, or at most, where none ever waits."
)
PLAIN_COSTS = "The costs of steps are those of plain ones: pdm run quantize-report --kv measures both."

SCHEDULE_OF = {"slots": "continuous", "paged": "paged"}
"""What the engines are called where schedules are compared."""


@click.command()
@model_option
@click.option("--workload", "workloads", type=click.Choice(SEEDED), multiple=True, help="Only these.  [default: all]")
@click.option("--seed", "seeds", type=seed_type, multiple=True, help="Lists of requests; repeatable.  [default: 1, 2, 3]")
@click.option("--requests", type=click.IntRange(1, MOST_REQUESTS), help="In each list.  [default: the workload's own number]")
@click.option("--engine", "engines", type=click.Choice(ENGINES), multiple=True, help="Only these.  [default: all]")
@click.option("--batch-sizes", type=Numbers(), default=str(TARGET_SLOTS), show_default=True, help="Slots, or their memory.")
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Quiet runs of each case.")
@click.option("--prefill-step", type=click.IntRange(min=1), default=128, show_default=True, help="For the slot engine.")
@paged_options
@kv_bits_option
@speculate_option
@kernels_option
@noise_option
@trace_option
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engines: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    workloads: tuple[str, ...],
    seeds: tuple[int, ...],
    requests: int | None,
    engines: tuple[str, ...],
    batch_sizes: list[int],
    repeats: int,
    prefill_step: int,
    kernels: str | None,
    noise: float,
    trace: Path | None,
    out: Path,
    solution: str,
    speculate: str | None,
    **sizes: int | None,
) -> None:
    """Compare the paged engine with the slot engine and mlx-lm, and measure what its steps cost.

    Three lists each of heavy-tail, prefill-heavy and shared-prefix; then the gaps between tokens while a long prompt is read,
    the time of a plan, peak memory, and where the time of a step goes. A run during which other programs had more than --noise
    of the CPU is repeated, and does not count. Close what you can before you start; first it says how long it will take. With
    --trace, the slot engine and the paged one serve once more for the timeline, and that run is not measured.
    """
    console = make_console()
    wanted = [engine for engine in ENGINES if not engines or engine in engines]
    if "paged" not in wanted:
        refuse(wanted[0], kv_bits=sizes["kv_bits"], speculate=speculate)
    answer = import_answer(solution)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=False)
        lists = chosen_lists(workloads or SEEDED, loaded.tokenizer, seeds or SEEDS, requests)
        check_slots_fit(loaded, max(batch_sizes), max(map(needed_seq_len, lists.values())))
        network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
        paged = paged_sizes(speculate=speculate, **sizes)
        check_paged(loaded, lists.values(), batch_sizes, paged)
    slots = TARGET_SLOTS if TARGET_SLOTS in batch_sizes else batch_sizes[-1]
    with working(console, "Timing a few steps"):
        times = measure_step_times(answer, network, slots)
    seconds = repeats * len(wanted) * len(batch_sizes) * sum(_seconds(times, items) for items in lists.values())
    console.print(f"On this machine, this will take about {minutes(seconds + expected_seconds(times))}.", highlight=False)
    with working(console, "Preparing mlx-lm's model"):
        peer = mlx_lm_model(loaded.config, loaded.weights) if "mlx-lm" in wanted else None
    gc.freeze()  # as in `bench`

    served, recorders = [], []
    try:
        with progress_bar(console, "quiet runs", total=len(lists) * len(wanted) * len(batch_sizes) * repeats) as bar:
            for (name, seed), items in lists.items():
                bar.describe(f"{name}, seed {seed}: quiet runs")
                ours = AnswerEngines(answer, network, items, prefill_step, paged, kernels)
                serve = {"slots": ours.continuous, "paged": ours.paged}
                if peer is not None:
                    serve["mlx-lm"] = MlxLmEngine(peer, items).serve
                cases = [Case(engine, size, partial(serve[engine], size)) for size in batch_sizes for engine in wanted]
                on_run = partial(_show_run, bar, f"{name}, {seed}")
                served.append(Served(name, seed, run_in_turn(cases, repeats, noise, on_run)))
                if trace:
                    recorded = [case for case in cases if case.engine in SCHEDULE_OF]
                    bar.describe(f"{name}, seed {seed}: once more, for the timeline")
                    recorders += [
                        ours.recorded(SCHEDULE_OF[case.engine], case.batch_size, f"{name}, seed {seed}") for case in recorded
                    ]
    except RequestFailed as error:
        raise click.ClickException(harmless(str(error))) from None
    costs, others = _costs(console, answer, network, kernels, noise)

    goals = [*paged_report.targets(served, slots), *costs.targets(quiet=others <= noise)]
    tables = [
        Table(harmless(loaded.name), paged_report.COLUMNS, paged_report.rows(served)),
        *([_drafts(served)] if speculate else []),
        Table("targets", TARGET_COLUMNS, [goal.row() for goal in goals]),
        *costs.tables(),
    ]
    packed = [f"paged: keys and values in {paged.kv_bits} bits. {PLAIN_COSTS}"] if paged.kv_bits else []
    notes = [NOTE, *packed, f"While the costs of steps were measured, other programs had {others:.1%} of the CPU."]
    for table in tables:
        console.print(plain_table(table.title, table.columns, table.rows))
    for note in notes:
        console.print(note, highlight=False)
    document = {
        "machine": describe_machine(),
        "model": loaded.name,
        "kernels": kernels,
        "repeats": repeats,
        "prefill_step": prefill_step,
        "sizes": asdict(paged),
        "targets": [goal.as_json() for goal in goals],
        "results": paged_report.as_json(served),
        **costs.as_json(),
        "cpu_share_of_others": others,
    }
    text = as_markdown(tables, *notes)
    draw = partial(paged_report.draw, served, costs.gaps, slots, title=loaded.name)
    write_results(console, out, "paged", document, text, draw)
    if trace:
        write_trace(console, trace, recorders)
    if others > noise or any(not result.quiet for one in served for result in one.results):
        raise click.ClickException("some cases had no quiet run and so have no result: close other programs, and run again")


def _drafts(served: Sequence[Served]) -> Table:
    rows = [[f"{one.workload}, {one.seed}", *row] for one in served for row in drafts.rows(one.results)]
    return Table("drafts", ["workload, seed", *drafts.COLUMNS], rows)


def _costs(console: Console, answer: ModuleType, network: Any, kernels: str | None, noise: float) -> tuple[Costs, float]:
    """What steps cost, and the share of the CPU that others had meanwhile; tried again while that is above `noise`."""
    for _ in range(MAX_TRIES):
        with LoadMeter() as meter, progress_bar(console, "costs of steps", total=PARTS) as bar:
            costs = measure_costs(answer, network, kernels, partial(_begin, bar))
        if not meter.noisy(noise):
            break
    return costs, meter.others


def _seconds(times: StepTimes, items: Sequence[WorkItem]) -> float:
    """About what a list takes with one engine, for an estimate of the whole."""
    return times.continuous(sum(len(item.prompt) for item in items), [item.max_tokens for item in items])


def _show_run(bar: Bar, name: str, case: Case, run: Run) -> None:
    show_run(bar, f"{name:>18}  {case.engine:>6} {case.batch_size:>3} slots", run)


def _begin(bar: Bar, part: str) -> None:
    bar.describe(part)
    bar.advance()
