"""What `batch-main` says before it begins: what will be served, and how long that will take."""

from collections.abc import Sequence

from tiny_llm_kit.bench.step_times import StepTimes
from tiny_llm_kit.cli.tables import duration, minutes
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.workloads.items import WorkItem


def what_is_served(model: str, items: Sequence[WorkItem], memory: str, tokens: int) -> str:
    """`memory` is what `slots` or `blocks` says, and `tokens` the most prompt tokens of a step."""
    prompts = "1 prompt" if len(items) == 1 else f"{len(items)} prompts"
    return f"{model}: {prompts}, {memory}, {tokens} prompt tokens per step"


def slots(used: int, asked_for: int) -> str:
    """Only `used` of those that were asked for are used."""
    unused = f" (of {asked_for}: there are no requests for the others)" if used < asked_for else ""
    return f"slots: {used}{unused}"


def blocks(count: int, block_size: int) -> str:
    return f"{count} blocks of {block_size} tokens"


def how_long(times: StepTimes, items: Sequence[WorkItem], compare: bool, load: LoadMeter) -> str:
    """The estimate for the longest possible answers; `load` is how busy the machine was while the steps were timed."""
    prompt_tokens, answers = sum(len(item.prompt) for item in items), [item.max_tokens for item in items]
    ours = times.continuous(prompt_tokens, answers)
    others = times.sequential(prompt_tokens, answers) + times.static(prompt_tokens, answers)
    steps = f"{duration(times.one_row)} with 1 row"
    if times.slots > 1:
        steps += f", {duration(times.all_rows)} with {times.slots}"
    total = minutes(ours)
    if compare:
        total = f"{minutes(ours + others)}: {minutes(ours)}, then {minutes(others)} for the comparison"
    text = f"On this machine, this will take about {total}; less if answers end early (a step takes {steps})."
    if load.disturbed:
        text += f" Other programs have {load.others:.0%} of the CPU now, and it will take longer if they want more."
    return text
