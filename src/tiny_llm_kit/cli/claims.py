"""`pdm run claims`: the law behind batching, where it fails, and how common claims fare against it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console

from tiny_llm_kit.bench import claims_report
from tiny_llm_kit.bench.claims_report import Held
from tiny_llm_kit.bench.law import LawRow, law_rows
from tiny_llm_kit.bench.law_measured import ENGINES, MeasuredRow, figures_of_bench, measured_row
from tiny_llm_kit.bench.ledger import Ledger, read_ledger
from tiny_llm_kit.bench.predicted import Predicted, predict
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.options import Numbers, out_option, seed_type
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import progress_bar, working
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.machine.description import LoadMeter, describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
from tiny_llm_kit.workloads.lengths import DISTRIBUTIONS

PREFILL_STEP = 512
"""Prompt tokens per iteration, as GPUs are given."""

MEASURED_ROUNDS = 8
"""Requests per row of a list that the real engines serve."""

MOST_ROWS = 1024

LAW_TITLE = "The law: static over continuous"
MEASURED_TITLE = "The same, measured: log-normal answers"
LIMITS_TITLE = "Where the law holds, and where it fails"
LEDGER_TITLE = "Claims"


@click.command()
@click.option("--batch-sizes", type=Numbers(MOST_ROWS), default="2,4,8,16,32", show_default=True, help="Rows for the law.")
@click.option("--seeds", "seed_count", type=click.IntRange(1, 1000), default=10, show_default=True, help="Lists of requests.")
@click.option("--seed", type=seed_type, default=0, show_default=True, help="Seed of the first list; further ones count up.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="Requests per row of a list; with few, its end matters.",
)
@click.option(
    "--measure",
    type=click.Choice(("nothing", "tiny", "embedded")),
    default="tiny",
    show_default=True,
    help="Which model the real engines run: a tiny random one, or the embedded one, which takes minutes per list.",
)
@click.option(
    "--measured-batch-sizes",
    type=Numbers(MOST_ROWS),
    default="2,8",
    show_default=True,
    help="Rows for the real engines; each is slow.",
)
@click.option(
    "--measured-seeds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Lists for the real engines."
)
@click.option(
    "--bench",
    "bench_file",
    type=click.Path(path_type=Path),
    help="JSON that pdm run bench wrote: its figures go into the ledger, in place of those measured here.",
)
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose law, simulators and engines: ref, or tiny_llm.")
@ends_politely()
def main(
    batch_sizes: list[int],
    seed_count: int,
    seed: int,
    rounds: int,
    measure: str,
    measured_batch_sizes: list[int],
    measured_seeds: int,
    bench_file: Path | None,
    out: Path,
    solution: str,
) -> None:
    """Test what is said about batching: the law computed, counted, simulated and measured; the cases in which it fails; and a
    ledger of common claims, with their sources, and what the law and the simulators say about each.

    Everything except what is measured is the same on every machine. It takes about five minutes, and less with fewer --seeds
    and --rounds.
    """
    console = make_console()
    answer = import_answer(solution)
    ledger = read_ledger()
    figures = figures_of_bench(bench_file) if bench_file else {}
    seeds = range(seed, seed + seed_count)
    law = _law(console, answer, batch_sizes, seeds, rounds, ledger)
    console.print(plain_table(LAW_TITLE, claims_report.LAW_COLUMNS, claims_report.law_cells(law)))
    measured: list[MeasuredRow] = []
    note = "Nothing was measured."
    if measure != "nothing":
        with LoadMeter() as meter:
            measured = _measured(console, answer, measure, measured_batch_sizes, range(seed, seed + measured_seeds))
        note = f"Measured on the {measure} model; meanwhile other programs had {meter.others:.0%} of the CPU."
        cells = claims_report.measured_cells(measured)
        console.print(plain_table(MEASURED_TITLE, claims_report.MEASURED_COLUMNS, cells))
        console.print(note, highlight=False)
    for row in [] if bench_file else measured:
        figures |= row.figures()
    limits, predicted = _predicted(console, answer, ledger, seeds, rounds)
    held = [Held(claim, some, figures) for claim, some in zip(ledger.claims, predicted, strict=True)]
    _print_limits(console, limits)
    for one in held:
        _print_claim(console, one)

    about = {
        "machine": describe_machine(),
        "seeds": list(seeds),
        "rounds": rounds,
        "measured_on": measure,
        "bench": bench_file.name if bench_file else None,
    }
    tables = [
        (LAW_TITLE, claims_report.LAW_COLUMNS, claims_report.law_cells(law)),
        (MEASURED_TITLE, claims_report.MEASURED_COLUMNS, claims_report.measured_cells(measured)),
        (LIMITS_TITLE, claims_report.LIMIT_COLUMNS, claims_report.limit_cells(limits)),
        (LEDGER_TITLE, claims_report.LEDGER_COLUMNS, claims_report.ledger_cells(held)),
        ("Sources", claims_report.SOURCE_COLUMNS, claims_report.source_cells(ledger.claims)),
    ]
    text = "\n\n".join(f"{title}\n\n{markdown(columns, cells)}" for title, columns, cells in tables if cells)
    document = about | claims_report.as_json(law, measured, limits, held)
    draw = partial(claims_report.draw, law, measured, held)
    write_results(console, out, "claims", document, f"{text}\n\n{note}", draw)


def _print_limits(console: Console, limits: Sequence[Predicted]) -> None:
    cells = claims_report.limit_cells(limits)
    console.print(plain_table(LIMITS_TITLE, claims_report.LIMIT_COLUMNS[:-1], [row[:-1] for row in cells]))
    for case, *_, because in cells:
        console.print(f"{case}: {because}", markup=False, highlight=False)


def _print_claim(console: Console, held: Held) -> None:
    title = f"\n{held.claim.words}"
    console.print(plain_table(title, claims_report.COMPARED_COLUMNS, claims_report.compared_cells(held)))
    for name in ("source", "checked", "baseline", "workload", "hardware"):
        console.print(f"  {name}: {getattr(held.claim, name)}", markup=False, highlight=False)
    console.print(f"  What must be true: {held.claim.needs}", markup=False, highlight=False)


def _law(
    console: Console, answer: ModuleType, batch_sizes: list[int], seeds: range, rounds: int, ledger: Ledger
) -> list[LawRow]:
    with progress_bar(console, "the law", len(DISTRIBUTIONS) * len(batch_sizes)) as bar:
        return law_rows(answer, batch_sizes, seeds, rounds, ledger.machine, PREFILL_STEP, bar.advance)


def _measured(console: Console, answer: ModuleType, measure: str, batch_sizes: list[int], seeds: range) -> list[MeasuredRow]:
    model = _model(console, answer, measure)
    with progress_bar(console, "the real engines", len(ENGINES) * len(seeds) * len(batch_sizes)) as bar:

        def on_run(engine: str) -> None:
            bar.advance()

        return [measured_row(answer, model, size, seeds, MEASURED_ROUNDS, PREFILL_STEP, on_run) for size in batch_sizes]


def _model(console: Console, answer: ModuleType, measure: str) -> Any:
    operators = choose_operators(answer, None)
    if measure == "tiny":
        config = tiny_config()
        return answer.Model(config, random_weights(config), operators)
    with working(console, "Loading the model"):
        loaded = load(keep_quantized=False)
        return answer.Model(loaded.config, loaded.weights, operators)


def _predicted(
    console: Console, answer: ModuleType, ledger: Ledger, seeds: range, rounds: int
) -> tuple[list[Predicted], list[list[Predicted]]]:
    """The results of the limits, and of the comparisons of each claim."""
    comparisons = [*ledger.limits, *(one for claim in ledger.claims for one in claim.comparisons)]
    with progress_bar(console, "simulations", len(comparisons) * len(seeds)) as bar:
        found = {}
        for one in comparisons:
            bar.describe(f"simulating: {one.name}")
            found[id(one)] = predict(answer, one, seeds, rounds, PREFILL_STEP, bar.advance)
    return [found[id(one)] for one in ledger.limits], [[found[id(one)] for one in claim.comparisons] for claim in ledger.claims]
