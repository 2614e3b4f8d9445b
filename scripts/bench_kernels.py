"""`pdm run bench-kernels`: each kernel of the course beside MLX's own operator, on what MLX computes on here."""

import tiny_llm_kit.cli  # noqa: F401  # first: from here on Ctrl-C is one line

# isort: split

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import mlx.core as mx
from rich.console import Console

from metal_anywhere.backend import backend
from tiny_llm_kit.bench import kernel_report
from tiny_llm_kit.bench.each_kernel import look_at_each
from tiny_llm_kit.bench.kernel_cases import DTYPES, KERNELS, Comparison, comparisons
from tiny_llm_kit.bench.kernel_counts import count
from tiny_llm_kit.bench.kernel_report import Report
from tiny_llm_kit.bench.kernels import Peaks, copy_bandwidth, hand_over_queues_whole, measure, product_speed
from tiny_llm_kit.cli.answers import import_answer, unfinished_tasks_end_the_program
from tiny_llm_kit.cli.results import write_results
from tiny_llm_kit.cli.tables import make_console, plain_table
from tiny_llm_kit.machine.description import describe_machine

REPEATS = 25
MOST_DIFFERENCE = {"float32": 2e-3, "float16": 4e-3, "bfloat16": 2e-2}
"""A result is rounded once (1e-3 of itself in float16, 8e-3 in bfloat16); and what it is held against may come from a GPU
that rounds the factors of a product in float32 to eleven bits."""

Makers = dict[str, Callable[[], Comparison]]


@click.command()
@click.option("--kernel", "kernels", type=click.Choice(KERNELS), multiple=True, help="Only these.  [default: all]")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float16", show_default=True, help="Of the inputs.")
@click.option("--solution", default="ref", show_default=True, help="Whose kernels: ref, or tiny_llm for your own.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("results"), show_default=True)
def main(kernels: tuple[str, ...], dtype: str, solution: str, out: Path) -> None:
    """Measure the kernels of week 2, days 3 and 4, beside MLX's operators for the same.

    On a GPU: times, the two in turn, in one process, and the share of what a copy and a large product reach there. Times are
    the GPU's alone, without Python's, and data comes from memory and not from a cache. Without a GPU there are no times:
    threads, loads and bytes are counted, on small inputs, in about ten seconds. The exit code is 1 if a kernel fails, or
    computes something else than MLX.
    """
    console = make_console()
    on_cpu = backend() == "cpu"
    if not on_cpu:
        hand_over_queues_whole()
    with unfinished_tasks_end_the_program():
        makers = comparisons(import_answer(solution), DTYPES[dtype], small=on_cpu)
        chosen = {name: make for name, make in makers.items() if not kernels or name in kernels}
        report, failures = _count(console, chosen) if on_cpu else _measure(console, chosen, DTYPES[dtype])

    for name, reason in failures.items():
        console.print(f"{name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if report.records:
        machine = describe_machine()
        title = f"{machine['gpu'] or 'CPU runner'}, {dtype}"
        for table in report.tables:
            console.print(plain_table(f"{title}: {table.title}", table.columns, table.rows))
        for note in report.notes:
            console.print(note, highlight=False)
        about = {"machine": machine, "solution": solution, "dtype": dtype, **report.about, "notes": report.notes}
        document = {**about, "kernels": report.records, "not_measured": failures}
        draw = partial(kernel_report.draw, report, title=title)
        write_results(console, out, "kernels", document, report.as_markdown(), draw)
    wrong = [row["name"] for row in report.records if not row["difference"] <= MOST_DIFFERENCE[dtype]]  # nan is wrong too
    if wrong:
        console.print(f"Not what MLX computes: {', '.join(wrong)}. `pdm run test` tells more.", highlight=False)
    raise SystemExit(1 if wrong or failures else 0)


def _count(console: Console, makers: Makers) -> tuple[Report, dict[str, str]]:
    rows, failures = look_at_each(console, makers, count)
    return kernel_report.of_counts(rows), failures


def _measure(console: Console, makers: Makers, dtype: mx.Dtype) -> tuple[Report, dict[str, str]]:
    with console.status("Measuring a copy and a large product …"):
        peaks = Peaks(copy_bandwidth(REPEATS), product_speed(dtype, REPEATS))
    rows, failures = look_at_each(console, makers, partial(measure, copy_speed=peaks.bytes, repeats=REPEATS))
    return kernel_report.of_times(rows, peaks, REPEATS), failures


if __name__ == "__main__":
    main(prog_name="pdm run bench-kernels")
