"""`pdm run bench`: batch sizes and engines, in turn, in one run."""

import gc
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from tiny_llm_kit.bench import build_time, overhead, report, step_profile
from tiny_llm_kit.bench.engines import AnswerEngines, MlxLmEngine, RequestFailed
from tiny_llm_kit.bench.peer import mlx_lm_model
from tiny_llm_kit.bench.report import Measured
from tiny_llm_kit.bench.run import Case, Result, Run, run_in_turn
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.options import kernels_option, model_option, out_option, paged_options, paged_sizes, refuse, seed_type
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import Bar, progress_bar, working
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.lists import SEEDED, WORKLOADS, workload
from tiny_llm_kit.workloads.memory import check_paged, check_slots_fit
from tiny_llm_kit.workloads.requests import ChatTokenizer

ENGINES = ("sequential", "static", "continuous", "mlx-lm")
"""Those that run unless others are asked for."""
ALIASES = {"slots": "continuous"}
"""What other programs call an engine."""
TARGET_SLOTS = 8


class Numbers(click.ParamType):
    """A list of positive numbers, with commas between them."""

    name = "N,N,…"

    def convert(self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            numbers = sorted({int(part) for part in value.split(",")})
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 1,2,4", param, ctx)
        if numbers[0] < 1:
            self.fail(f"{numbers[0]} is too few: it must be at least 1", param, ctx)
        return numbers


@click.command()
@model_option
@click.option("--batch-sizes", type=Numbers(), default="1,2,4,8,16", show_default=True, help="Slots to try.")
@click.option(
    "--engine",
    "engines",
    type=click.Choice((*ENGINES, "paged", *ALIASES)),
    multiple=True,
    help="Only these; slots is continuous.  [default: all but paged]",
)
@click.option("--workload", "workload_name", type=click.Choice(list(WORKLOADS)), default="heavy-tail", show_default=True)
@click.option("--seed", "seeds", type=seed_type, multiple=True, help="Another list of random requests; repeatable.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Quiet runs of each case.")
@click.option("--prefill-step", type=click.IntRange(min=1), default=128, show_default=True, help="Prompt tokens per step.")
@paged_options
@kernels_option
@click.option("--noise", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="CPU share others may have.")
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engine: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    batch_sizes: list[int],
    engines: tuple[str, ...],
    workload_name: str,
    seeds: tuple[int, ...],
    repeats: int,
    prefill_step: int,
    kernels: str | None,
    noise: float,
    out: Path,
    solution: str,
    **sizes: int | None,
) -> None:
    """Compare engines over batch sizes: same weights, dtype, BLAS and tokens, in turn, in one run.

    The paged engine has the memory of as many slots, in blocks, unless --num-blocks says otherwise; see also bench-paged.

    A run during which other programs had more than --noise of the CPU is repeated, and does not count. Close what you can
    before you start; the whole takes about three quarters of an hour on two cores, and as long again for each further --seed.
    """
    console = make_console()
    if seeds and workload_name not in SEEDED:
        raise ValueError(f"--seed means nothing to {workload_name}, which is always the same: leave it out")
    wanted = [ALIASES.get(engine, engine) for engine in engines] or ENGINES
    if "paged" not in wanted:
        refuse("continuous", **sizes)
    answer = import_answer(solution)
    paged = paged_sizes(**sizes)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=False)
        lists = _workloads(workload_name, loaded.tokenizer, seeds)
        check_slots_fit(loaded, max(batch_sizes), max(map(needed_seq_len, lists.values())))
        if "paged" in wanted:
            check_paged(loaded, lists.values(), batch_sizes, paged)
        network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
        peer = mlx_lm_model(loaded.config, loaded.weights)
    gc.freeze()  # what is loaded stays; servers too keep the collector from walking through it again and again
    slots = TARGET_SLOTS if TARGET_SLOTS in batch_sizes else batch_sizes[-1]
    first = next(iter(lists.values()))
    try:
        with working(console, "Measuring what an iteration costs beside the model"):
            beside_model = overhead.share_beside_model(answer, network, first, slots, prefill_step)
            host_us = overhead.host_microseconds(answer)
        measured = []
        for name, items in lists.items():
            ours = AnswerEngines(answer, network, items, prefill_step, paged, kernels)
            cases = _cases(ours, MlxLmEngine(peer, items), wanted, batch_sizes)
            results = _run(console, name, cases, repeats, noise)
            sequential = next((result for result in results if result.case.engine == "sequential"), None)
            with working(console, "Collecting what each request generates alone"):
                alone = sequential.runs[0].served.tokens if sequential else ours.sequential().tokens
            measured.append(Measured(name, results, alone))
            title = f"{loaded.name}, {name}: {len(items)} requests, {sum(item.max_tokens for item in items)} tokens"
            console.print(plain_table(title, report.COLUMNS, report.rows(results)))
    except RequestFailed as error:
        raise click.ClickException(harmless(str(error))) from None

    with working(console, "Measuring how long a step takes to build, and where its time goes"):
        building = build_time.build_times(answer, loaded.config.num_layers)
        profile = step_profile.step_profile(answer, network)
    goals = [*report.targets(measured, slots, beside_model, host_us), *build_time.targets(building)]
    console.print(plain_table("targets", report.TARGET_COLUMNS, [goal.row() for goal in goals]))
    console.print(plain_table("a decode step", step_profile.COLUMNS, profile))
    about = {
        "machine": describe_machine(),
        "model": loaded.name,
        "workloads": {
            name: {"requests": len(items), "generated_tokens": sum(item.max_tokens for item in items)}
            for name, items in lists.items()
        },
        "prefill_step": prefill_step,
        "kernels": kernels,
        "repeats": repeats,
    }
    tables = [f"{work.name}\n\n{markdown(report.COLUMNS, report.rows(work.results))}" for work in measured]
    tables.append(markdown(report.TARGET_COLUMNS, [goal.row() for goal in goals]))
    tables.append(markdown(step_profile.COLUMNS, profile))
    title = f"{loaded.name}, {', '.join(lists)}"
    draw = partial(report.draw, measured, title=title)
    write_results(console, out, "bench", report.as_json(measured, goals, about), "\n\n".join(tables), draw)
    if any(not result.quiet for work in measured for result in work.results):
        raise click.ClickException("some cases had no quiet run and so have no result: close other programs, and run again")


