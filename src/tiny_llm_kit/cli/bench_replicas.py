"""`pdm run bench-replicas`: which replica serves which request, and what difference that makes: routers compared in
simulation."""

from dataclasses import asdict
from pathlib import Path

import click

from tiny_llm_kit.bench import autoscaling
from tiny_llm_kit.bench import replicas as bench
from tiny_llm_kit.bench.report import TARGET_COLUMNS
from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.cli.costs import choose_cost, cost_options
from tiny_llm_kit.cli.options import Real, out_option, paged_options, paged_sizes
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import progress_bar, working
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.shapes import SHAPES, shape
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.streams import arriving
from tiny_llm_kit.workloads.tenants import tenants as requests_of_tenants

MODEL = "llama-3-8b"
SLOTS = 64
"""The memory of a replica, unless --num-blocks says otherwise: as many tokens as this many slots hold."""
LOAD = 0.8
NOTE = (
    "Simulated: the engine's own scheduler, blocks and prefix cache, one device per replica. Computed: prompt tokens, and"
    " what preempted requests computed again; load: tokens that a replica computed and generated. Means over the lists"
    " (least … most)."
)


@click.command()
@click.option("--replicas", type=click.IntRange(2, 64), default=4, show_default=True, help="How many there are.")
@click.option("--requests", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="In each list.")
@click.option(
    "--tenants", type=click.IntRange(1, 10_000), default=128, show_default=True, help="Each has a system prompt of 400 tokens."
)
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Lists of requests: seeds from 1 on.")
@click.option(
    "--rate",
    type=Real(1e-6, 1e9),
    help=f"Requests per second, at random.  [default: {LOAD} of what round robin gets through on the first list]",
)
@click.option(
    "--autoscale", is_flag=True, help="Also a number of replicas that follows a wave of requests; takes some seconds more."
)
@paged_options
@cost_options(MODEL)
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose routers: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    replicas: int,
    requests: int,
    tenants: int,
    seeds: int,
    rate: float | None,
    autoscale: bool,
    fit_file: Path | None,
    preset: str | None,
    model: str | None,
    config_file: Path | None,
    bytes_per_weight: float | None,
    out: Path,
    solution: str,
    **sizes: int | None,
) -> None:
    """Compare routers in front of several replicas: the same requests at the same times, and only the replicas that serve them
    differ.

    The requests are those of several tenants of unequal size, each with a system prompt of its own; together these are larger
    than the prefix cache of one replica. Nothing is measured in real time, so other programs do not matter.
    """
    console = make_console()
    answer = import_answer(solution)
    cost, about_cost = choose_cost(answer, MODEL, fit_file, preset, model, config_file, bytes_per_weight)
    paged = paged_sizes(**sizes)
    paged.check()
    vocab_size = shape(SHAPES[0]).vocab_size
    with working(console, "Making the requests"):
        lists = {seed: requests_of_tenants(vocab_size, tenants, requests, seed) for seed in range(1, seeds + 1)}
        blocks = max(paged.blocks(SLOTS, items) for items in lists.values())
    engine = answer.EngineSizes(**paged.of_schedule(blocks))
    wave: list[WorkItem] = []
    if autoscale:
        with working(console, "Making a wave of requests"):
            capacity = bench.sustainable(answer, lists[1], 1, cost, engine)
            items = requests_of_tenants(vocab_size, tenants, autoscaling.wave_size(capacity), seed=1)
            wave = autoscaling.wave(answer, items, capacity, seed=1)
    with progress_bar(console, "simulating", total=seeds * len(bench.routers(answer, 1, 1, 0)) + (rate is None)) as bar:

        def done(router: str, seed: int) -> None:
            bar.describe(f"list {seed}: {router} is done")
            bar.advance()

        if rate is None:
            bar.describe("how many requests get through")
            rate = LOAD * bench.sustainable(answer, lists[1], replicas, cost, engine)
            bar.advance()
        coming = {seed: list(arriving(answer, items, rate, 1.0, seed)) for seed, items in lists.items()}
        found = bench.compare(answer, coming, replicas, cost, engine, done)
    moved = bench.moved_keys(answer, replicas)
    scaled: list[autoscaling.Scaled] = []
    if wave:
        with progress_bar(console, "simulating a wave", total=3) as bar:
            scaled = autoscaling.compare(answer, wave, replicas, cost, engine, lambda _: bar.advance())

    cells, goals = bench.rows(found), bench.targets(found, moved)
    title = f"{replicas} replicas of {about_cost['words']}, {requests} requests of {tenants} tenants at {rate:,.3g} a second"
    console.print(plain_table(harmless(title), bench.COLUMNS, cells))
    console.print(plain_table("targets", TARGET_COLUMNS, [goal.row() for goal in goals]))
    if scaled:
        wave_title = f"{len(wave):,} requests in a wave: {autoscaling.describe_wave()}"
        console.print(plain_table(wave_title, autoscaling.COLUMNS, autoscaling.rows(scaled)))
    console.print(NOTE, highlight=False)
    document = {
        "machine": describe_machine(),
        "cost": about_cost,
        "replicas": replicas,
        "requests": {"tenants": tenants, "count": requests, "rate": rate, "seeds": list(lists)},
        "engine": asdict(engine),
        "routers": [asdict(one) for one in found],
        "moved_keys_times_replicas": moved,
        "autoscaling": [asdict(one) for one in scaled],
        "targets": [goal.as_json() for goal in goals],
    }
    tables = [
        f"{title}\n\n{markdown(bench.COLUMNS, cells)}",
        markdown(TARGET_COLUMNS, [goal.row() for goal in goals]),
        *([f"{wave_title}\n\n{markdown(autoscaling.COLUMNS, autoscaling.rows(scaled))}"] if scaled else []),
        NOTE,
    ]
    write_results(console, out, "replicas", document, "\n\n".join(tables))
