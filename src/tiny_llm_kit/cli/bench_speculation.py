"""`pdm run bench-speculation`: what n-gram drafts gain, alone and in a batch, for texts that repeat themselves and texts that
don't."""

import gc
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import click

from tiny_llm_kit.bench import speculation_report
from tiny_llm_kit.bench.engines import AnswerEngines, RequestFailed
from tiny_llm_kit.bench.report import TARGET_COLUMNS, Table, as_markdown
from tiny_llm_kit.bench.run import Case, Run, run_in_turn
from tiny_llm_kit.bench.speculation_report import ENGINES, Served
from tiny_llm_kit.bench.step_times import measure_step_times
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.bench import show_run
from tiny_llm_kit.cli.options import Numbers, kernels_option, model_option, noise_option, out_option
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import Bar, progress_bar, working
from tiny_llm_kit.cli.tables import make_console, minutes, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.workloads.chosen import chosen_lists
from tiny_llm_kit.workloads.items import needed_seq_len
from tiny_llm_kit.workloads.lists import TEXTS
from tiny_llm_kit.workloads.memory import check_paged
from tiny_llm_kit.workloads.paged import PagedSizes

REQUESTS = 12
PROMPT_TOKENS = 128
"""A step of other engines, which are not run here."""
NOTE = (
    "A paged engine without drafts and two with n-gram drafts, in turn, in one process: always 4, and as many as are worth it."
    " Greedy; an answer ends where the model ends it. Rows: most requests at a time. There are blocks for all requests."
)


@click.command()
@model_option
@click.option("--workload", "workloads", type=click.Choice(TEXTS), multiple=True, help="Only this.  [default: both]")
@click.option("--requests", type=click.IntRange(min=1), default=REQUESTS, show_default=True, help="In each list.")
@click.option("--rows", type=Numbers(most=64), default="1,8", show_default=True, help="Requests at a time.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Quiet runs of each case.")
@kernels_option
@noise_option
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engines: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    workloads: tuple[str, ...],
    requests: int,
    rows: list[int],
    repeats: int,
    kernels: str | None,
    noise: float,
    out: Path,
    solution: str,
) -> None:
    """Measure what n-gram drafts gain: tokens per step, accepted drafts, speed.

    In chat, answers say something new; in copying, each repeats a passage of its prompt. Alone, a request leaves room in each
    step, and drafts are nearly free; with eight at a time, a wrong draft costs as much as a token of another request.

    A run during which other programs had more than --noise of the CPU is repeated, and does not count. Close what you can
    before you start; first it says how long it will take at most.
    """
    console = make_console()
    answer = import_answer(solution)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=False)
        lists = chosen_lists(workloads or TEXTS, loaded.tokenizer, [None], requests)
        sizes = {
            name: PagedSizes(num_blocks=len(items) * -(-needed_seq_len(items) // PagedSizes.block_size))
            for (name, _), items in lists.items()
        }
        for (name, _), items in lists.items():
            check_paged(loaded, [items], rows, sizes[name])
        network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
    with working(console, "Timing a few steps"):
        seconds = 0.0
        for count in rows:
            times = measure_step_times(answer, network, count)
            for items in lists.values():
                seconds += times.continuous(sum(len(item.prompt) for item in items), [item.max_tokens for item in items])
    console.print(f"On this machine, this will take {minutes(repeats * len(ENGINES) * seconds)} at most.", highlight=False)
    gc.freeze()  # as in `bench`

    served = []
    try:
        with progress_bar(console, "quiet runs", total=len(lists) * len(rows) * len(ENGINES) * repeats) as bar:
            for (name, _), items in lists.items():
                bar.describe(f"{name}: quiet runs")
                cases = []
                for count in rows:
                    for engine, speculate in ENGINES.items():
                        own = replace(sizes[name], max_num_seqs=count, speculate=speculate)
                        ours = AnswerEngines(answer, network, items, PROMPT_TOKENS, own, kernels, loaded.tokenizer)
                        cases.append(Case(engine, count, partial(ours.paged, count)))
                served.append(Served(name, run_in_turn(cases, repeats, noise, partial(_show_run, bar, name))))
    except RequestFailed as error:
        raise click.ClickException(harmless(str(error))) from None

    goals = speculation_report.targets(served)
    tables = [
        Table(harmless(loaded.name), speculation_report.COLUMNS, speculation_report.rows(served)),
        Table("targets", TARGET_COLUMNS, [goal.row() for goal in goals]),
    ]
    for table in tables:
        console.print(plain_table(table.title, table.columns, table.rows))
    console.print(NOTE, highlight=False)
    document = {
        "machine": describe_machine(),
        "model": loaded.name,
        "kernels": kernels,
        "repeats": repeats,
        "requests": {name: len(items) for (name, _), items in lists.items()},
        "sizes": {name: asdict(own) for name, own in sizes.items()},
        "targets": [goal.as_json() for goal in goals],
        "results": speculation_report.as_json(served),
    }
    text = as_markdown(tables, NOTE)
    write_results(console, out, "speculation", document, text)
    if any(not result.quiet for one in served for result in one.results):
        raise click.ClickException("some cases had no quiet run and so have no result: close other programs, and run again")


def _show_run(bar: Bar, name: str, case: Case, run: Run) -> None:
    show_run(bar, f"{name:>8}  {case.engine:>8} {case.batch_size:>3} rows", run)
