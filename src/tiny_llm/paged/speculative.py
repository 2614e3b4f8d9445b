"""The speculating engine: a request that decodes may get several tokens in one step, the same ones as without drafts.

One step is: plan → assign blocks → draft → launch → read → update the requests. Drafts can only continue tokens that have been
read, so nothing is launched ahead, unlike in `Engine`: where drafts are right, one step does the work of several.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from tiny_llm_kit.course import task

from ..in_flight import InFlight
from ..model import Model
from ..request import Request
from .adaptive_draft import AdaptiveDraft, whole_tiles
from .block_pool import blocks_for
from .drafter import Drafter, NgramDrafter
from .engine import Engine
from .request import PagedRequest
from .scheduler import MixedPlan
from .speculative_runner import SpeculativeRunner
from .verify import matches


@dataclass(frozen=True)
class Speculation:
    """A request's drafter, and what decides the length of its drafts; None: always the same length."""

    drafter: Drafter
    adaptive: AdaptiveDraft | None


class SpeculativeEngine(Engine):
    """An `Engine` that guesses tokens and lets the model check them, alongside everything that it would compute anyway.

    Drafts take what is left: of the budget, when everything planned has its tokens, and of the free blocks, when every request
    has its own. They never preempt and never evict. A drafter that raises, proposes more than it was asked for, or proposes a
    token that the model does not know, ends its own request.

    Args:
        drafter: makes a drafter for each request.
        adaptive: makes, for each request, what decides how many drafts are worth it; drafts then end with whole tiles. None:
            `num_speculative_tokens` in each step.
        num_speculative_tokens: most drafts of a request in a step, if they don't adapt.
        options: as `Engine`.
    Raises:
        ValueError: if `num_speculative_tokens` is below 1, or as `Engine`.
    """

    runner: SpeculativeRunner

    def __init__(
        self,
        model: Model,
        *,
        drafter: Callable[[], Drafter] = NgramDrafter,
        adaptive: Callable[[], AdaptiveDraft] | None = AdaptiveDraft,
        num_speculative_tokens: int = 4,
        **options: Any,
    ) -> None:
        if num_speculative_tokens < 1:
            raise ValueError(f"num_speculative_tokens is {num_speculative_tokens}: it must be at least 1, or take an Engine")
        super().__init__(model, **options)
        of_runner = {name: options[name] for name in ("paged_attention", "kv_bits") if name in options}
        self.runner = SpeculativeRunner(model, self.pool.num_blocks, self.pool.block_size, **of_runner)
        self.drafter = drafter
        self.adaptive = adaptive
        self.num_speculative_tokens = num_speculative_tokens
        self._speculations: dict[int, Speculation] = {}  # of running requests, by id
        self._drafts: dict[int, list[int]] = {}  # of this step, by request id
        self._cut: dict[int, list[int]] = {}  # the drafts after them that are not checked

    @task(week=3, day=5, number=5)
    def step(self) -> list[Request]:
        """Run one step and return the requests that have ended since the last one.

        Raises:
            BaseException: as `ContinuousBatchScheduler.step`.
        """
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _launch(self, plan: MixedPlan) -> InFlight:
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _draft(self, plan: MixedPlan) -> dict[int, list[int]]:
        """Guess for the requests that decode, the oldest first, and make room for the drafts in their tables."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _cut_to_tiles(self, planned: int, drafts: dict[int, list[int]]) -> dict[int, list[int]]:
        """If drafts adapt, keep what `whole_tiles` leaves of them, and remember the rest."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _propose(self, request: PagedRequest, budget: int, rows: int) -> list[int]:
        """A request's drafts in a step with `rows` decodes: no more than the budget allows, than free blocks have room for, and
        than it takes to reach `max_tokens`, whose last token is the model's own."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _update(self, landed: InFlight) -> int:
        """Hand the tokens of this step to their requests; return how many were kept.

        All are settled first: a client that gets its token may cancel or preempt any request.
        """
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _settle(self, request: PagedRequest, drawn: Sequence[tuple[int, bool]]) -> list[tuple[int, bool]]:
        """Keep what was drawn, and whether it means anything, up to the first wrong draft; drop what comes after it."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _give_back_surplus(self, request: PagedRequest) -> None:
        """Free the blocks that only rejected drafts needed: the next plan relies on the free blocks."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _hand_out(self, request: PagedRequest, kept: Sequence[tuple[int, bool]]) -> int:
        """Hand a request its tokens, one by one until it ends; return how many it kept."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def release(self, request: Request) -> None:
        """Give back the request's blocks and forget its drafter. When it is admitted again, it gets a new one."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def check_integrity(self) -> None:
        """As in `Engine`; also, no request holds blocks for drafts, and only running ones have a drafter.

        Raises:
            RuntimeError: saying what is wrong.
        """
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")