def _workloads(name: str, tokenizer: ChatTokenizer, seeds: Sequence[int]) -> dict[str, list[WorkItem]]:
    """The lists of requests, by the name that tables give them."""
    if not seeds:
        return {name: workload(name, tokenizer)}
    return {f"{name}, seed {seed}": workload(name, tokenizer, seed=seed) for seed in seeds}


def _cases(ours: AnswerEngines, peer: MlxLmEngine, engines: Sequence[str], batch_sizes: Sequence[int]) -> list[Case]:
    serve = {
        "sequential": ours.sequential,
        "static": ours.static,
        "continuous": ours.continuous,
        "paged": ours.paged,
        "mlx-lm": peer.serve,
    }
    return [
        Case(engine, size, partial(serve[engine], size))
        for engine in serve
        if engine in engines
        for size in ([1] if engine == "sequential" else batch_sizes)
    ]


def _run(console: Console, workload_name: str, cases: list[Case], repeats: int, noise: float) -> list[Result]:
    with progress_bar(console, f"{workload_name}: quiet runs", total=len(cases) * repeats) as bar:

        def on_run(case: Case, run: Run) -> None:
            show_run(bar, f"{case.engine:>10} {case.batch_size:>3} slots", run)

        return run_in_turn(cases, repeats, noise, on_run)


def show_run(bar: Bar, name: str, run: Run) -> None:
    """A line on a run; the bar advances if it counts."""
    speed = sum(map(len, run.served.tokens)) / run.seconds
    verdict = f"others had {run.others:.0%} of the CPU: not counted" if run.noisy else f"others {run.others:.1%}"
    bar.print(f"{name}  {speed:6.1f} tokens/s  ({verdict})")
    if not run.noisy:
        bar.advance()
