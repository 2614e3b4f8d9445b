"""`pdm run timeline`: a worked example as a picture, and the page of a trace that another program wrote."""

from pathlib import Path

import click

from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.options import trace_files, trace_option
from tiny_llm_kit.cli.outputs import OutFile, check_apart, write_text
from tiny_llm_kit.cli.tables import make_console, plain_table
from tiny_llm_kit.cli.text import for_markup, harmless
from tiny_llm_kit.timeline.figure import as_figure
from tiny_llm_kit.timeline.files import page_beside, read_trace, write_page, write_runs
from tiny_llm_kit.timeline.run import Run
from tiny_llm_kit.timeline.worked_example import SLOTS, places, play

EXAMPLE = Path("results/worked-example.json")
COLUMNS = ["", "steps", "places", "used", "share"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--example", is_flag=True, help="Requests of 4, 12 and 8 steps in three slots, and two that follow.")
@trace_option
@click.option("--svg", "svg_file", type=OutFile(), help="Also draw it as one picture, an SVG file.")
@click.option("--solution", default="ref", show_default=True, help="Whose engines: ref, or tiny_llm for your own.")
@ends_politely()
def main(file: Path | None, example: bool, trace: Path | None, svg_file: Path | None, solution: str) -> None:
    """Turn FILE, a trace that --trace wrote, into its page (.html, next to it) again; or play an example.

    The example is static batching next to continuous batching, by the real engines over a toy model, in steps. Its trace goes
    to results/worked-example.json, unless --trace names another file.
    """
    console = make_console()
    if example == (file is not None):
        raise ValueError("give either the FILE of a trace or --example")
    if file is not None:
        if trace is not None:
            raise ValueError("--trace means nothing to a FILE, which is a trace already: leave it out")
        page = OutFile().convert(page_beside(file), None, None)
        check_apart({"FILE": file, "its page": page, "--svg": svg_file})
        runs = read_trace(file)
        write_page(console, page, runs)
    else:
        trace = trace or EXAMPLE
        check_apart({"--svg": svg_file, **trace_files(trace)})
        runs = play(import_answer(solution))
        console.print(plain_table(f"{SLOTS} slots, a place is a slot in a step", COLUMNS, _rows(runs)))
        write_runs(console, trace, runs)
    if svg_file:
        write_text(svg_file, for_markup(as_figure(runs)))
        console.print(harmless(f"Written: {svg_file}"), markup=False, highlight=False, soft_wrap=True)


def _rows(runs: list[Run]) -> list[list[str]]:
    static, continuous = runs
    batch = max(life.ended or 0.0 for life in static.lives[:SLOTS])
    return [
        _row("static, the first batch", static, batch),
        _row("static", static, static.duration),
        _row("continuous", continuous, continuous.duration),
    ]


def _row(name: str, run: Run, until: float) -> list[str]:
    used, there = places(run, until)
    return [name, f"{until:g}", str(there), str(used), f"{used / there:.0%}"]
