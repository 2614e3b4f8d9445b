"""`pdm run batch-main`: answer a batch of prompts through continuous batching, and watch it."""

import tiny_llm_kit.cli  # noqa: F401  # first: from here on Ctrl-C is one line

# isort: split

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from metal_anywhere.backend import backend
from tiny_llm_kit.cli.answers import choose_operators, import_answer, kernels_option, unfinished_tasks_end_the_program
from tiny_llm_kit.cli.live import make_view
from tiny_llm_kit.cli.tables import as_figures, latency_table, make_console, make_progress, plain_table
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.models.load import load
from tiny_llm_kit.workloads.jobs import Job, make_jobs, make_requests, needed_seq_len
from tiny_llm_kit.workloads.lists import CHAT_PROMPTS
from tiny_llm_kit.workloads.prompts import Prompt, make_prompts, read_prompts

DEFAULT_MAX_TOKENS = 64
STRATEGIES = ("fifo", "shortest-remaining", "length-balance")


@click.command()
@click.option("--model", help="A hub name, a folder or a .gguf file.  [default: the embedded SmolLM2-135M-Instruct]")
@click.option("--prompts", "prompts_file", type=Path, help="A .json list, or a text file with a prompt a line.")
@click.option("--prompt", "prompt_texts", multiple=True, help="A prompt; may be given several times.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Slots: rows of a step.")
@click.option("--prefill-step", type=click.IntRange(min=1), default=128, show_default=True, help="Prompt tokens a step.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens of an answer.  [default: the prompt's own, or 64]")
@click.option("--strategy", type=click.Choice(STRATEGIES), default="fifo", show_default=True, help="Who is admitted next.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, help="0, the default, takes the likeliest token.")
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="Keep the k likeliest tokens; 0, the default, all.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Keep the likeliest, up to this share.")
@click.option("--min-p", type=click.FloatRange(0, 1), default=0.0, help="Keep tokens this likely, beside the likeliest.")
@click.option("--repetition-penalty", type=click.FloatRange(0, min_open=True), default=1.0, help="Above 1: repeat less.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Request i draws with seed + i.")
@kernels_option
@click.option("--compare", is_flag=True, help="Then serve the same prompts one at a time, and in static batches.")
@click.option("--json", "json_file", type=Path, help="Write answers and figures to this file.")
@click.option("--solution", default="ref", show_default=True, help="Whose engine: ref, or tiny_llm for your own.")
def main(
    model: str | None,
    prompts_file: Path | None,
    prompt_texts: tuple[str, ...],
    batch_size: int,
    prefill_step: int,
    max_tokens: int | None,
    strategy: str,
    kernels: str | None,
    compare: bool,
    json_file: Path | None,
    solution: str,
    **sampling: Any,
) -> None:
    """Answer a batch of prompts through continuous batching, and watch requests join and leave.

    Without --prompts or --prompt: the forty chat prompts that come with the course.
    """
    console = make_console()
    with unfinished_tasks_end_the_program():
        answer = import_answer(solution)
        params = answer.SamplingParams(**sampling)
        prompts = _prompts(prompts_file, prompt_texts)
        with console.status("Loading the model …"):
            # The course's kernels are made for packed weights, which a CPU would unpack otherwise.
            loaded = load(model, keep_quantized=True if kernels == "course" else None)
            jobs = make_jobs(loaded, prompts, DEFAULT_MAX_TOKENS, max_tokens)
            network = answer.Model(loaded.config, loaded.weights, choose_operators(answer, kernels))
        if kernels == "course" and backend() == "cpu":
            console.print("The CPU runner watches every step of the kernels: it checks them, and takes seconds for a token.")
        console.print(f"{loaded.name}: {len(jobs)} prompts, {batch_size} slots, {prefill_step} prompt tokens a step")

        scheduler = answer.ContinuousBatchScheduler(
            network,
            batch_size,
            max_seq_len=needed_seq_len(jobs),
            prefill_step=prefill_step,
            strategy=answer.STRATEGIES[strategy](),
        )
        requests = make_requests(answer, jobs, loaded.tokenizer, params)
        _watch(console, scheduler, requests, jobs)
        _print_answers(console, requests, jobs)
        _print_metrics(console, scheduler.metrics)
        report = _report(loaded.name, batch_size, strategy, requests, jobs, scheduler.metrics)
        if compare:
            runs = {"one at a time": (answer.run_sequential, ()), "static batches": (answer.run_static, (batch_size,))}
            baselines = {
                name: _baseline(console, name, answer, network, jobs, loaded.tokenizer, params, run, extra, prefill_step)
                for name, (run, extra) in runs.items()
            }
            report["comparison"] = _compare(console, requests, scheduler.metrics, baselines)
        if json_file:
            json_file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            console.print(f"Written to {json_file}")


