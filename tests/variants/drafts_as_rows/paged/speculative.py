"""A step is a list of guesses, one for each that decodes: made, cut, launched, judged, and handed out."""

from collections import deque
from dataclasses import dataclass, field, replace

from tiny_llm_kit.course import task

from ..in_flight import InFlight
from ..request import Request
from .engine import Engine
from .request import PagedRequest
from .scheduler import MixedPlan


@dataclass
class Guess:
    """What is guessed for a request in a step: `drafts` are checked, and `cut` would have followed."""

    request: PagedRequest
    drafts: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)


class SpeculativeEngine(Engine):
    @task(week=3, day=5, number=5)
    def step(self) -> list[Request]:
        with self.iteration():
            self._end_late()
            plan = self.scheduler.plan(self.waiting.in_turn(), self._running, self.pool, self.prefix_cache)
            self.guesses: dict[int, Guess] = {}
            launched = self._launch(plan)
            queue_size = len(self.waiting)
            new_tokens = self._update(launched)
        busy = len({*plan.decodes, *(chunk.request for chunk in plan.chunks)})
        return self.close_iteration(busy, self.scheduler.max_num_seqs, queue_size, new_tokens)

    @task(week=3, day=5, number=5)
    def _launch(self, plan: MixedPlan) -> InFlight:
        launched = InFlight()
        try:
            self._assign_blocks(plan)
            for request in plan.decodes:
                with self.failures_end([request]):
                    self.guesses[request.request_id] = self._make_guess(plan, request)
            going = [guess for guess in self.guesses.values() if guess.request.finish_reason is None]
            if self.adaptive is not None:
                lengths = whole_tiles(plan.tokens, [len(guess.drafts) for guess in going])
                for guess, length in zip(going, lengths, strict=True):
                    guess.drafts, guess.cut = guess.drafts[:length], guess.drafts[length:]
            plan = replace(plan, decodes=[guess.request for guess in going])
            working = plan.decodes + [chunk.request for chunk in plan.chunks]
            with self.failures_end(working):
                asked = self.runner.run(plan, {g.request.request_id: g.drafts for g in going}) if working else None
                if asked is not None:
                    launched.add(*asked)
                for chunk in plan.chunks:
                    self.log_chunk(chunk.request, chunk.start, chunk.end)
            launched.start()
            self.runner.start()
        except Exception as error:
            self.abandon(error)
            launched = InFlight()
        return launched

    def _make_guess(self, plan: MixedPlan, request: PagedRequest) -> "Guess":
        pair = self._speculations.get(request.request_id) or (self.drafter(), self.adaptive and self.adaptive())
        self._speculations[request.request_id] = pair
        drafter, adaptive = pair
        made = sum(len(guess.drafts) for guess in self.guesses.values())
        places = self.pool.block_size * (self.pool.num_free + len(request.blocks))
        limits = [
            self.scheduler.max_num_batched_tokens - plan.tokens - made,
            request.max_tokens - 1 - len(request.generated_tokens),
            places - 1 - request.offset,
        ]
        if min(limits) > 0:
            limits.append(adaptive.length(len(plan.decodes)) if adaptive else self.num_speculative_tokens)
        if min(limits) < 1:
            return Guess(request)
        drafts = [*drafter.propose(request.tokens, min(limits))]
        if len(drafts) > min(limits):
            raise ValueError(f"{len(drafts)} drafts, and {min(limits)} were wanted")
        for token in drafts:
            if token < 0 or token >= self.vocab_size:
                raise ValueError(f"draft {token} is no token: the vocabulary has {self.vocab_size}")
        self._grow(request, request.offset + len(drafts) + 1)
        return Guess(request, drafts)

    @task(week=3, day=5, number=5)
    def _update(self, landed: InFlight) -> int:
        try:
            read = landed.read()
        except Exception as error:
            self.abandon(error)
            return 0
        drawn: dict[PagedRequest, deque[tuple[int, bool]]] = {request: deque() for request, _, _ in read}
        for request, token, sound in read:
            drawn[request].append((token, sound))
        for request, own in drawn.items():
            guess = self.guesses.get(request.request_id) or Guess(request)
            self._judge(guess, own)
            request.offset = len(request.prompt) + len(request.generated_tokens) + len(own) - 1
            while len(request.blocks) > blocks_for(request.offset, self.pool.block_size):
                self.prefix_cache.release([request.blocks.pop()])
        kept = 0
        while drawn:
            request = next(iter(drawn))
            own = drawn.pop(request)
            while own and request.finish_reason is None:
                token, sound = own.popleft()
                if sound:
                    self._publish(request)
                    took = self.take(request, token)
                    self.waiting.charge(request, took)
                    kept += took
                else:
                    self.end(request, "error", FloatingPointError("NaN or infinity where a token should be drawn"))
        return kept

    def _judge(self, guess: "Guess", drawn: deque[tuple[int, bool]]) -> None:
        """Drop what was drawn behind a wrong draft, and tell who counts."""
        right = 0
        while right < len(guess.drafts) and drawn[right][0] == guess.drafts[right]:
            right += 1
        while len(drawn) > right + 1:
            drawn.pop()
        metrics, checked = self.metrics, len(guess.drafts)
        metrics.computed_tokens += checked
        metrics.spec_decode_num_draft_tokens += checked
        metrics.spec_decode_num_accepted_tokens += right
        known = guess.drafts + guess.cut[:1] if right == checked else guess.drafts
        if known and (adaptive := self._speculations[guess.request.request_id][1]):
            adaptive.update(len(known), right + (len(known) > checked and drawn[-1][0] == known[-1]))

    @task(week=3, day=5, number=5)
    def release(self, request: Request) -> None:
        self._speculations = {owner: pair for owner, pair in self._speculations.items() if owner != request.request_id}
        super().release(request)

    @task(week=3, day=5, number=5)
    def check_integrity(self) -> None:
        super().check_integrity()
        if not set(self._speculations) <= set(self.running):
            raise RuntimeError(f"there are drafters of {sorted(self._speculations)}, and {sorted(self.running)} run")
        for request in self._running:
            used = blocks_for(len(request.prompt) + len(request.generated_tokens), self.pool.block_size)
            if request.blocks[used:]:
                raise RuntimeError(f"request {request.request_id} holds {request.blocks[used:]} for nothing")
