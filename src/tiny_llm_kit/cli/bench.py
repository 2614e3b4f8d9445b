"""`pdm run bench`: batch sizes and engines, in turn, in one run."""

import gc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tiny_llm_kit.bench import build_time, drafts, log_cost, over_lists, overhead, report, step_profile
from tiny_llm_kit.bench.engines import AnswerEngines, MlxLmEngine, RequestFailed
from tiny_llm_kit.bench.fits import fit_as_json, load_fit
from tiny_llm_kit.bench.over_lists import Measured
from tiny_llm_kit.bench.peer import mlx_lm_model
from tiny_llm_kit.bench.run import Case, Result, Run, Served, run_in_turn
from tiny_llm_kit.bench.serving import SCHEDULES, SIMULATED, simulated_run
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
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
    simulate_option,
    speculate_option,
    trace_files,
    trace_option,
)
from tiny_llm_kit.cli.outputs import check_apart, write_results
from tiny_llm_kit.cli.progress import Bar, progress_bar, working
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.timeline import Recorder, write_trace
from tiny_llm_kit.workloads.chosen import choose_seeds, chosen_lists
from tiny_llm_kit.workloads.items import needed_seq_len
from tiny_llm_kit.workloads.lists import WORKLOADS
from tiny_llm_kit.workloads.memory import check_paged, check_slots_fit

ENGINES = ("sequential", "static", "continuous", "mlx-lm")
"""The engines that run unless others are asked for."""
ALL = (*SCHEDULES, "mlx-lm")
ALIASES = {"slots": "continuous"}
"""What other programs call an engine."""
TARGET_SLOTS = 8
FEW_LISTS = 3
"""With more lists, only what they have in common is shown; a file has each of them."""


