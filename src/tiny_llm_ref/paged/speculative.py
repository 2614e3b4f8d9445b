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
        with self.iteration():
            self._end_late()
            plan = self.scheduler.plan(self.waiting.in_turn(), self._running, self.pool, self.prefix_cache)
            launched = self._launch(plan)
            queue_size = len(self.waiting)
            new_tokens = self._update(launched)
        active = len(plan.decodes) + len(plan.chunks)
        return self.close_iteration(active, self.scheduler.max_num_seqs, queue_size, new_tokens)

    @task(week=3, day=5, number=5)
    def _launch(self, plan: MixedPlan) -> InFlight:
        launched = InFlight()
        try:
            self._assign_blocks(plan)
            self._drafts = self._draft(plan)
            plan = replace(plan, decodes=[request for request in plan.decodes if request.finish_reason is None])
            working = [*plan.decodes, *(chunk.request for chunk in plan.chunks)]
            if working:
                with self.failures_end(working):
                    if step := self.runner.run(plan, self._drafts):
                        launched.add(*step)
                    for chunk in plan.chunks:
                        self.log_chunk(chunk.request, chunk.start, chunk.end)
            launched.start()
            self.runner.start()
            return launched
        except Exception as error:  # as in `Engine`
            self.abandon(error)
            return InFlight()

    @task(week=3, day=5, number=5)
    def _draft(self, plan: MixedPlan) -> dict[int, list[int]]:
        """Guess for the requests that decode, the oldest first, and make room for the drafts in their tables."""
        drafts = {}
        budget = self.scheduler.max_num_batched_tokens - plan.tokens
        for request in plan.decodes:
            with self.failures_end([request]):
                proposed = self._propose(request, budget, len(plan.decodes))
                self._grow(request, request.offset + 1 + len(proposed))
                drafts[request.request_id] = proposed
                budget -= len(proposed)
        return self._cut_to_tiles(plan.tokens, drafts)

    @task(week=3, day=5, number=5)
    def _cut_to_tiles(self, planned: int, drafts: dict[int, list[int]]) -> dict[int, list[int]]:
        """If drafts adapt, keep what `whole_tiles` leaves of them, and remember the rest."""
        wanted = [len(proposed) for proposed in drafts.values()]
        lengths = dict(zip(drafts, whole_tiles(planned, wanted) if self.adaptive else wanted, strict=True))
        self._cut = {owner: proposed[lengths[owner] :] for owner, proposed in drafts.items()}
        return {owner: proposed[: lengths[owner]] for owner, proposed in drafts.items()}

    @task(week=3, day=5, number=5)
    def _propose(self, request: PagedRequest, budget: int, rows: int) -> list[int]:
        """A request's drafts in a step with `rows` decodes: no more than the budget allows, than free blocks have room for, and
        than it takes to reach `max_tokens`, whose last token is the model's own."""
        if request.request_id not in self._speculations:
            self._speculations[request.request_id] = Speculation(self.drafter(), self.adaptive and self.adaptive())
        speculation = self._speculations[request.request_id]
        wanted = speculation.adaptive.length(rows) if speculation.adaptive else self.num_speculative_tokens
        room = (len(request.blocks) + self.pool.num_free) * self.pool.block_size - (request.offset + 1)
        count = min(wanted, budget, room, request.max_tokens - len(request.generated_tokens) - 1)
        if count < 1:
            return []
        drafts = list(speculation.drafter.propose(request.tokens, count))
        if len(drafts) > count:
            raise ValueError(f"the drafter was asked for at most {count} tokens, and proposed {len(drafts)}")
        if unknown := [token for token in drafts if not 0 <= token < self.vocab_size]:
            raise ValueError(f"the drafter proposed token {unknown[0]}, and the model knows 0 to {self.vocab_size - 1}")
        return drafts

    @task(week=3, day=5, number=5)
    def _update(self, landed: InFlight) -> int:
        """Hand the tokens of this step to their requests; return how many were kept.

        All are settled first: a client that gets its token may cancel or preempt any request.
        """
        try:
            places = landed.read()
        except Exception as error:
            self.abandon(error)
            return 0
        settled = []
        for request, own in groupby(places, key=lambda place: place[0]):
            assert isinstance(request, PagedRequest)
            settled.append((request, self._settle(request, [(token, sound) for _, token, sound in own])))
        return sum(self._hand_out(request, kept) for request, kept in settled)

    @task(week=3, day=5, number=5)
    def _settle(self, request: PagedRequest, drawn: Sequence[tuple[int, bool]]) -> list[tuple[int, bool]]:
        """Keep what was drawn, and whether it means anything, up to the first wrong draft; drop what comes after it."""
        drafts = self._drafts.get(request.request_id, [])
        kept = len(matches([token for token, _ in drawn], drafts))
        self.metrics.computed_tokens += len(drafts)
        self.metrics.spec_decode_num_draft_tokens += len(drafts)
        self.metrics.spec_decode_num_accepted_tokens += kept - 1
        speculation = self._speculations.get(request.request_id)
        if speculation and speculation.adaptive:
            if kept > len(drafts) and (cut := self._cut.get(request.request_id)):  # right: the next one was guessed, too
                speculation.adaptive.update(kept, kept - 1 + (drawn[kept - 1][0] == cut[0]))
            else:
                speculation.adaptive.update(len(drafts), kept - 1)
        request.offset = len(request.prompt) + len(request.generated_tokens) + kept - 1
        self._give_back_surplus(request)
        return list(drawn[:kept])

    @task(week=3, day=5, number=5)
    def _give_back_surplus(self, request: PagedRequest) -> None:
        """Free the blocks that only rejected drafts needed: the next plan relies on the free blocks."""
        needed = blocks_for(request.offset, self.pool.block_size)
        self.prefix_cache.release(request.blocks[needed:])
        del request.blocks[needed:]

    @task(week=3, day=5, number=5)
    def _hand_out(self, request: PagedRequest, kept: Sequence[tuple[int, bool]]) -> int:
        """Hand a request its tokens, one by one until it ends; return how many it kept."""
        taken = 0
        for token, sound in kept:
            if request.finish_reason is not None:
                break
            if not sound:
                self.end(request, "error", FloatingPointError("the model's logits are NaN or infinite: no token follows"))
                break
            self._publish(request)  # before its blocks are given back, if this is its last token
            taken += self.take(request, token)
        self.waiting.charge(request, taken)
        return taken

    @task(week=3, day=5, number=5)
    def release(self, request: Request) -> None:
        """Give back the request's blocks and forget its drafter. When it is admitted again, it gets a new one."""
        self._speculations.pop(request.request_id, None)
        super().release(request)

    @task(week=3, day=5, number=5)
    def check_integrity(self) -> None:
        """As in `Engine`; also, no request holds blocks for drafts, and only running ones have a drafter.

        Raises:
            RuntimeError: saying what is wrong.
        """
        super().check_integrity()
        for request in self._running:
            if len(request.blocks) > blocks_for(len(request.tokens), self.pool.block_size):
                raise RuntimeError(f"request {request.request_id} has {len(request.tokens)} tokens and holds {request.blocks}")
        if left := self._speculations.keys() - self.running.keys():
            raise RuntimeError(f"requests {sorted(left)} do not run and have drafters")