def _prompts(prompts_file: Path | None, texts: Sequence[str]) -> list[Prompt]:
    if prompts_file and texts:
        raise ValueError("--prompts and --prompt were both given: choose one")
    return make_prompts(texts, "--prompt") if texts else read_prompts(prompts_file or CHAT_PROMPTS)


def _watch(console: Console, scheduler: Any, requests: Sequence[Any], jobs: Sequence[Job]) -> None:
    for request in requests:
        scheduler.submit(request)
    with make_view(console, requests, [job.title for job in jobs], scheduler.slots.max_slots) as view:
        while scheduler.has_work:
            scheduler.step()
            view.show(list(scheduler.running.values()), scheduler.slots.slot_of, len(scheduler.waiting))


def _print_answers(console: Console, requests: Sequence[Any], jobs: Sequence[Job]) -> None:
    for number, (request, job) in enumerate(zip(requests, jobs, strict=True), start=1):
        console.rule(f"{number} of {len(jobs)}", align="left", style="dim")
        console.print(f"[bold]{escape(job.text)}[/bold]", highlight=False)
        ending = "" if request.finish_reason == "stop" else f" [dim]… ({request.finish_reason})[/dim]"
        console.print(escape(str(request.error or request.text.strip())) + ending, highlight=False)
    console.rule(style="dim")


def _print_metrics(console: Console, metrics: Any) -> None:
    console.print(latency_table(metrics))
    console.print(
        f"{metrics.throughput_tokens_per_sec:.1f} tokens/s over {metrics.steps} steps; "
        f"slots in use {metrics.slot_utilization:.1%}, while somebody waited {metrics.slot_utilization_while_waiting:.1%}"
    )


def _report(
    model: str, batch_size: int, strategy: str, requests: Sequence[Any], jobs: Sequence[Job], metrics: Any
) -> dict[str, Any]:
    answers = [
        {
            "prompt": job.text,
            "answer": request.text,
            "tokens": request.generated_tokens,
            "finish_reason": request.finish_reason,
            "error": request.error and str(request.error),
        }
        for request, job in zip(requests, jobs, strict=True)
    ]
    return {
        "machine": describe_machine(),
        "model": model,
        "batch_size": batch_size,
        "strategy": strategy,
        "tokens_per_second": metrics.throughput_tokens_per_sec,
        "slot_utilization": metrics.slot_utilization,
        "slot_utilization_while_waiting": metrics.slot_utilization_while_waiting,
        "seconds": as_figures(metrics),
        "requests": answers,
    }


def _baseline(
    console: Console,
    name: str,
    answer: ModuleType,
    network: Any,
    jobs: Sequence[Job],
    tokenizer: Any,
    params: Any,
    run: Callable[..., Any],
    extra: tuple[int, ...],
    prefill_step: int,
) -> tuple[list[Any], Any]:
    """Serve new requests for the same jobs with another schedule, behind a progress bar."""
    with make_progress(console, transient=True) as progress:
        bar = progress.add_task(f"the same prompts, {name}", total=len(jobs))

        def on_update(request: Any, _: str) -> None:
            if request.finish_reason is not None:
                progress.advance(bar)

        requests = make_requests(answer, jobs, tokenizer, params, on_update)
        return requests, run(network, requests, *extra, prefill_step=prefill_step)


def _compare(console: Console, requests: Sequence[Any], metrics: Any, baselines: dict[str, Any]) -> dict[str, Any]:
    ours = metrics.throughput_tokens_per_sec
    runs = {"continuous batching": (requests, metrics), **baselines}
    rows, figures = [], {}
    for name, (served, run) in runs.items():
        same = sum(a.generated_tokens == b.generated_tokens for a, b in zip(served, requests, strict=True))
        throughput = run.throughput_tokens_per_sec
        rows.append(
            [
                name,
                f"{run.total_tokens / throughput:.1f} s",
                f"{throughput:.1f}",
                f"{ours / throughput:.2f} ×",
                f"{run.percentiles('latency')['p50']:.1f} s",
                f"{run.slot_utilization:.0%}",
                f"{same} of {len(requests)}",
            ]
        )
        figures[name] = {"tokens_per_second": throughput, "speedup_of_continuous": ours / throughput, "same_answers": same}
    columns = ["schedule", "time", "tokens/s", "continuous is", "median latency", "slots in use", "same answers"]
    console.print(plain_table("the same prompts, three schedules", columns, rows))
    return figures


if __name__ == "__main__":
    main(prog_name="pdm run batch-main")
