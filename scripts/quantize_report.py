"""`pdm run quantize-report`: what quantized weights save, and what they cost."""

import tiny_llm_kit.cli  # noqa: F401  # first: from here on Ctrl-C is one line

# isort: split

from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from tiny_llm_kit.bench.quantization import COLUMNS, FORMATS, LIGHTHOUSE, Report, Row, read_text
from tiny_llm_kit.cli.answers import import_answer, unfinished_tasks_end_the_program
from tiny_llm_kit.cli.results import write_results
from tiny_llm_kit.cli.tables import make_console, make_progress, markdown, plain_table
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load


@click.command()
@click.option("--model", help="A hub name, a folder or a .gguf file.  [default: the embedded SmolLM2-135M-Instruct]")
@click.option("--text", type=Path, default=LIGHTHOUSE, help="What to predict.  [default: a story that comes with the course]")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("results"), show_default=True)
@click.option("--solution", default="ref", show_default=True, help="Whose answers: ref, or tiny_llm for your own.")
def main(model: str | None, text: Path, out: Path, solution: str) -> None:
    """Store a model's weights in several formats, and compare bytes, errors and perplexity.

    The truth is what the model's file holds, in float32. The embedded model's file is quantized already, in groups of 32, to
    4 bits (its embedding to 8): errors are what a format adds to that. It takes about a minute on two cores.
    """
    console = make_console()
    with unfinished_tasks_end_the_program():
        answer = import_answer(solution)
        words = read_text(text)
        with console.status("Loading the model …"):
            loaded = load(model, keep_quantized=True)
            tokens = loaded.tokenizer.encode(words)
            report = Report(answer, loaded, tokens)
        rows = _measure(console, report)

    cells = [row.cells() for row in rows]
    console.print(plain_table(f"{loaded.name}, {text.name}: {len(tokens)} tokens", COLUMNS, cells))
    notes = _notes(rows)
    for note in notes:
        console.print(note, highlight=False)
    about = {"machine": describe_machine(), "model": loaded.name, "text": {"name": text.name, "tokens": len(tokens)}}
    document = {**about, "formats": [asdict(row) for row in rows]}
    write_results(console, out, "quantize", document, "\n\n".join([markdown(COLUMNS, cells), *notes]))


def _measure(console: Console, report: Report) -> list[Row]:
    rows = []
    with make_progress(console) as progress:
        bar = progress.add_task("formats", total=len(FORMATS))
        for form in FORMATS:
            progress.update(bar, description=form.name)
            rows.append(report.measure(form))
            progress.advance(bar)
    return rows


def _notes(rows: list[Row]) -> list[str]:
    """What a row's name does not say."""
    return [
        f"{row.format}: the rows of {row.odd_matrices} of {row.matrices} matrices are no multiple of that. "
        "These have smaller groups, or stay in float16."
        for row in rows
        if row.odd_matrices
    ]


if __name__ == "__main__":
    main(prog_name="pdm run quantize-report")
