"""`pdm run bench`: batch sizes and engines, in turn, in one run."""

import tiny_llm_kit.cli  # noqa: F401  # first: from here on Ctrl-C is one line

# isort: split

import gc
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from tiny_llm_kit.bench import overhead, report
from tiny_llm_kit.bench.engines import AnswerEngines, MlxLmEngine
from tiny_llm_kit.bench.run import Case, Result, Run, run_in_turn
from tiny_llm_kit.cli.answers import choose_operators, import_answer, kernels_option, unfinished_tasks_end_the_program
from tiny_llm_kit.cli.results import write_results
from tiny_llm_kit.cli.tables import make_console, make_progress, markdown, plain_table
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.workloads.lists import WORKLOADS, workload

ENGINES = ("sequential", "static", "continuous", "mlx-lm")
TARGET_SLOTS = 8


class Numbers(click.ParamType):
    """A list of positive numbers, with commas between them."""

    name = "N,N,…"

    def convert(self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            numbers = sorted({int(part) for part in value.split(",")})
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 1,2,4", param, ctx)
        if numbers[0] < 1:
            self.fail(f"{numbers[0]} is no batch size: it must be at least 1", param, ctx)
        return numbers


@click.command()
@click.option("--model", help="A hub name, a folder or a .gguf file.  [default: the embedded SmolLM2-135M-Instruct]")
@click.option("--batch-sizes", type=Numbers(), default="1,2,4,8,16", show_default=True, help="Slots to try.")
@click.option("--engine", "engines", type=click.Choice(ENGINES), multiple=True, help="Only these.  [default: all]")
@click.option("--workload", "workload_name", type=click.Choice(list(WORKLOADS)), default="heavy-tail", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Quiet runs of each case.")
@click.option("--prefill-step", type=click.IntRange(min=1), default=128, show_default=True, help="Prompt tokens a step.")
@kernels_option
@click.option("--noise", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="CPU share others may have.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("results"), show_default=True)
@click.option("--solution", default="ref", show_default=True, help="Whose engine: ref, or tiny_llm for your own.")
def main(
    model: str | None,
    batch_sizes: list[int],
    engines: tuple[str, ...],
    workload_name: str,
    repeats: int,
    prefill_step: int,
    kernels: str | None,
    noise: float,
    out: Path,
    solution: str,
) -> None:
    """Compare engines over batch sizes: same weights, dtype, BLAS and tokens, in turn, in one run.

    A run during which other programs had more than --noise of the CPU is repeated, and does not count. Close what you can
    before you start; the whole takes about three quarters of an hour on two cores.
    """
    console = make_console()
    with unfinished_tasks_end_the_program():
        answer = import_answer(solution)
        with console.status("Loading the model …"):
            loaded = load(model, keep_quantized=False)
            network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
            items = workload(workload_name, loaded.tokenizer)
            ours = AnswerEngines(answer, network, items, prefill_step)
            peer = MlxLmEngine(loaded.config, loaded.weights, items)
        gc.freeze()  # what is loaded stays; servers too keep the collector from walking through it again and again
        serve = {"sequential": ours.sequential, "static": ours.static, "continuous": ours.continuous, "mlx-lm": peer.serve}
        chosen = [engine for engine in ENGINES if not engines or engine in engines]
        cases = [
            Case(engine, size, lambda engine=engine, size=size: serve[engine](size))  # type: ignore[misc]
            for engine in chosen
            for size in ([1] if engine == "sequential" else batch_sizes)
        ]
        with console.status("Measuring what an iteration costs beside the model …"):
            slots = TARGET_SLOTS if TARGET_SLOTS in batch_sizes else batch_sizes[-1]
            beside_model = overhead.share_beside_model(answer, network, items, slots, prefill_step)
            host_us = overhead.host_microseconds(answer)
        results = _run(console, cases, repeats, noise)
        sequential = next((result for result in results if result.case.engine == "sequential"), None)
        alone = sequential.runs[0].served.tokens if sequential else ours.sequential().tokens

    goals = report.targets(results, slots, alone, beside_model, host_us)
    tokens = sum(item.max_tokens for item in items)
    title = f"{loaded.name}, {workload_name}: {len(items)} requests, {tokens} tokens"
    console.print(plain_table(title, report.COLUMNS, report.rows(results)))
    console.print(plain_table("targets", ["", "wanted", "measured", "reached"], [goal.row() for goal in goals]))
    about = {
        "machine": describe_machine(),
        "model": loaded.name,
        "workload": {"name": workload_name, "requests": len(items), "generated_tokens": tokens},
        "prefill_step": prefill_step,
        "kernels": kernels,
        "repeats": repeats,
    }
    tables = [
        markdown(report.COLUMNS, report.rows(results)),
        markdown(["", "wanted", "measured", "reached"], [goal.row() for goal in goals]),
    ]
    document = report.as_json(results, goals, about)
    write_results(console, out, "bench", document, "\n\n".join(tables), partial(report.draw, results, title=title))
    if any(not result.quiet for result in results):
        console.print("Some cases had no quiet run and so have no result: close other programs, and run again.")
        raise SystemExit(1)


def _run(console: Console, cases: list[Case], repeats: int, noise: float) -> list[Result]:
    with make_progress(console) as progress:
        bar = progress.add_task("engines in turn", total=len(cases) * repeats)

        def on_run(case: Case, run: Run) -> None:
            speed = sum(map(len, run.served.tokens)) / run.seconds
            verdict = f"others had {run.others:.0%} of the CPU: not counted" if run.noisy else f"others {run.others:.1%}"
            progress.console.print(f"{case.engine:>10} {case.batch_size:>3} slots  {speed:6.1f} tokens/s  ({verdict})")
            progress.update(bar, advance=0 if run.noisy else 1)

        return run_in_turn(cases, repeats, noise, on_run)


if __name__ == "__main__":
    main(prog_name="pdm run bench")
