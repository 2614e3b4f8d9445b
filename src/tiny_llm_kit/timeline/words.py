"""Times and lives in words."""

from statistics import median

from tiny_llm_kit.timeline.run import Life, Run

PLURALS = {"step": "steps"}


def span(time: float, unit: str) -> str:
    """A length of time: "3 steps"; seconds are written in ms, if they are few, or in minutes, if they are many."""
    if unit != "s":
        return f"{time:.3g} {unit if time == 1 else PLURALS.get(unit, unit)}"
    if time < 1:
        return f"{1000 * time:.3g} ms"
    if time < 100:
        return f"{time:.3g} s"
    return f"{int(time) // 60} min {int(time) % 60:02d} s" if time < 3600 else f"{time / 3600:.3g} h"


def describe(life: Life, unit: str) -> list[str]:
    """A request's life, a line for each thing that happened. The first line is its name."""
    lines = [f"Request {life.name}", f"Prompt: {_count(life.prompt_tokens, 'token')}", f"Arrived: {span(life.arrived, unit)}"]
    if life.waited is not None:
        lines.append(f"Waited: {span(life.waited, unit)}")
    if life.ttft is not None:
        lines.append(f"First token: {span(life.ttft, unit)} after arrival (TTFT)")
    if preemptions := sum(stay.preempted for stay in life.stays):
        lines.append(f"Preempted: {_count(preemptions, 'time')}")
    if life.generated:
        lines.append(f"Answer: {_count(life.generated, 'token')}")
    if life.tpot is not None:
        lines.append(f"Per token: {span(life.tpot, unit)} after the first (TPOT)")
    if life.ended is not None:
        after = span(life.ended - life.arrived, unit)
        lines.append(f"{life.outcome.capitalize()}: {after} after arrival")
    else:
        lines.append("End: after the recording")
    return lines if life.stays else [*lines, "Never started"]


def figures(run: Run) -> list[str]:
    """A run in a few figures."""
    parts = [_count(len(run.lives) + run.left_out, "request"), span(run.duration, run.unit)]
    parts.append(f"{_count(sum(life.generated for life in run.lives), 'token')} generated")
    if run.utilization is not None:
        parts.append(f"slots held {run.utilization:.0%} of the time")
    for name, values in (
        ("TTFT", [life.ttft for life in run.lives if life.ttft is not None]),
        ("TPOT", [life.tpot for life in run.lives if life.tpot is not None]),
    ):
        if values:
            parts.append(f"median {name} {span(median(values), run.unit)}")
    return parts


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