@click.command()
@model_option
@click.option("--batch-sizes", type=Numbers(), default="1,2,4,8,16", show_default=True, help="Slots to try.")
@click.option(
    "--engine",
    "engines",
    type=click.Choice((*ALL, *ALIASES)),
    multiple=True,
    help=f"Only these; slots is continuous.  [default: {', '.join(ENGINES)}]",
)
@click.option(
    "--workload",
    "names",
    type=click.Choice(list(WORKLOADS)),
    multiple=True,
    default=("heavy-tail",),
    show_default=True,
    help="Repeatable; the targets are checked on the first.",
)
@click.option("--seed", "seed", type=seed_type, multiple=True, help="Another list of random requests; repeatable.")
@click.option("--seeds", type=click.IntRange(1, 1000), help="This many lists, with seeds from 1 on. A claim needs ten or more.")
@click.option("--requests", type=click.IntRange(1, MOST_REQUESTS), help="In each list.  [default: the workload's own number]")
@simulate_option
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Quiet runs of each case.")
@click.option("--prefill-step", type=click.IntRange(min=1), default=128, show_default=True, help="Prompt tokens per step.")
@paged_options
@kv_bits_option
@speculate_option
@kernels_option
@noise_option
@trace_option
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engine: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    batch_sizes: list[int],
    engines: tuple[str, ...],
    names: tuple[str, ...],
    seed: tuple[int, ...],
    seeds: int | None,
    requests: int | None,
    simulate: Path | None,
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
    """Compare engines over batch sizes: same weights, dtype, BLAS and tokens, in turn, in one run.

    The paged engine has the same memory as the slots, in blocks, unless --num-blocks says otherwise; see also bench-paged.
    dynamic closes its first group at once, since all requests are there; see bench-load for requests that come one by one.
    continuous-unchunked computes each prompt in one piece.

    A run during which other programs had more than --noise of the CPU is repeated, and does not count. Close what you can
    before you start; the whole takes about three quarters of an hour on two cores, and as long again for each further --seed.
    With --trace, each engine except mlx-lm serves once more for the timeline, and that run is not measured. Ten seeds in some
    minutes: --seeds 10 --batch-sizes 8 --requests 12 --repeats 1.
    """
    console = make_console()
    chosen_seeds = choose_seeds(names, seed, seeds)
    wanted = [ALIASES.get(engine, engine) for engine in engines] or ENGINES
    if "paged" not in wanted:
        refuse("continuous", speculate=speculate, **sizes)
    if simulate and speculate:
        raise ValueError(
            "--speculate means nothing to --simulate, which knows no tokens and so no drafts: leave one of them out"
        )
    answer = import_answer(solution)
    check_apart({"--simulate": simulate, **trace_files(trace)})
    cost = load_fit(answer, simulate) if simulate else None
    paged = paged_sizes(speculate=speculate, **sizes)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=False)
        lists = chosen_lists(names, loaded.tokenizer, chosen_seeds, requests)
        check_slots_fit(loaded, max(batch_sizes), max(map(needed_seq_len, lists.values())))
        if "paged" in wanted:
            check_paged(loaded, lists.values(), batch_sizes, paged)
        network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
        peer = mlx_lm_model(loaded.config, loaded.weights) if "mlx-lm" in wanted else None
    gc.freeze()  # what is loaded stays; servers, too, keep the garbage collector from walking through it again and again
    slots = TARGET_SLOTS if TARGET_SLOTS in batch_sizes else batch_sizes[-1]
    served_name = loaded.name + (f" (paged: keys and values in {paged.kv_bits} bits)" if paged.kv_bits else "")
    first = next(iter(lists.values()))
    try:
        with working(console, "Measuring what an iteration costs outside the model"):
            outside_model = overhead.share_outside_model(answer, network, first, slots, prefill_step)
            host_us = overhead.host_microseconds(answer)
        measured, recorders = [], []
        for number, ((workload_name, list_seed), items) in enumerate(lists.items(), start=1):
            name = workload_name if list_seed is None else f"{workload_name}, seed {list_seed}"
            ours = AnswerEngines(answer, network, items, prefill_step, paged, kernels)
            cases = _cases(ours, MlxLmEngine(peer, items) if peer else None, wanted, batch_sizes)
            results = _run(console, name if len(lists) == 1 else f"{name} ({number} of {len(lists)})", cases, repeats, noise)
            sequential = next((result for result in results if result.case.engine == "sequential"), None)
            with working(console, "Collecting what each request generates alone"):
                alone = sequential.runs[0].served.tokens if sequential else ours.sequential().tokens
            if trace:
                recorders += _recorded(console, ours, name, cases)
            if cost is not None:
                results += _simulated(ours, cost, cases)
            measured.append(Measured(name, results, alone, workload_name))
            if len(lists) <= FEW_LISTS:
                title = f"{served_name}, {name}: {len(items)} requests, {sum(item.max_tokens for item in items)} tokens"
                console.print(plain_table(title, report.COLUMNS, report.rows(results)))
                if speculate:
                    console.print(plain_table(f"drafts, {name}", drafts.COLUMNS, drafts.rows(results)))
    except RequestFailed as error:
        raise click.ClickException(harmless(str(error))) from None

    with working(console, "Measuring how long a step takes to build, and where its time goes"):
        building = build_time.build_times(answer, loaded.config.num_layers)
        logging = log_cost.log_share(answer, network)
        profile = step_profile.step_profile(answer, network)
    goals = [
        *report.targets([one for one in measured if one.workload == names[0]], slots, outside_model, host_us),
        *build_time.targets(building),
        *log_cost.targets(logging),
    ]
    compared = over_lists.compare(measured)
    title = f"{served_name}: geometric mean over the lists (least … most)"
    console.print(plain_table(title, over_lists.COLUMNS, over_lists.rows(compared)))
    console.print(plain_table("targets", report.TARGET_COLUMNS, [goal.row() for goal in goals]))
    console.print(plain_table("a decode step", step_profile.COLUMNS, profile))
    about: dict[str, Any] = {
        "machine": describe_machine(),
        "model": loaded.name,
        "workloads": {
            one.name: {"requests": len(items), "generated_tokens": sum(item.max_tokens for item in items)}
            for one, items in zip(measured, lists.values(), strict=True)
        },
        "simulated": None if simulate is None else fit_as_json(cost),
        "prefill_step": prefill_step,
        "kernels": kernels,
        "kv_bits": paged.kv_bits,
        "speculate": speculate,
        "repeats": repeats,
        "compared": over_lists.as_json(compared),
    }
    tables = [f"{title}\n\n{markdown(over_lists.COLUMNS, over_lists.rows(compared))}"]
    tables += [f"{work.name}\n\n{markdown(report.COLUMNS, report.rows(work.results))}" for work in measured]
    if speculate:
        tables += [f"drafts, {work.name}\n\n{markdown(drafts.COLUMNS, drafts.rows(work.results))}" for work in measured]
    tables.append(markdown(report.TARGET_COLUMNS, [goal.row() for goal in goals]))
    tables.append(markdown(step_profile.COLUMNS, profile))
    title = f"{loaded.name}, {_named(measured)}"
    draw = partial(report.draw, measured, title=title)
    write_results(console, out, "bench", report.as_json(measured, goals, about), "\n\n".join(tables), draw)
    if trace:
        write_trace(console, trace, recorders)
    if any(not result.quiet for work in measured for result in work.results):
        raise click.ClickException("some cases had no quiet run and so have no result: close other programs, and run again")


