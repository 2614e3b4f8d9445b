"""What other requests feel of a long prompt: the time between two of their tokens, while the paged engine reads it piece by
piece."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.workloads.lists import plain_prompt
from tiny_llm_kit.workloads.paged import choose_paged_attention

BUDGETS = (16, 32, 64, 128, 256)
"""Prompt tokens of a step, in addition to the tokens of the decodes."""
TARGET_BUDGET = 32
ROWS = 8
PROMPT = 2000
FIRST = 100
"""Prompt tokens of the requests that decode."""
QUIET = 20
"""Steps before the long prompt comes."""
_BLOCK = 16

COLUMNS = ["prompt tokens per step", "steps", "median gap before", "gap p50", "gap p99", "p99 / median before"]


@dataclass(frozen=True)
class Gaps:
    """Seconds between two decode steps, before a long prompt was admitted and while it was read."""

    before: Sequence[float]
    during: Sequence[float]

    @property
    def median_before(self) -> float:
        return float(np.median(self.before))

    def percentile(self, percent: float) -> float:
        """A percentile of the gaps while the prompt was read."""
        return float(np.percentile(self.during, percent))

    @property
    def ratio(self) -> float:
        return self.percentile(99) / self.median_before


def measure_gaps(answer: ModuleType, model: Any, budget: int, prompt: int = PROMPT, kernels: str | None = None) -> Gaps:
    """Let `ROWS` requests decode, admit one of `prompt` tokens, and read it at `budget` tokens per step."""
    steps = QUIET + -(-prompt // budget) + 16
    blocks = ROWS * answer.blocks_for(FIRST + steps, _BLOCK) + answer.blocks_for(prompt + 2, _BLOCK)
    engine = answer.Engine(
        model,
        num_blocks=2 * blocks,  # no request should wait for memory here
        block_size=_BLOCK,
        max_num_seqs=ROWS + 1,
        max_num_batched_tokens=ROWS + budget,
        prefix_caching=False,
        paged_attention=choose_paged_attention(answer, kernels),
    )
    decoding = [engine.submit(answer.PagedRequest(plain_prompt(FIRST, row), steps)) for row in range(ROWS)]
    while not all(request.generated_tokens for request in decoding):
        engine.step()
    before = [_timed(engine) for _ in range(QUIET + 1)]
    late = engine.submit(answer.PagedRequest(plain_prompt(prompt, ROWS), 2))
    during = [before[-1]]
    while not late.generated_tokens:
        during.append(_timed(engine))
    for request in (late, *decoding):
        engine.cancel(request)
    engine.run()
    return Gaps(_differences(before), _differences(during))


def _timed(engine: Any) -> float:
    engine.step()
    return time.perf_counter()


def _differences(times: Sequence[float]) -> list[float]:
    return [end - start for start, end in pairwise(times)]


def rows(gaps: Mapping[int, Gaps]) -> list[list[str]]:
    """A row for each budget."""
    return [
        [
            str(budget),
            str(len(found.during)),
            duration(found.median_before),
            *(duration(found.percentile(percent)) for percent in (50, 99)),
            f"{found.ratio:.1f}",
        ]
        for budget, found in gaps.items()
    ]


def targets(gaps: Mapping[int, Gaps]) -> list[Target]:
    """How long a gap may be at the smallest budget that is still quick."""
    found = gaps.get(TARGET_BUDGET)
    name = f"gap p99 / median before, {TARGET_BUDGET} prompt tokens per step"
    return [Target(name, found.ratio if found else None, 2.0, False, "{:.2f} ×".format)]


def as_json(gaps: Mapping[int, Gaps]) -> dict[str, dict[str, float]]:
    """In seconds."""
    return {
        str(budget): {"median_before": found.median_before, "p50": found.percentile(50), "p99": found.percentile(99)}
        for budget, found in gaps.items()
    }
