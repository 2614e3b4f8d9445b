"""The same prompts under three schedules: serves the other two, and shows what each cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from rich.console import Console

from tiny_llm_kit.bench.counting_model import CountingModel
from tiny_llm_kit.bench.step_times import StepTimes
from tiny_llm_kit.cli.progress import progress_bar
from tiny_llm_kit.cli.tables import minutes, plain_table
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len

COLUMNS = ["schedule", "time", "steps", "model\ncalls", "tokens\nper s", "median\nlatency", "slots\nin use"]
"""In two lines, to fit the table into 80 columns."""

HARDLY = 0.1
"""Schedules whose model calls differ by a smaller share than this cannot be told apart by their speed."""


OURS = {"continuous": "continuous batching", "paged": "the paged engine"}
"""The names, in sentences, of what others are compared with."""


@dataclass(frozen=True)
class Schedule:
    """One way to serve the prompts. `seconds` is what it is expected to take."""

    name: str
    seconds: float
    run: Callable[[Any, Sequence[Any]], Any]
    """Serves requests with a model, and returns their metrics."""


@dataclass(frozen=True)
class ScheduleRun:
    """A schedule's requests after it was run, its metrics, how often it called the model, and how busy the machine was."""

    name: str
    requests: Sequence[Any]
    metrics: Any
    calls: int
    load: LoadMeter

    @property
    def seconds(self) -> float:
        return float(self.metrics.ended - (self.metrics.started or 0.0))


def other_schedules(
    answer: ModuleType, items: Sequence[WorkItem], ours: ScheduleRun, times: StepTimes, prefill_step: int
) -> list[Schedule]:
    """What our run is compared with. How long each will take is known from the lengths of our answers."""
    prompt_tokens = sum(len(item.prompt) for item in items)
    answers = [len(request.generated_tokens) for request in ours.requests]
    continuous = Schedule(
        "continuous",
        times.continuous(prompt_tokens, answers),
        lambda model, requests: answer.run_continuous(model, requests, times.slots, needed_seq_len(items), prefill_step),
    )
    return [
        *([continuous] if ours.name == "paged" else []),
        Schedule(
            "one at a time",
            times.sequential(prompt_tokens, answers),
            lambda model, requests: answer.run_sequential(model, requests, needed_seq_len(items), prefill_step),
        ),
        Schedule(
            "static batches",
            times.static(prompt_tokens, answers),
            lambda model, requests: answer.run_static(model, requests, times.slots, prefill_step),
        ),
    ]


def serve(console: Console, schedule: Schedule, network: Any, make: Callable[[Callable[..., None]], list[Any]]) -> ScheduleRun:
    """Serve new requests, which `make` makes with an `on_update`, with a progress bar or, without a terminal, with lines."""
    model = CountingModel(network)
    console.print(f"The same prompts, {schedule.name}: about {minutes(schedule.seconds)} …", highlight=False)
    with progress_bar(console, f"requests answered, {schedule.name}") as bar:

        def on_update(request: Any, _: str) -> None:
            if request.finish_reason is not None:
                bar.advance()

        requests = make(on_update)
        bar.begin(len(requests))
        with LoadMeter() as load:
            metrics = schedule.run(model, requests)
        return ScheduleRun(schedule.name, requests, metrics, len(model.calls), load)


def too_few(prompts: int, batch_size: int) -> str | None:
    """Why so few prompts can't show the benefit of continuous batching, and what to give instead; None if they can."""
    few = "1 prompt is" if prompts == 1 else f"{prompts} prompts are"
    if prompts < 4:
        return f"{few} too few for a comparison: at least 4, with --batch-size 2, are needed for some to join while others run."
    if batch_size == 1:
        return "With --batch-size 1 there is no batch, and all three schedules are the same: give 2 or more."
    instead = f"Give at least {2 * batch_size} prompts, or --batch-size {prompts // 2} at most."
    if prompts <= batch_size:
        return f"{few} too few for a comparison with {batch_size} slots: all start at once, and none joins later. {instead}"
    if prompts < 2 * batch_size:
        join = "only 1 joins" if prompts == batch_size + 1 else f"only {prompts - batch_size} join"
        return f"{few} few for a comparison with {batch_size} slots: {join} a running batch. {instead}"
    return None


