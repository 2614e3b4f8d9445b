"""`pdm run predict`: fit a cost model to one run, predict others by simulation, and measure them for comparison."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click

from tiny_llm_kit.bench import own_roofline, prediction, sharing
from tiny_llm_kit.bench.clocks import CpuClock, WallClock
from tiny_llm_kit.bench.engines import RequestFailed
from tiny_llm_kit.bench.fits import FIT_COLUMNS, fit_as_json, fit_best, fit_rows
from tiny_llm_kit.bench.prediction import Case, Compared
from tiny_llm_kit.bench.run import MAX_TRIES
from tiny_llm_kit.bench.step_profile import LENGTH, REPEATS, decode_seconds
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.options import MOST_REQUESTS, kernels_option, model_option, noise_option, out_option
from tiny_llm_kit.cli.outputs import write_json, write_results
from tiny_llm_kit.cli.progress import Bar, progress_bar, working
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine import fast_blas
from tiny_llm_kit.machine.description import LoadMeter, describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.workloads.items import needed_seq_len
from tiny_llm_kit.workloads.memory import check_slots_fit

T = TypeVar("T")
Quiet = Callable[[Case, Callable[[], T]], T | None]


@click.command()
@model_option
@click.option("--requests", type=click.IntRange(8, MOST_REQUESTS), default=32, show_default=True, help="In each run.")
@kernels_option
@click.option(
    "--clock",
    type=click.Choice(("wall", "cpu")),
    default="wall",
    show_default=True,
    help="cpu: count this program's processor time only, on a machine that others use; with OPENBLAS_NUM_THREADS=1.",
)
@noise_option
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose engines: ref, or tiny_llm for your own.")
@ends_politely()
def main(model: str | None, requests: int, kernels: str | None, clock: str, noise: float, out: Path, solution: str) -> None:
    """Record one run, fit what calls of the model cost to it, and predict others: other requests, sizes, arrivals, and the
    paged engine. Each is then measured, and the two are shown side by side. Runs of the paged engine are also predicted from
    one of its own, which shows how much of their error comes from the cost of its calls.

    The fit is also written separately, as fit.json, for pdm run simulate. A run during which other programs had more than
    --noise of the CPU is repeated. It takes about five minutes on two cores; --requests makes it shorter or longer.
    """
    console = make_console()
    answer = import_answer(solution)
    if clock == "cpu" and fast_blas.status().threads != 1:
        raise ValueError("--clock cpu counts the time of a single thread: set OPENBLAS_NUM_THREADS=1, or leave it out")
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=False)
        network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
    recorded = prediction.recorded_case(loaded.config.vocab_size, requests)
    check_slots_fit(loaded, 2 * prediction.SLOTS, needed_seq_len(recorded.items))
    prediction.rehearse(answer, loaded.config, recorded)
    with working(console, "Measuring how fast this machine reads and multiplies, and decode steps over their rows"):
        limits = own_roofline.measured_limits()
        steps = {rows: decode_seconds(answer, network, rows) for rows in sharing.ROWS}

    def run(case: Case, works: Sequence[Any] = ()) -> dict[str, float]:
        return prediction.measure(answer, network, case, CpuClock() if clock == "cpu" else WallClock(), kernels, works)

    try:
        with progress_bar(console, "runs", total=1 + prediction.OTHERS) as bar:
            run(prediction.warm_up(recorded))
            quiet = partial(_quiet, bar, 1.0 if clock == "cpu" else noise)
            measured, fit = _recorded(quiet, run, answer, recorded)
            if measured is None:
                raise click.ClickException("no quiet run to fit to: close other programs and run again, or --clock cpu")
            rate = prediction.LOAD * prediction.served(recorded, measured)
            others = prediction.other_cases(answer, loaded.config.vocab_size, requests, rate)
            paged = next(case for case in others if case.paged)
            figures: dict[Case, dict[str, float] | None] = {recorded: measured}
            fits = {recorded: fit}
            for case in others:
                if case is paged:
                    figures[case], fits[case] = _recorded(quiet, run, answer, case)
                else:
                    figures[case] = quiet(case, partial(run, case))
    except RequestFailed as error:
        raise click.ClickException(harmless(str(error))) from None
    compared = [
        Compared(case, fitted_to, prediction.predict(answer, case, cost), found)
        for fitted_to, cost in fits.items()
        for case, found in figures.items()
        if cost and found and (fitted_to is recorded or (case.paged and case is not fitted_to))
    ]
    roofline = answer.roofline_of(loaded.config, *limits, own_roofline.BYTES, own_roofline.BYTES)
    tables = {
        f"{loaded.name}, {LENGTH} tokens per row, the shortest of {REPEATS}": (
            own_roofline.COLUMNS, own_roofline.decode_rows(answer, roofline, fit, steps)
        ),
        **{f"fitted to {case.name}": (FIT_COLUMNS, fit_rows(cost)) for case, cost in fits.items() if cost},
        "predicted and measured": (prediction.COLUMNS, prediction.rows(compared)),
    }  # fmt: skip
    for title, (columns, cells) in tables.items():
        console.print(plain_table(harmless(title), columns, cells))
    words = (
        f"{own_roofline.in_words(roofline)} The fit is wrong by {fit.error:.1%} in the mean over the recorded iterations. Times"
        f" of runs are {'processor time, of one thread' if clock == 'cpu' else 'wall time'}."
    )
    console.print(words, highlight=False)
    about = {"model": loaded.name, "machine": describe_machine(), "kernels": kernels, "clock": clock, "requests": requests}
    document = {
        **about,
        "limits": {"flops": roofline.flops, "bandwidth": roofline.bandwidth, "knee": roofline.knee},
        "decode_seconds": steps,
        "fit": fit_as_json(fit),
        "paged_fit": fit_as_json(fits[paged]) if fits[paged] else None,
        "goals": prediction.GOALS,
        "cases": [one.as_json() for one in compared],
    }
    text = "\n\n".join([*(markdown(columns, cells) for columns, cells in tables.values()), words])
    write_results(console, out, "predict", document, text)
    write_json(out / "fit.json", {**about, "fit": fit_as_json(fit)})
    console.print(harmless(f"For pdm run simulate --fit: {out / 'fit.json'}"), markup=False, highlight=False, soft_wrap=True)
    if missing := [case.name for case, found in figures.items() if found is None]:
        raise click.ClickException(f"no quiet run of: {', '.join(missing)}. Close other programs and run again, or --clock cpu")


def _recorded(
    quiet: Quiet, run: Callable[..., dict[str, float]], answer: ModuleType, case: Case
) -> tuple[dict[str, float] | None, Any]:
    """The figures of a case and the cost that is fitted to its run; None twice if no run was quiet."""

    def record() -> tuple[dict[str, float], list[Any]]:
        works = prediction.step_works(answer, case)
        return run(case, works), works

    result = quiet(case, record)
    return (result[0], fit_best(answer, result[1])) if result else (None, None)


def _quiet(bar: Bar, noise: float, case: Case, run: Callable[[], T]) -> T | None:
    """The result of a run during which others had little of the CPU; None if they had too much each time."""
    bar.describe(case.name)
    for _ in range(MAX_TRIES):
        with LoadMeter() as meter:
            result = run()
        noisy = meter.noisy(noise)
        verdict = f"others had {meter.others:.0%} of the CPU{': not counted' if noisy else ''}"
        bar.print(f"{case.name}: {meter.wall:.0f} s ({verdict})")
        if not noisy:
            bar.advance()
            return result
    bar.advance()
    return None