def _named(measured: Sequence[Measured]) -> str:
    """For a title: the lists or, if there are many, only the workloads and how many lists there are."""
    if len(measured) <= FEW_LISTS:
        return ", ".join(one.name for one in measured)
    return f"{', '.join(dict.fromkeys(one.workload for one in measured))}, {len(measured)} lists"


def _cases(ours: AnswerEngines, peer: MlxLmEngine | None, engines: Sequence[str], batch_sizes: Sequence[int]) -> list[Case]:
    serve: dict[str, Callable[[int], Served]] = {
        "sequential": ours.sequential,
        "static": ours.static,
        **{name: partial(ours.scheduled, name) for name in SCHEDULES[2:]},
    }
    if peer is not None:
        serve["mlx-lm"] = peer.serve
    return [
        Case(engine, size, partial(serve[engine], size))
        for engine in serve
        if engine in engines
        for size in ([1] if engine == "sequential" else batch_sizes)
    ]


def _recorded(console: Console, ours: AnswerEngines, list_name: str, cases: Sequence[Case]) -> list[Recorder]:
    """The timelines of a list; mlx-lm, which keeps no log, has none."""
    with working(console, "Serving once more, for the timeline"):
        return [ours.recorded(case.engine, case.batch_size, list_name) for case in cases if case.engine in SCHEDULES]


def _simulated(ours: AnswerEngines, cost: Any, cases: Sequence[Case]) -> list[Result]:
    """The same in simulation, except for mlx-lm, whose schedule has none."""
    results = []
    for case in cases:
        if case.engine in SCHEDULES:
            run = simulated_run(ours.answer, cost, case.engine, ours.items, ours.options(case.batch_size))
            results.append(Result(Case(case.engine + SIMULATED, case.batch_size, partial(getattr, run, "served")), [run]))
    return results


def _run(console: Console, list_name: str, cases: list[Case], repeats: int, noise: float) -> list[Result]:
    with progress_bar(console, f"{list_name}: quiet runs", total=len(cases) * repeats) as bar:

        def on_run(case: Case, run: Run) -> None:
            show_run(bar, f"{list_name}: {case.engine:>20} {case.batch_size:>3} slots", run)

        return run_in_turn(cases, repeats, noise, on_run)


def show_run(bar: Bar, name: str, run: Run) -> None:
    """A line on a run; the bar advances if it counts."""
    speed = sum(map(len, run.served.tokens)) / run.seconds
    verdict = f"others had {run.others:.0%} of the CPU: not counted" if run.noisy else f"others {run.others:.1%}"
    bar.print(f"{name}  {speed:6.1f} tokens/s  ({verdict})")
    if not run.noisy:
        bar.advance()