def compare_runs(console: Console, runs: Sequence[ScheduleRun], batch_size: int, kv_bits: int | None = None) -> dict[str, Any]:
    """A table of the runs, of which the first is ours, and what follows from it; the figures for a JSON file.

    kv_bits: of our keys and values, if they were packed.
    """
    console.print(plain_table(f"the same prompts, {len(runs)} schedules", COLUMNS, [_row(run) for run in runs]))
    for sentence in _conclusions(runs, batch_size, kv_bits):
        console.print(sentence, highlight=False, soft_wrap=True)
    return {run.name: _figures(run, runs[0]) for run in runs}


def _row(run: ScheduleRun) -> list[str]:
    return [
        run.name,
        f"{run.seconds:.1f} s",
        str(run.metrics.steps),
        str(run.calls),
        f"{run.metrics.throughput_tokens_per_sec:.1f}",
        f"{run.metrics.percentiles('latency')['p50']:.1f} s",
        "—" if run.name == "paged" else f"{run.metrics.slot_utilization:.0%}",
    ]


def _conclusions(runs: Sequence[ScheduleRun], batch_size: int, kv_bits: int | None) -> list[str]:
    lines = (_speedups(runs), _same_answers(runs, kv_bits), _no_difference(runs, batch_size), _disturbances(runs))
    return [line for line in lines if line]


def _speedups(runs: Sequence[ScheduleRun]) -> str:
    speedups = [(run.name, _figures(run, runs[0])[f"speedup_of_{runs[0].name}"]) for run in runs[1:]]
    if any(speedup is None for _, speedup in speedups):
        return "No answer has a token, so there is no speed to compare."
    ours, compared = OURS[runs[0].name], [f"{speedup:.2f} × as fast as {name}" for name, speedup in speedups]
    return f"{ours[0].upper()}{ours[1:]} is {', '.join(compared[:-1])}, and {compared[-1]}."


def _same_answers(runs: Sequence[ScheduleRun], kv_bits: int | None) -> str:
    count = len(runs[0].requests)
    others = [(run.name, count - _figures(run, runs[0])["same_answers"]) for run in runs[1:]]
    if not any(different for _, different in others):
        return f"The answers are the same under all {len(runs)} schedules: {count} of {count}."
    found = ", ".join(f"{different} of {count} with {name}" for name, different in others)
    why = f"Keys and values in {kv_bits} bits may change some; a schedule" if kv_bits else "A schedule"
    return f"Answers that differ from those of {OURS[runs[0].name]}: {found}. {why} must not change an answer."


def _no_difference(runs: Sequence[ScheduleRun], batch_size: int) -> str | None:
    """Which schedules cannot be told apart here, if any, since the model was called nearly as often."""
    ours = runs[0].calls
    alike = [f"{run.calls} times with {run.name}" for run in runs[1:] if abs(run.calls - ours) < HARDLY * max(ours, run.calls)]
    if not alike:
        return None
    found = (
        f"The model was called {ours} times with {OURS[runs[0].name]} and {', '.join(alike)}. That is hardly a difference, so"
        " these prompts can show none in speed."
    )
    if too_few(len(runs[0].requests), batch_size):
        return found  # why, and what to do, was said before the first run
    return f"{found} Give prompts whose answers differ more in length, or a larger --max-tokens."


def _disturbances(runs: Sequence[ScheduleRun]) -> str | None:
    """Which times are not to be trusted, if any, since other programs were running."""
    shares = [f"{run.load.others:.0%} during {run.name}" for run in runs if run.load.disturbed]
    if not shares:
        return None
    return (
        f"Other programs took CPU time: {', '.join(shares)}. That is too much to trust the times and speeds: close what you"
        " can, and run it again. Steps, model calls and answers do not depend on it."
    )


def _figures(run: ScheduleRun, ours: ScheduleRun) -> dict[str, Any]:
    """No speedup where no token was generated: there is nothing to compare then."""
    speed, our_speed = (r.metrics.throughput_tokens_per_sec for r in (run, ours))
    return {
        "seconds": run.seconds,
        "steps": run.metrics.steps,
        "model_calls": run.calls,
        "tokens_per_second": speed,
        f"speedup_of_{ours.name}": our_speed / speed if speed and our_speed else None,
        "cpu_share_of_others": run.load.others,
        "same_answers": sum(a.generated_tokens == b.generated_tokens for a, b in zip(run.requests, ours.requests, strict=True)),
    }
