"""`pdm run quantize-report`: what quantized weights save, and what they cost."""

from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console

from tiny_llm_kit.bench import packed_kv
from tiny_llm_kit.bench.quantization import COLUMNS, FORMATS, LIGHTHOUSE, Report, Row, read_text
from tiny_llm_kit.bench.report import TARGET_COLUMNS
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.options import model_option, out_option
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import progress_bar, working
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import LoadMeter, describe_machine
from tiny_llm_kit.models.load import LoadedModel, load


@click.command()
@model_option
@click.option("--text", type=Path, default=LIGHTHOUSE, help="What to predict.  [default: a story that comes with the course]")
@click.option("--kv", is_flag=True, help="Keys and values in 8 and 4 bits instead of weights (week 3 day 5).")
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose answers: ref, or tiny_llm for your own.")
@ends_politely()
def main(model: str | None, text: Path, kv: bool, out: Path, solution: str) -> None:
    """Store a model's weights in several formats, and compare bytes, errors and perplexity.

    The truth is what the model's file holds, in float32. The embedded model's file is already quantized, in groups of 32, to 4
    bits (its embedding to 8): errors are what a format adds to that. It takes about a minute on two cores.

    With --kv, weights stay in the type in which this machine computes, and keys and values are stored in 8 and 4 bits: it
    reports how many more fit, the time of a decode step, errors, and perplexity. Close other programs first: it measures time.
    """
    console = make_console()
    answer = import_answer(solution)
    words = read_text(text)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=not kv)
        tokens = loaded.tokenizer.encode(words)
    about = {"machine": describe_machine(), "model": loaded.name, "text": {"name": text.name, "tokens": len(tokens)}}
    title = harmless(f"{loaded.name}, {text.name}: {len(tokens)} tokens")
    if kv:
        _report_kv(console, answer, loaded, tokens, title, about, out)
        return
    with working(console, "Preparing the weights"):
        report = Report(answer, loaded, tokens)
    rows = _measure(console, report)

    cells = [row.cells() for row in rows]
    console.print(plain_table(title, COLUMNS, cells))
    notes = _notes(rows)
    for note in notes:
        console.print(note, highlight=False)
    document = {**about, "formats": [asdict(row) for row in rows]}
    write_results(console, out, "quantize", document, "\n\n".join([markdown(COLUMNS, cells), *notes]))


def _report_kv(
    console: Console, answer: ModuleType, loaded: LoadedModel, tokens: list[int], title: str, about: dict[str, Any], out: Path
) -> None:
    network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, None))
    with LoadMeter() as meter, progress_bar(console, "formats", len(packed_kv.FORMATS) + 1) as bar:

        def begin(name: str) -> None:
            bar.describe(name)
            bar.advance()

        formats = packed_kv.measure_formats(answer, network, tokens, begin)
    goals = packed_kv.targets(formats)
    tables = [(packed_kv.COLUMNS, [form.cells(formats[0]) for form in formats]), (TARGET_COLUMNS, [g.row() for g in goals])]
    for columns, rows in tables:
        console.print(plain_table(title, columns, rows))
    others = f"Meanwhile, other programs had {meter.others:.1%} of the CPU."
    console.print(others, highlight=False)
    document = {
        **about,
        "kv_formats": [asdict(form) for form in formats],
        "targets": [goal.as_json() for goal in goals],
        "cpu_share_of_others": meter.others,
    }
    write_results(console, out, "quantize-kv", document, "\n\n".join([*(markdown(*table) for table in tables), others]))


def _measure(console: Console, report: Report) -> list[Row]:
    rows = []
    with progress_bar(console, "formats", len(FORMATS)) as bar:
        for form in FORMATS:
            bar.describe(form.name)
            rows.append(report.measure(form))
            bar.advance()
    return rows


def _notes(rows: list[Row]) -> list[str]:
    """What a row's name does not say."""
    return [
        f"{row.format}: the rows of {row.odd_matrices} of {row.matrices} matrices are no multiple of that. "
        "These have smaller groups, or stay in float16."
        for row in rows
        if row.odd_matrices
    ]
