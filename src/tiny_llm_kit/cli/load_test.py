"""`pdm run load-test`: locust asks a real server for more and more, and every answer must be complete and right."""

import importlib.util
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import click

from tiny_llm_kit.bench import served_report
from tiny_llm_kit.bench.report import TARGET_COLUMNS, Table, as_markdown
from tiny_llm_kit.bench.served_process import served
from tiny_llm_kit.bench.served_run import LoadRun
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.options import Numbers, model_option, out_option, seed_type
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import progress_bar, working
from tiny_llm_kit.cli.tables import make_console, minutes, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.course.processes import stopped_by_signals
from tiny_llm_kit.machine.description import describe_machine

NOT_INSTALLED = "locust is not installed, and a load test needs it: run `pdm run setup-load`"
MAX_SEQ_LEN = 192
"""Tokens: enough for the requests even if each letter is one, and too few for the prefix cache to keep all of them."""
STARTING_SECONDS = 4
"""About what locust needs to start and to end, and the server to be empty, for an estimate."""
ALONE_SECONDS = 0.5
"""About what a short request takes alone, for an estimate."""

_count = click.IntRange(min=1)


@click.command()
@model_option
@click.option(
    "--engine", type=click.Choice(("paged", "slots")), default="paged", show_default=True, help="Week 3's, or week 2's."
)
@click.option("--seconds", type=_count, default=300, show_default=True, help="At each rate.")
@click.option("--rates", type=Numbers(100), default="1,2,4", show_default=True, help="Multiples of the sustainable rate.")
@click.option("--warm-up", type=_count, default=20, show_default=True, help="Seconds before each measurement, at its rate.")
@click.option("--burst", type=_count, default=30, show_default=True, help="Seconds for measuring the sustainable rate.")
@click.option("--running", type=_count, default=8, show_default=True, help="Most requests that run at a time.")
@click.option("--max-queue", type=_count, default=16, show_default=True, help="Most requests that may wait.")
@click.option(
    "--requests",
    type=click.IntRange(1, 1000),
    default=64,
    show_default=True,
    help="Requests in the list that is cycled through.",
)
@click.option("--seed", type=seed_type, default=0, show_default=True, help="Seed of the list and of the arrivals.")
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engine and server: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    engine: str,
    seconds: int,
    rates: list[int],
    warm_up: int,
    burst: int,
    running: int,
    max_queue: int,
    requests: int,
    seed: int,
    out: Path,
    solution: str,
) -> None:
    """Start `pdm run serve`, and load it with locust: at the rate that it can sustain, and at multiples of it.

    Short greedy requests are first asked alone. Then clients in a closed loop, enough to keep the batch full, show how many
    answers per second there can be: the sustainable rate. At each multiple of it requests come in an open loop. All answers
    must equal those alone, a full queue may say 429, and memory, queue and blocks must be what they were.

    Needs locust (`pdm run setup-load`). Ends with 1 if a target is missed. By default it takes about 18 minutes.
    """
    console = make_console()
    if importlib.util.find_spec("locust") is None:
        raise click.ClickException(NOT_INSTALLED)
    import_answer(solution)
    arguments = ["--engine", engine, "--slots", str(running), "--max-seq-len", str(MAX_SEQ_LEN)]
    arguments += ["--max-queue", str(max_queue), "--solution", solution, *(["--model", model] if model else [])]
    arguments += ["--max-num-seqs", str(running)] if engine == "paged" else []
    clients = running + max_queue // 2
    load_seconds = warm_up + burst + len(rates) * (warm_up + seconds)
    whole = load_seconds + ALONE_SECONDS * requests + STARTING_SECONDS * (len(rates) + 2)
    console.print(f"This will take about {minutes(whole)}.", highlight=False)

    with stopped_by_signals(), tempfile.TemporaryDirectory(prefix="tiny-llm-") as folder, ExitStack() as stack:
        with working(console, "Starting the server"):
            server = stack.enter_context(served(arguments, Path(folder)))
        run = LoadRun(server, Path(folder), seed, warm_up)
        with progress_bar(console, "requests alone", requests) as bar:
            run.ask_alone(requests, bar)
        if run.left_out:
            console.print(f"{run.left_out} requests are left out: a token of theirs has another that is nearly as good.")
        with progress_bar(console, "closed loop", warm_up + burst) as bar:
            closed = run.stage(f"{clients} clients", None, burst, clients, bar)
        sustainable = closed.throughput()
        if not sustainable:
            raise click.ClickException(f"no answer was complete within the {burst} s of --burst: give it more")
        console.print(f"{clients} clients in a closed loop get {sustainable:.2f} answers per second.", highlight=False)
        stages = [closed]
        for multiple in rates:
            with progress_bar(console, f"{multiple} ×", warm_up + seconds) as bar:
                stages.append(run.stage(f"{multiple} ×", multiple * sustainable, seconds, 1, bar))
        with working(console, "Stopping the server"):
            exit_code = server.stop()

    goals = served_report.targets(stages, max_queue, rates[-1] > 1, exit_code)
    title = f"{server.model}, {engine}: {seconds} s at each rate; {running} may run, {max_queue} wait"
    tables = [
        Table(title, served_report.REQUEST_COLUMNS, served_report.request_rows(stages)),
        Table("times and memory", served_report.TIME_COLUMNS, served_report.time_rows(stages)),
        Table("targets", TARGET_COLUMNS, [goal.row() for goal in goals]),
    ]
    for table in tables:
        console.print(plain_table(harmless(table.title), table.columns, table.rows))
    console.print(served_report.NOTE, highlight=False)
    for fault in served_report.faults(stages):
        console.print(harmless(fault), markup=False, highlight=False, soft_wrap=True)
    document = {
        "machine": describe_machine(),
        "model": server.model,
        "engine": engine,
        "max_running": running,
        "max_queue": max_queue,
        "locust": version("locust"),
        "requests": {"seed": seed, "list": len(run.alone), "left_out": run.left_out},
        "sustainable_per_second": sustainable,
        "targets": [goal.as_json() for goal in goals],
        "stages": [served_report.stage_as_json(stage) for stage in stages],
    }
    text = as_markdown(tables, served_report.NOTE)
    write_results(console, out, "load-test", document, text)
    sys.exit(0 if all(goal.met for goal in goals) else 1)
