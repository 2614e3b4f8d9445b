"""`pdm run stress`: random schedules with accidents of every kind; what must hold of an engine has to hold in each."""

import click

from tiny_llm_kit.bench.stress import Broken, Stress
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.progress import progress_bar
from tiny_llm_kit.cli.tables import make_console


@click.command()
@click.option("--schedules", type=click.IntRange(min=1), default=1000, show_default=True, help="How many to run.")
@click.option("--first", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the first one.")
@click.option("--solution", default="ref", show_default=True, help="Whose engine: ref, or tiny_llm for your own.")
@ends_politely()
def main(schedules: int, first: int, solution: str) -> None:
    """Serve random schedules of requests: arrivals, cancels, failing models, NaN, Ctrl-C, callbacks that misbehave.

    After each step every slot must be accounted for; in the end every request must have been returned once, with the tokens
    that it gets alone. A schedule follows from its number (but for the moment at which a signal comes).
    """
    console = make_console()
    stress = Stress(import_answer(solution))
    with progress_bar(console, "schedules", schedules) as bar:
        for number in range(first, first + schedules):
            try:
                stress.run(number)
            except Broken as broken:
                bar.print(f"{broken}\nAgain: pdm run stress --first {number} --schedules 1")
                raise SystemExit(1) from None
            bar.advance()
    counts = stress.counts
    console.print(
        f"{counts.schedules} schedules, {counts.steps} steps, {counts.requests} requests: {counts.cancelled} cancelled,"
        f" {counts.errors} ended by an accident, {counts.interruptions} interruptions. Every other answer was whole, no token"
        " was another than alone, and no slot was lost."
    )
