"""What `batch-main` shows and writes when all requests have ended."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from tiny_llm_kit.cli.served_engines import ServedEngine
from tiny_llm_kit.cli.tables import as_figures, latency_table
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import describe_machine
from tiny_llm_kit.workloads.items import WorkItem


def print_answers(console: Console, requests: Sequence[Any], items: Sequence[WorkItem]) -> None:
    """Every prompt with its answer, or with why there is none."""
    for number, (request, item) in enumerate(zip(requests, items, strict=True), start=1):
        console.rule(f"{number} of {len(items)}", align="left", style="dim")
        console.print(Text(harmless(item.text), style="bold"))
        ending = "" if request.finish_reason == "stop" else f" … ({request.finish_reason})"
        console.print(Text.assemble(harmless(str(request.error or request.text.strip())), (ending, "dim")))
    console.rule(style="dim")


def print_metrics(console: Console, metrics: Any, memory: str) -> None:
    """Latencies, speed, and what the engine says about its memory."""
    console.print(latency_table(metrics))
    console.print(f"{metrics.throughput_tokens_per_sec:.1f} tokens/s over {metrics.steps} steps; {memory}")


def as_document(
    model: str,
    slots: int,
    served: ServedEngine,
    requests: Sequence[Any],
    items: Sequence[WorkItem],
    crowded: float | None,
) -> dict[str, Any]:
    """The same, and every token, for a JSON file."""
    metrics = served.engine.metrics
    return {
        "machine": describe_machine(),
        "model": model,
        "engine": served.name,
        "batch_size": slots,
        "tokens_per_second": metrics.throughput_tokens_per_sec,
        **served.as_json(),
        "slot_utilization_while_waiting": crowded,
        "seconds": as_figures(metrics),
        "requests": [
            {
                "prompt": item.text,
                "answer": request.text,
                "tokens": request.generated_tokens,
                "finish_reason": request.finish_reason,
                "error": request.error and str(request.error),
            }
            for request, item in zip(requests, items, strict=True)
        ],
    }
