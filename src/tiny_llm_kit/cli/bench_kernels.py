"""`pdm run bench-kernels`: each kernel of the course next to MLX's own operator, on the device that MLX uses here."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import mlx.core as mx
from rich.console import Console

from metal_anywhere.backend import backend
from tiny_llm_kit.bench import kernel_report
from tiny_llm_kit.bench.each_kernel import look_at_each
from tiny_llm_kit.bench.gpu_goals import goals_of, run_kernel_suites, with_goals
from tiny_llm_kit.bench.kernel_cases import DTYPES, KERNELS, Comparison, comparisons
from tiny_llm_kit.bench.kernel_counts import count
from tiny_llm_kit.bench.kernel_report import Report
from tiny_llm_kit.bench.kernels import Peaks, copy_bandwidth, hand_over_queues_whole, measure, product_speed
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.options import out_option
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import working
from tiny_llm_kit.cli.tables import make_console, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine

MOST_DIFFERENCE = {"float32": 2e-3, "float16": 4e-3, "bfloat16": 2e-2}
"""A result is rounded once (1e-3 of itself in float16, 8e-3 in bfloat16); and what it is held against may come from a GPU
that rounds the factors of a product in float32 to eleven bits."""

Makers = dict[str, Callable[[], Comparison]]


@click.command()
@click.option("--kernel", "kernels", type=click.Choice(KERNELS), multiple=True, help="Only these.  [default: all]")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float16", show_default=True, help="Dtype of the inputs.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=25, show_default=True, help="How many times each kernel is timed."
)
@click.option("--check", is_flag=True, help="On a GPU: also run the kernels' suites, and check all goals.")
@click.option("--timeout", type=click.IntRange(min=1), default=1800, show_default=True, help="Seconds for a suite of --check.")
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose kernels: ref, or tiny_llm for your own.")
@ends_politely()
def main(kernels: tuple[str, ...], dtype: str, repeats: int, check: bool, timeout: int, out: Path, solution: str) -> None:
    """Measure the kernels of week 2, days 3 and 4, and of week 3, day 2, next to MLX's operators for the same work.

    On a GPU: times, the two in turn, in one process, and the share of what a copy and a large product reach there. Times are
    the GPU's alone, without Python's, and data comes from memory rather than from a cache. Without a GPU there are no times:
    threads, loads and bytes are counted, on small inputs, in about twenty seconds.

    With --check, which is `pdm run gpu-check`: every suite should pass, the quantized mat-vec reach 60 % of a copy's
    bandwidth, decode attention take at most 1.5 times as long as MLX's, and paged attention no longer than MLX takes to gather
    the blocks and attend.

    The exit code is 1 if a kernel fails, computes something other than MLX does, or misses a goal of --check.
    """
    console = make_console()
    on_cpu = backend() == "cpu"
    if check and on_cpu:
        raise ValueError("MLX computes on the CPU here. Run this on Apple silicon, or on NVIDIA with MLX's CUDA backend.")
    if not on_cpu:
        hand_over_queues_whole()
    makers = comparisons(import_answer(solution), DTYPES[dtype], small=on_cpu)
    chosen = {name: make for name, make in makers.items() if not kernels or name in kernels}
    suites = run_kernel_suites(console, solution, timeout) if check else {}
    report, failures = _count(console, chosen) if on_cpu else _measure(console, chosen, DTYPES[dtype], repeats)
    goals = goals_of(suites, report.records) if check else []

    for name, reason in failures.items():
        console.print(harmless(f"{name}: {reason}"), highlight=False, markup=False, soft_wrap=True)
    wrong = [row["name"] for row in report.records if not row["difference"] <= MOST_DIFFERENCE[dtype]]  # NaN is wrong, too
    if report.records or check:
        machine = describe_machine()
        title = f"{machine['gpu'] or 'CPU runner'}, {dtype}"
        report = with_goals(report, suites, goals) if check else report
        for table in report.tables:
            console.print(plain_table(f"{title}: {table.title}", table.columns, table.rows))
        for note in report.notes:
            console.print(note, highlight=False, markup=False)
        about = {"machine": machine, "solution": solution, "dtype": dtype, **report.about, "notes": report.notes}
        document = {**about, "kernels": report.records, "not_measured": failures}
        draw = partial(kernel_report.draw, report, title=title) if report.records else None
        write_results(console, out, "gpu-check" if check else "kernels", document, report.as_markdown(), draw)
    if wrong:
        console.print(f"Not what MLX computes: {', '.join(wrong)}. `pdm run test` tells more.", highlight=False)
    raise SystemExit(1 if wrong or failures or not all(goal.met for goal in goals) else 0)


def _count(console: Console, makers: Makers) -> tuple[Report, dict[str, str]]:
    rows, failures = look_at_each(console, makers, count)
    return kernel_report.of_counts(rows), failures


def _measure(console: Console, makers: Makers, dtype: mx.Dtype, repeats: int) -> tuple[Report, dict[str, str]]:
    with working(console, "Measuring a copy and a large product"):
        peaks = Peaks(copy_bandwidth(repeats), product_speed(dtype, repeats))
    rows, failures = look_at_each(console, makers, partial(measure, copy_speed=peaks.bytes, repeats=repeats))
    return kernel_report.of_times(rows, peaks, repeats), failures
