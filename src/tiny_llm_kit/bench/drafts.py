"""What drafts have brought: figures that programs add where an engine speculates."""

from collections.abc import Sequence
from typing import Any

from tiny_llm_kit.bench.run import Result, Served

COLUMNS = ["engine", "slots", "tokens per step", "drafted", "accepted"]


def tokens_per_step(metrics: Any) -> float:
    """Generated tokens of all requests, over all steps, including those that only read prompts."""
    return float(metrics.total_tokens / metrics.steps) if metrics.steps else 0.0


def describe_drafts(metrics: Any) -> str:
    """In a line, from an engine's metrics."""
    drafted, accepted = metrics.spec_decode_num_draft_tokens, metrics.spec_decode_num_accepted_tokens
    return f"{accepted} of {drafted} drafts accepted, {tokens_per_step(metrics):.2f} tokens per step"


def drafts_as_json(metrics: Any) -> dict[str, Any]:
    """The same for a JSON file."""
    return {
        "spec_decode_num_draft_tokens": metrics.spec_decode_num_draft_tokens,
        "spec_decode_num_accepted_tokens": metrics.spec_decode_num_accepted_tokens,
        "tokens_per_step": tokens_per_step(metrics),
    }


def served_as_json(served: Served) -> dict[str, Any]:
    """The drafts of one run; nothing if its engine does not speculate."""
    if served.drafted is None:
        return {}
    return {"drafted": served.drafted, "accepted": served.accepted, "tokens_per_step": served.tokens_per_step}


def rows(results: Sequence[Result]) -> list[list[str]]:
    """A row per result of an engine that speculates, of its first run: another one drafts the same."""
    speculating = [(result.case, result.runs[0].served) for result in results if result.runs[0].served.drafted is not None]
    return [
        [case.engine, str(case.batch_size), f"{served.tokens_per_step:.2f}", str(served.drafted), shown_share(served)]
        for case, served in speculating
    ]


def shown_share(served: Served) -> str:
    """How many drafts were accepted, and which share that is."""
    if not served.drafted or served.accepted is None:
        return "—"
    return f"{served.accepted} ({served.accepted / served.drafted:.0%})"
