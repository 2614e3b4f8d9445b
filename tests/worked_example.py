"""The worked example of week 3 day 4: three requests, a pool that is too small for them, and what each step computes.

The chapter shows `PLANS`. A test of task 4 plays them on paper, with the plan alone; one of task 6 runs the engine.
"""

from typing import Any

from answer import answer

POOL = {"num_blocks": 6, "block_size": 4}
LIMITS = {"max_num_seqs": 3, "max_num_batched_tokens": 8}
REQUESTS = {"A": (6, 7), "B": (9, 5), "C": (3, 2)}
"""Prompt tokens, and tokens of the answer. All come before the first step, in this order."""

PLANS = [
    # decodes, chunks, preempted
    ("–", "A[0:6] B[0:2]", "–"),
    ("A", "B[2:9]", "–"),
    ("A B", "C[0:3]", "–"),
    ("A B", "–", "C"),
    ("A B", "–", "–"),
    ("A", "–", "B"),
    ("A", "–", "–"),
    ("–", "–", "–"),
    ("–", "B[0:8]", "–"),
    ("–", "B[8:13] C[0:3]", "–"),
    ("C", "–", "–"),
    ("–", "–", "–"),
]
TOKENS = [8, 8, 5, 2, 2, 1, 1, 0, 8, 8, 1, 0]
"""What each step gives the model."""

TOKENS_WITH_CACHE = [8, 8, 5, 2, 2, 1, 1, 0, 8, 1, 0]
"""B finds two blocks of its own in step 9."""


def make_requests() -> dict[str, Any]:
    """The requests by name. No two begin alike."""
    return {
        name: answer.PagedRequest([10 * place + 1] * prompt, max_tokens)
        for place, (name, (prompt, max_tokens)) in enumerate(REQUESTS.items())
    }


def play_on_paper() -> list[tuple[str, str, str]]:
    """Carry out plans without a model until all have ended: what each step decodes, computes of prompts, and preempts.

    As in the engine, the tokens of a step come back in the next one, after that has been launched.
    """
    pool = answer.BlockPool(**POOL)
    cache, scheduler = answer.PrefixCache(pool), answer.Scheduler(**LIMITS)
    requests = make_requests()
    name_of = {request.request_id: name for name, request in requests.items()}
    waiting, running, landed, steps = list(requests.values()), [], [], []  # type: ignore[var-annotated]

    def grow(request: Any, tokens: int) -> None:
        blocks = pool.allocate(answer.blocks_for(tokens, pool.block_size) - len(request.blocks))
        assert blocks is not None, f"step {len(steps)}: the plan gives away more blocks than are free. It was {steps[-1]}"
        request.blocks += blocks

    while (waiting or running) and len(steps) < 2 * len(PLANS):
        plan = scheduler.plan(sorted(waiting, key=lambda request: request.request_id), list(running), pool, cache)
        steps.append(_show(plan, name_of))
        for request in plan.preempted:
            running.remove(request)
            waiting.append(request)
            cache.release(request.let_go())
        for request in plan.decodes:
            grow(request, request.offset + 1)
        asking = list(plan.decodes)
        for chunk in plan.chunks:
            if chunk.request in waiting:
                waiting.remove(chunk.request)
                running.append(chunk.request)
                chunk.request.hold([])
                grow(chunk.request, len(chunk.request.tokens))
            if chunk.end == len(chunk.request.tokens):
                asking.append(chunk.request)
        for request in plan.decodes:
            request.offset += 1
        for chunk in plan.chunks:
            chunk.request.offset = chunk.end
        for request in asking:
            request.in_flight += 1
        for request in landed:
            request.in_flight -= 1
            request.accept(7)
            if request.finish_reason is not None:
                (running if request in running else waiting).remove(request)
                cache.release(request.let_go())
        landed = asking
    return steps


def _show(plan: Any, name_of: dict[int, str]) -> tuple[str, str, str]:
    def names(requests: Any) -> str:
        return " ".join(sorted(name_of[request.request_id] for request in requests)) or "–"

    chunks = sorted(f"{name_of[chunk.request.request_id]}[{chunk.start}:{chunk.end}]" for chunk in plan.chunks)
    return names(plan.decodes), " ".join(chunks) or "–", names(plan.preempted)
