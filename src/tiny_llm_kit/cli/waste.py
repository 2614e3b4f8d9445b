"""`pdm run waste`: how much of the memory for keys and values is wasted in slots, and in blocks."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from tiny_llm_kit.bench import waste
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.cli.options import out_option, seed_type
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import progress_bar
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.lists import SEEDED, WORKLOADS

VOCABULARY = 49152
"""Token ids are not used; the lists are those that the embedded model gets."""


@click.command()
@click.option("--workload", type=click.Choice(SEEDED), default="heavy-tail", show_default=True, help="Whose lengths.")
@click.option("--requests", type=click.IntRange(min=2), default=256, show_default=True, help="How many come, all at once.")
@click.option("--seed", type=seed_type, default=1661, show_default=True, help="Seed of the first list; further ones count up.")
@click.option("--slots", type=click.IntRange(min=1), default=8, show_default=True, help="The available memory, in slots.")
@click.option("--max-seq-len", type=click.IntRange(min=1), help="Tokens per slot.  [default: the longest request's]")
@click.option(
    "--block-size", "block_sizes", multiple=True, type=click.IntRange(min=1), default=(8, 16, 32, 64), show_default=True,
    help="Tokens per block; repeatable.",
)  # fmt: skip
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose block pool: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    workload: str,
    requests: int,
    seed: int,
    slots: int,
    max_seq_len: int | None,
    block_sizes: Sequence[int],
    out: Path,
    solution: str,
) -> None:
    """Play a workload over slots, and over blocks in the same memory: what is reserved, what is wasted, how many run at a time.

    Means are over the steps in which requests wait. Everything is counted, so a busy machine changes nothing.
    """
    console = make_console()
    answer = import_answer(solution)
    items = _items(workload, requests, seed)
    longest = needed_seq_len(items)
    if requests <= slots:
        raise BadInput(f"{requests} requests never wait for {slots} slots: give more --requests or fewer --slots")
    if max_seq_len is not None and max_seq_len < longest:
        raise BadInput(f"--max-seq-len {max_seq_len} is shorter than the longest request: it has {longest} tokens")
    slot = max_seq_len or longest
    tokens = slots * slot
    usages: list[waste.Usage] = []
    with progress_bar(console, "sizes", 1 + len(block_sizes)) as bar:
        for size in (slot, *dict.fromkeys(block_sizes)):
            bar.describe(f"blocks of {size} tokens" if usages else f"slots of {size} tokens")
            try:
                usages.append(waste.play(answer, items, tokens, size))
            except ValueError as error:
                raise BadInput(str(error)) from None
            bar.advance()

    title = f"{workload}, {requests} requests, memory for {tokens:,} tokens ({slots} slots of {slot})"
    cells = waste.rows(usages)
    console.print(plain_table(title, waste.COLUMNS, cells))
    document = {
        "machine": describe_machine(),
        "workload": {"name": workload, "requests": requests, "seed": seed},
        "tokens": tokens,
        "usages": [
            asdict(usage) | {"held": usage.held, "reserved": usage.reserved, "in_flight": usage.in_flight} for usage in usages
        ],
    }
    draw = partial(waste.draw, usages, tokens=tokens, title=title)
    write_results(console, out, "waste", document, "\n\n".join([title, markdown(waste.COLUMNS, cells)]), draw)


def _items(workload: str, requests: int, seed: int) -> list[WorkItem]:
    """This many requests, from as many lists of the workload as it takes."""
    items: list[WorkItem] = []
    while len(items) < requests:
        items += WORKLOADS[workload](VOCABULARY, seed=seed)
        seed += 1
    return items[:requests]
