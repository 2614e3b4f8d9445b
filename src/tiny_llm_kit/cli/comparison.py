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
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len

COLUMNS = ["schedule", "time", "steps", "model calls", "tokens/s", "continuous is", "median latency", "in use", "same answers"]


@dataclass(frozen=True)
class Schedule:
    """One way to serve the prompts. `seconds` is what it is expected to take."""

    name: str
    seconds: float
    run: Callable[[Any, Sequence[Any]], Any]
    """Serves requests with a model, and returns their metrics."""


@dataclass(frozen=True)
class ScheduleRun:
    """A schedule's requests after it was run, its metrics, and how often it called the model."""

    name: str
    requests: Sequence[Any]
    metrics: Any
    calls: int

    @property
    def seconds(self) -> float:
        return float(self.metrics.ended - (self.metrics.started or 0.0))


def other_schedules(
    answer: ModuleType, items: Sequence[WorkItem], ours: ScheduleRun, times: StepTimes, prefill_step: int
) -> list[Schedule]:
    """What continuous batching is compared with. How long each will take is known from the lengths of our answers."""
    prompt_tokens = sum(len(item.prompt) for item in items)
    answers = [len(request.generated_tokens) for request in ours.requests]
    return [
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
    """Serve new requests, which `make` makes with an `on_update`, behind a bar or, without a terminal, with lines."""
    model = CountingModel(network)
    console.print(f"The same prompts, {schedule.name}: about {minutes(schedule.seconds)} …", highlight=False)
    with progress_bar(console, f"requests answered, {schedule.name}") as bar:

        def on_update(request: Any, _: str) -> None:
            if request.finish_reason is not None:
                bar.advance()

        requests = make(on_update)
        bar.begin(len(requests))
        return ScheduleRun(schedule.name, requests, schedule.run(model, requests), len(model.calls))


def compare_runs(console: Console, runs: Sequence[ScheduleRun]) -> dict[str, Any]:
    """A table of the runs, of which the first is continuous batching; the same figures for a JSON file."""
    ours = runs[0]
    console.print(plain_table("the same prompts, three schedules", COLUMNS, [_row(run, ours) for run in runs]))
    return {run.name: _figures(run, ours) for run in runs}


def _row(run: ScheduleRun, ours: ScheduleRun) -> list[str]:
    figures = _figures(run, ours)
    speedup = figures["speedup_of_continuous"]
    return [
        run.name,
        f"{run.seconds:.1f} s",
        str(figures["steps"]),
        str(figures["model_calls"]),
        f"{figures['tokens_per_second']:.1f}",
        "—" if speedup is None else f"{speedup:.2f} ×",
        f"{run.metrics.percentiles('latency')['p50']:.1f} s",
        f"{run.metrics.slot_utilization:.0%}",
        f"{figures['same_answers']} of {len(run.requests)}",
    ]


def _figures(run: ScheduleRun, ours: ScheduleRun) -> dict[str, Any]:
    """No speedup where no token was generated: there is nothing to compare then."""
    speed, our_speed = (r.metrics.throughput_tokens_per_sec for r in (run, ours))
    return {
        "seconds": run.seconds,
        "steps": run.metrics.steps,
        "model_calls": run.calls,
        "tokens_per_second": speed,
        "speedup_of_continuous": our_speed / speed if speed and our_speed else None,
        "same_answers": sum(a.generated_tokens == b.generated_tokens for a, b in zip(run.requests, ours.requests, strict=True)),
    }
