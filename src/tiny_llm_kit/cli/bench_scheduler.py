"""`pdm run bench-scheduler`: what deciding costs, over the requests that wait and run, for each strategy and engine."""

import gc
from functools import partial
from pathlib import Path
from types import ModuleType

import click
import psutil

from tiny_llm_kit.bench import decision_report
from tiny_llm_kit.bench.decisions import MOST_RUNNING, Decision, PagedDecisions, Requests, slot_decision
from tiny_llm_kit.bench.report import TARGET_COLUMNS
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.options import Numbers, out_option
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import Bar, progress_bar
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.machine.description import describe_machine

WAITING = (100, 1000, 10_000, 100_000, 1_000_000)
RUNNING = (8, 64, 256, 1024)
USERS = (1, 10, 1_000_000)
BYTES = 2500
"""Roughly the bytes that a request waiting in the paged engine takes, with its place in the queue and its event."""
NOTE = (
    "Processor time, medians. The decision of a step: its plan, in which one seat is free, and the queue, which one request"
    " leaves and one joins. slots: plan_step, and the admission that counts who is overtaken. paged: Scheduler and FairQueue."
)


@click.command()
@click.option("--waiting", type=Numbers(), default=",".join(map(str, WAITING)), show_default=True, help="Requests that wait.")
@click.option(
    "--running",
    type=Numbers(MOST_RUNNING),
    default=",".join(map(str, RUNNING)),
    show_default=True,
    help=f"Requests that run, at most {MOST_RUNNING}.",
)
@click.option(
    "--users",
    type=Numbers(),
    default=",".join(map(str, USERS)),
    show_default=True,
    help="Paged: how many users' requests wait; from as many as wait on, each has its own user.",
)
@click.option("--quick", is_flag=True, help="At most 10,000 waiting and 256 running; takes some seconds.")
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose schedulers: ref, or tiny_llm for your own.")
@ends_politely()
def main(waiting: list[int], running: list[int], users: list[int], quick: bool, out: Path, solution: str) -> None:
    """Measure what it costs to decide which requests run next: microseconds per step, without a model.

    It measures each strategy of the slot engine and the paged engine's fair queue. Other programs hardly matter, since
    processor time is measured. A million waiting requests take about 2.5 GB of memory, and the whole takes some minutes.
    """
    console = make_console()
    answer = import_answer(solution)
    if quick:
        waiting, running = [size for size in waiting if size <= 10_000], [size for size in running if size <= 256]
        if not (waiting and running):
            raise ValueError("--quick leaves nothing to measure: give smaller sizes, or leave it out")
    _check_memory(waiting[-1] + running[-1])
    cases = len(running) * (len(answer.STRATEGIES) + len(users))
    decisions: list[Decision] = []
    with progress_bar(console, "deciding", len(waiting) * cases) as bar:
        for size in waiting:
            decisions += _measure(answer, bar, size, running, users)

    found = {
        "one request is admitted; over the number that wait": decision_report.rows(decisions, lambda one: one.step),
        "no seat is free; over the number that wait": decision_report.rows(decisions, lambda one: one.full),
    }
    columns, goals = decision_report.columns(decisions), decision_report.targets(decisions)
    goal_rows = [goal.row() for goal in goals]
    for title, cells in found.items():
        console.print(plain_table(title, columns, cells))
    if goals:  # a single number of waiting requests has none
        console.print(plain_table("targets", TARGET_COLUMNS, goal_rows))
    console.print(NOTE, highlight=False)
    tables = [f"{title}\n\n{markdown(columns, cells)}" for title, cells in found.items()]
    tables += [*([markdown(TARGET_COLUMNS, goal_rows)] if goals else []), NOTE]
    document = decision_report.as_json(decisions, goals, {"machine": describe_machine()})
    write_results(console, out, "scheduler", document, "\n\n".join(tables), partial(decision_report.draw, decisions))


def _check_memory(requests: int) -> None:
    needed, free = BYTES * requests, psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"{requests} requests need about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free: give fewer with"
            " --waiting and --running"
        )


def _measure(answer: ModuleType, bar: Bar, waiting: int, running: list[int], users: list[int]) -> list[Decision]:
    """All cases in which this many wait; they share their requests."""
    bar.describe(f"making {waiting:,} requests")
    requests = Requests(answer, waiting + running[-1])
    found = []
    for strategy in answer.STRATEGIES:
        bar.describe(f"{waiting:,} waiting: slots, {strategy}")
        for size in running:
            found.append(slot_decision(answer, requests, strategy, size, waiting))
            bar.advance()
    for count in users:
        bar.describe(f"{waiting:,} waiting: paged, users: {count:,}")
        paged = PagedDecisions(answer, requests, waiting, count, running[-1])
        for size in running:
            found.append(paged.measure(size))
            bar.advance()
        del paged
    gc.unfreeze()
    return found
