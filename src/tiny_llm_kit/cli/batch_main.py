"""`pdm run batch-main`: answer a batch of prompts through continuous batching, and watch it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from metal_anywhere.backend import backend
from tiny_llm_kit.bench.counting_model import CountingModel
from tiny_llm_kit.bench.step_times import Forecast, measure_step_times
from tiny_llm_kit.cli import batch_report, outlook
from tiny_llm_kit.cli.answers import choose_operators, ends_politely, first_failure, import_answer
from tiny_llm_kit.cli.comparison import ScheduleRun, compare_runs, other_schedules, serve, too_few
from tiny_llm_kit.cli.live import make_view
from tiny_llm_kit.cli.options import (
    Real,
    engine_option,
    kernels_option,
    kv_bits_option,
    model_option,
    paged_options,
    paged_sizes,
    refuse,
    seed_type,
    speculate_option,
    trace_files,
    trace_option,
)
from tiny_llm_kit.cli.outputs import OutFile, check_apart, write_json
from tiny_llm_kit.cli.progress import working
from tiny_llm_kit.cli.served_engines import PagedEngine, ServedEngine, SlotEngine
from tiny_llm_kit.cli.tables import make_console
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.models.load import load
from tiny_llm_kit.timeline import write_trace
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.lists import CHAT_PROMPTS
from tiny_llm_kit.workloads.memory import check_paged, check_slots_fit
from tiny_llm_kit.workloads.prompts import make_prompts, read_prompts
from tiny_llm_kit.workloads.requests import fitted, in_chat_form, make_requests, shortened

STRATEGIES = ("fifo", "shortest-remaining", "length-balance")
PREFILL_STEP = 128


@click.command()
@model_option
@click.option("--prompts", "prompts_file", type=Path, help="A .json list, or a text file with one prompt per line.")
@click.option("--prompt", "prompt_texts", multiple=True, help="A prompt; may be given several times.")
@click.option("--first", type=click.IntRange(min=1), help="Only this many of the prompts.  [default: all]")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Slots, or the memory of this many."
)
@engine_option
@click.option("--prefill-step", type=click.IntRange(min=1), help="Slots: prompt tokens per step.  [default: 128]")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens per answer.  [default: the prompt's own, or 64]")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="Slots: how the next request is chosen.  [default: fifo]")
@paged_options
@kv_bits_option
@speculate_option
@click.option("--temperature", type=Real(min=0), default=0.0, help="0, the default, takes the likeliest token.")
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="Keep the k likeliest tokens; 0, the default, all.")
@click.option("--top-p", type=Real(0, 1, min_open=True), default=1.0, help="Keep the likeliest, up to this share.")
@click.option("--min-p", type=Real(0, 1), default=0.0, help="Keep tokens at least this likely relative to the likeliest.")
@click.option("--repetition-penalty", type=Real(0, min_open=True), default=1.0, help="Above 1: repeat less.")
@click.option("--seed", type=seed_type, default=0, show_default=True, help="Request i draws with seed + i.")
@kernels_option
@click.option("--compare", is_flag=True, help="Then serve the same prompts with other schedules.")
@trace_option
@click.option("--json", "json_file", type=OutFile(), help="Write answers and figures to this file.")
@click.option("--solution", default="ref", show_default=True, help="Whose engine: ref, or tiny_llm for your own.")
@ends_politely()
def main(
    model: str | None,
    prompts_file: Path | None,
    prompt_texts: tuple[str, ...],
    first: int | None,
    batch_size: int,
    engine: str,
    prefill_step: int | None,
    max_tokens: int | None,
    strategy: str | None,
    block_size: int | None,
    num_blocks: int | None,
    max_num_seqs: int | None,
    max_num_batched_tokens: int | None,
    kv_bits: int | None,
    speculate: str | None,
    kernels: str | None,
    compare: bool,
    trace: Path | None,
    json_file: Path | None,
    solution: str,
    **sampling: Any,
) -> None:
    """Answer a batch of prompts through continuous batching, and watch requests join and leave.

    With --engine paged they share blocks and the work on equal prefixes; --compare then includes the slot engine, too. With
    --speculate ngram, an answer that repeats something takes fewer steps, and is the same.

    Without --prompts or --prompt: the forty chat prompts that come with the course. The exit code is 1 if a request fails.
    """
    console = make_console()
    answer = import_answer(solution)
    check_apart({"--prompts": prompts_file, "--json": json_file, **trace_files(trace)})
    params = answer.SamplingParams(**sampling)
    paged: dict[str, Any] = {
        "block_size": block_size,
        "num_blocks": num_blocks,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max_num_batched_tokens,
        "kv_bits": kv_bits,
        "speculate": speculate,
    }
    if engine == "paged":
        refuse(engine, prefill_step=prefill_step, strategy=strategy)
    else:
        refuse(engine, **paged)
    prefill_step, sizes = prefill_step or PREFILL_STEP, paged_sizes(**paged)
    prompts = shortened(_prompts(prompts_file, prompt_texts)[:first], max_tokens)
    with working(console, "Loading the model"):
        # The course's kernels are made for packed weights, which a CPU would unpack otherwise.
        loaded = load(model, keep_quantized=True if kernels == "course" else None)
        items = fitted(in_chat_form(prompts, loaded.tokenizer), loaded)
        slots = min(batch_size, len(items))
        if engine == "paged":
            check_paged(loaded, [items], [slots], sizes)
        if engine == "slots" or compare:
            check_slots_fit(loaded, slots, needed_seq_len(items))
        network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
    if engine == "paged":
        memory, tokens = outlook.blocks(sizes.blocks(slots, items), sizes.block_size), sizes.max_num_batched_tokens
    else:
        memory, tokens = outlook.slots(slots, batch_size), prefill_step
    console.print(outlook.what_is_served(loaded.name, items, memory, tokens), highlight=False)
    with working(console, "Timing a few steps"), LoadMeter() as meter:
        times = measure_step_times(answer, network, slots, slow=kernels == "course" and backend() == "cpu")
    console.print(outlook.how_long(times, items, compare, meter), highlight=False, soft_wrap=True)
    if compare and (few := too_few(len(items), batch_size)):
        console.print(few, highlight=False, soft_wrap=True)

    def new_requests(on_update: Callable[..., None] | None = None, paged: bool = False) -> list[Any]:
        return make_requests(answer, items, loaded.tokenizer, params, on_update, paged)

    counting = CountingModel(network)
    served: ServedEngine
    if engine == "paged":
        served = PagedEngine(answer, counting, items, slots, sizes, kernels)
    else:
        served = SlotEngine(answer, counting, items, slots, prefill_step, strategy or STRATEGIES[0])
    recorder = served.recorder([item.label or str(number) for number, item in enumerate(items, start=1)])
    if trace:
        served.engine.event_log.readers.append(recorder.read)
    requests = new_requests(paged=engine == "paged")
    forecast = Forecast(times, requests)
    with LoadMeter() as meter:
        crowded = _watch(console, served, requests, items, forecast)
    batch_report.print_answers(console, requests, items)
    batch_report.print_metrics(console, served.engine.metrics, served.summary(crowded))
    if trace:
        write_trace(console, trace, [recorder])
    document = batch_report.as_document(loaded.name, slots, served, requests, items, crowded)
    failure = first_failure(requests, items)
    try:
        if compare and not failure:
            runs = [ScheduleRun(served.name, requests, served.engine.metrics, len(counting.calls), meter)]
            for schedule in other_schedules(answer, items, runs[0], times.scaled(forecast.pace()), prefill_step):
                runs.append(serve(console, schedule, network, new_requests))
                failure = failure or first_failure(runs[-1].requests, items)
            document["comparison"] = compare_runs(console, runs, batch_size, kv_bits)
    finally:  # the answers are there, however the comparison ends
        if json_file:
            write_json(json_file, document)
            console.print(harmless(f"Written: {json_file}"), markup=False, highlight=False, soft_wrap=True)
    if failure:
        raise click.ClickException(failure)


def _prompts(prompts_file: Path | None, texts: Sequence[str]) -> list[WorkItem]:
    if prompts_file and texts:
        raise ValueError("--prompts and --prompt were both given: choose one")
    return make_prompts(texts, "--prompt") if texts else read_prompts(prompts_file or CHAT_PROMPTS)


def _watch(
    console: Console,
    served: ServedEngine,
    requests: Sequence[Any],
    items: Sequence[WorkItem],
    seconds_left: Callable[[], float],
) -> float | None:
    """Serve all; return the share of slots in use while requests waited, None if none ever did."""
    scheduler = served.engine
    for number, request in enumerate(requests, start=1):
        try:
            scheduler.submit(request)
        except ValueError as error:
            raise ValueError(f"prompt {number} ({items[number - 1].label}) was refused: {error}") from None
    with make_view(console, requests, [item.label for item in items], served, seconds_left) as view:
        waited = False
        while scheduler.has_work:
            scheduler.step()
            waited = waited or scheduler.metrics.queue_size > 0
            view.show(list(scheduler.running.values()), len(scheduler.waiting))
    return float(scheduler.metrics.slot_utilization_while_waiting) if waited else None
