"""`pdm run bench-steps`: what a decode step costs over its rows, and whether prompts gain from sharing a call."""

from pathlib import Path

import click

from tiny_llm_kit.bench import sharing
from tiny_llm_kit.bench.paged_steps import paged_decode_seconds, two_paged_prompts
from tiny_llm_kit.bench.step_profile import LENGTH, REPEATS, decode_seconds
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, import_answer
from tiny_llm_kit.cli.options import Numbers, engine_option, kernels_option, model_option, out_option
from tiny_llm_kit.cli.outputs import write_results
from tiny_llm_kit.cli.progress import progress_bar, working
from tiny_llm_kit.cli.tables import make_console, markdown, plain_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import LoadMeter, describe_machine
from tiny_llm_kit.models.load import load


@click.command()
@model_option
@engine_option
@click.option("--rows", type=Numbers(), default=",".join(map(str, sharing.ROWS)), show_default=True, help="In a decode step.")
@kernels_option
@out_option
@click.option("--solution", default="ref", show_default=True, help="Whose model: ref, or tiny_llm for your own.")
@ends_politely()
def main(model: str | None, engine: str, rows: list[int], kernels: str | None, out: Path, solution: str) -> None:
    """Measure what sharing a call gains: rows in a decode step, and two prompts in one call.

    Every time is the shortest of several. Close what you can before you start; it takes about two minutes on two cores.
    """
    console = make_console()
    answer = import_answer(solution)
    with working(console, "Loading the model"):
        loaded = load(model, keep_quantized=False)
        network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
    decode, prompts = {}, {}
    sizes = sorted({1, *rows})
    with LoadMeter() as meter, progress_bar(console, "steps", len(sizes) + len(sharing.PROMPT_TOKENS)) as bar:
        for size in sizes:
            bar.describe(f"a decode step, rows: {size}")
            if engine == "paged":
                decode[size] = paged_decode_seconds(answer, network, size, kernels=kernels)
            else:
                decode[size] = decode_seconds(answer, network, size)
            bar.advance()
        for tokens in sharing.PROMPT_TOKENS:
            bar.describe(f"two prompts of {tokens} tokens")
            if engine == "paged":
                prompts[tokens] = two_paged_prompts(answer, network, tokens, kernels)
            else:
                prompts[tokens] = sharing.two_prompts(network, tokens)
            bar.advance()

    decode_cells, prompt_cells = sharing.decode_rows(decode), sharing.prompt_rows(prompts)
    console.print(
        plain_table(harmless(f"{loaded.name}, {engine}: rows of {LENGTH} tokens"), sharing.DECODE_COLUMNS, decode_cells)
    )
    console.print(plain_table("two prompts", sharing.PROMPT_COLUMNS, prompt_cells))
    note = f"Times are the shortest of {REPEATS}. Meanwhile other programs had {meter.others:.0%} of the CPU."
    console.print(note if not meter.noisy() else f"{note} That is too much: run it again on a quiet machine.", highlight=False)
    about = {"machine": describe_machine(), "model": loaded.name, "engine": engine, "kernels": kernels, "others": meter.others}
    tables = [markdown(sharing.DECODE_COLUMNS, decode_cells), markdown(sharing.PROMPT_COLUMNS, prompt_cells), note]
    write_results(console, out, "steps", {**about, "decode": decode, "prompts": prompts}, "\n\n".join(tables))
