"""What `batch-main` says before it begins: what will be served, and how long that will take."""

from collections.abc import Sequence

from tiny_llm_kit.bench.step_times import StepTimes
from tiny_llm_kit.cli.tables import duration, minutes
from tiny_llm_kit.workloads.items import WorkItem


def what_is_served(model: str, items: Sequence[WorkItem], slots: int, batch_size: int, prefill_step: int) -> str:
    """`slots` are used, of the `batch_size` that were asked for."""
    unused = f" (of {batch_size}: there is nobody for the others)" if slots < batch_size else ""
    prompts = "1 prompt" if len(items) == 1 else f"{len(items)} prompts"
    return f"{model}: {prompts}, slots: {slots}{unused}, {prefill_step} prompt tokens per step"


def how_long(times: StepTimes, items: Sequence[WorkItem], compare: bool) -> str:
    """An upper bound, since answers may end early."""
    prompt_tokens, answers = sum(len(item.prompt) for item in items), [item.max_tokens for item in items]
    ours = times.continuous(prompt_tokens, answers)
    others = times.sequential(prompt_tokens, answers) + times.static(prompt_tokens, answers)
    steps = f"{duration(times.one_row)} with 1 row"
    if times.slots > 1:
        steps += f", {duration(times.all_rows)} with {times.slots}"
    if not compare:
        return f"This will take up to {minutes(ours)} on this machine (a step takes {steps})."
    total = f"{minutes(ours + others)} on this machine: {minutes(ours)}, then {minutes(others)} for the comparison"
    return f"This will take up to {total} (a step takes {steps})."
