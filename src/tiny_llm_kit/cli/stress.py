"""`pdm run stress`: random schedules with accidents of every kind; what must hold for an engine has to hold in each."""

import click

from tiny_llm_kit.bench.stress import SCHEDULES, Broken, Stress
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.options import kv_bits_option, refuse, speculate_option
from tiny_llm_kit.cli.progress import progress_bar
from tiny_llm_kit.cli.tables import make_console


@click.command()
@click.option("--schedules", type=click.IntRange(min=1), default=1000, show_default=True, help="How many to run.")
@click.option("--first", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the first schedule.")
@click.option("--engine", type=click.Choice(list(SCHEDULES)), default="slots", show_default=True, help="Which engine.")
@kv_bits_option
@speculate_option
@click.option("--solution", default="ref", show_default=True, help="Whose engine: ref, or tiny_llm for your own.")
@ends_politely()
def main(schedules: int, first: int, engine: str, kv_bits: int | None, speculate: str | None, solution: str) -> None:
    """Serve random schedules of requests: arrivals, cancels, failing models, NaN, Ctrl-C, callbacks that misbehave.

    After each step every slot, or block, must be accounted for; in the end every request must have been returned once, with the
    tokens that it gets alone. A schedule follows from its number (except for the moment at which a signal comes). On the paged
    engine, with models of all architectures, requests also share prefixes, run out of blocks and of time, and are preempted at
    any moment; no step may call the model twice, exceed its budget, or do nothing while there is work. With --kv-bits, what a
    request gets alone is what it gets over keys and values that are stored in this many bits. With --speculate, drafts are
    among the tokens of a step: n-grams, and guesses of a drafter that knows the answers and errs at times.
    """
    console = make_console()
    if engine != "paged":
        refuse(engine, kv_bits=kv_bits, speculate=speculate)
    stress = Stress(import_answer(solution), engine, kv_bits, speculate)
    options = f"{f' --kv-bits {kv_bits}' if kv_bits else ''}{f' --speculate {speculate}' if speculate else ''}"
    with progress_bar(console, "schedules", schedules) as bar:
        for number in range(first, first + schedules):
            try:
                stress.run(number)
            except Broken as broken:
                bar.print(f"{broken}\nAgain: pdm run stress --engine {engine}{options} --first {number} --schedules 1")
                raise SystemExit(1) from None
            bar.advance()
    counts = stress.counts
    shared = f", {counts.preemptions} preemptions, {counts.shared_tokens} prompt tokens shared" if engine == "paged" else ""
    if speculate:
        shared += f", {counts.accepted} of {counts.drafted} drafts accepted"
    console.print(
        f"{engine}{options}: {counts.schedules} schedules, {counts.steps} steps, {counts.requests} requests: {counts.cancelled}"
        f" cancelled, {counts.errors} ended by an accident, {counts.interruptions} interruptions{shared}. Every other answer"
        f" was whole, no token differed from the request's alone, and no {'block' if engine == 'paged' else 'slot'} was lost."
    )
