"""`pdm run quantize-report`: what quantized weights save, and what they cost."""

from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from tiny_llm_kit.bench.quantization import COLUMNS, FORMATS, LIGHTHOUSE, Report, Row, read_text
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.options import model_option, out_option
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import progress_bar, working
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load


@click.command()
@model_option
@click.option("--text", type=Path, default=LIGHTHOUSE, help="What to predict.  [default: a story that comes with the course]")
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose answers: ref, or tiny_llm for your own.")
@ends_politely()
def main(model: str | None, text: Path, out: Path, solution: str) -> None:
    """Store a model's weights in several formats, and compare bytes, errors and perplexity.

    The truth is what the model's file holds, in float32. The embedded model's file is quantized already, in groups of 32, to
    4 bits (its embedding to 8): errors are what a format adds to that. It takes about a minute on two cores.
    """
    console = make_console()
    answer = import_answer(solution)
    words = read_text(text)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=True)
        tokens = loaded.tokenizer.encode(words)
        report = Report(answer, loaded, tokens)
    rows = _measure(console, report)

    cells = [row.cells() for row in rows]
    console.print(plain_table(harmless(f"{loaded.name}, {text.name}: {len(tokens)} tokens"), COLUMNS, cells))
    notes = _notes(rows)
    for note in notes:
        console.print(note, highlight=False)
    about = {"machine": describe_machine(), "model": loaded.name, "text": {"name": text.name, "tokens": len(tokens)}}
    document = {**about, "formats": [asdict(row) for row in rows]}
    write_results(console, out, "quantize", document, "\n\n".join([markdown(COLUMNS, cells), *notes]))


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
