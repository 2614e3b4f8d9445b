"""One random schedule for the paged engine, and for the one that speculates; see `stress`."""

from collections.abc import Sequence
from random import Random
from typing import Any

from tiny_llm_kit.bench.accidents import ModelFailure
from tiny_llm_kit.bench.stress_schedule import LONGEST_ANSWER, LONGEST_PROMPT, Broken, Schedule

MOST_COMPUTED = LONGEST_PROMPT + LONGEST_ANSWER - 1
"""Tokens of a request that the model is given: all but the last."""


class PagedSchedule(Schedule):
    """One schedule on the paged engine: small pools, shared beginnings, preemption at any moment, deadlines."""

    def make_engine(self) -> Any:
        """From one block more than a single request may need, to a pool in which no request is ever preempted."""
        chance = self.chance
        self.now = 0.0
        size = chance.choice([2, 4, 8])
        seqs = chance.randint(1, 6)
        packed = {} if self.kv_bits is None else {"kv_bits": self.kv_bits}
        return self.build(
            num_blocks=self.answer.blocks_for(MOST_COMPUTED, size) + chance.choice([0, 1, 2, 4, 8, 50]),
            block_size=size,
            max_num_seqs=seqs,
            max_num_batched_tokens=seqs + chance.choice([0, 1, 3, 8, 30]),
            watermark=chance.choice([0, 0.01, 0.3]),
            prefix_caching=chance.random() < 0.8,
            clock=lambda: self.now,
            **packed,
        )

    def build(self, **options: Any) -> Any:
        """The engine of these sizes."""
        return self.answer.Engine(self.model, **options)

    def make_request(self, *args: Any, **options: Any) -> Any:
        """A request of one of two users, urgent or not, and sometimes with a deadline."""
        deadline = self.now + self.chance.randint(0, 40) if not self.calm and self.chance.random() < 0.1 else None
        priority, user = self.chance.choice([0, 0, 1]), self.chance.choice("ab")
        return self.answer.PagedRequest(*args, priority=priority, user=user, deadline=deadline, **options)

    def disturb(self) -> None:
        """Preempt a request without need."""
        self.now += 1
        if self.engine.running and self.chance.random() < 0.1:
            self.engine.preempt(self.chance.choice(list(self.engine.running.values())))
        self.model.shapes.clear()
        self.before = self._progress()

    def check_step(self) -> None:
        """One call of the model at most, within the budget; and a step with work makes progress."""
        budget = self.engine.scheduler.max_num_batched_tokens
        if len(self.model.shapes) > 1 or any(tokens > budget for _, tokens in self.model.shapes):
            raise Broken(f"a step of at most {budget} tokens called the model with {self.model.shapes} tokens")
        if self.engine.has_work and self._progress() == self.before and not self.model.shapes:
            raise Broken("a step did nothing, and there is work")

    def _progress(self) -> tuple[int, int, int]:
        tokens = sum(len(request.generated_tokens) + request.in_flight for request in self.requests)
        return tokens, sum(request.in_flight for request in self.requests), sum(r.finish_reason is None for r in self.requests)

    def check_room(self) -> None:
        """All blocks come back."""
        self.counts.preemptions += self.engine.metrics.num_preemptions
        self.counts.shared_tokens += self.engine.metrics.prefix_cache_hits
        self.engine.prefix_cache.clear()
        if self.engine.pool.num_free != self.engine.pool.num_blocks:
            raise Broken(f"{self.engine.pool.num_blocks - self.engine.pool.num_free} blocks are lost")

    def explains(self, request: Any) -> bool:
        """A deadline explains an error, too."""
        return super().explains(request) or (isinstance(request.error, TimeoutError) and request.deadline is not None)


class SpeculativeSchedule(PagedSchedule):
    """The same on an engine that speculates.

    Random tokens seldom repeat, so most drafters know the answers, err at times, and fail in a few calls.
    """

    def build(self, **options: Any) -> Any:
        chance, answer = self.chance, self.answer
        known = [[*case.prompt, *case.answer] for case in self.cases]
        return answer.SpeculativeEngine(
            self.model,
            drafter=answer.NgramDrafter if chance.random() < 0.2 else lambda: ErraticDrafter(known, chance, self.calm),
            adaptive=chance.choice([None, answer.AdaptiveDraft]),
            num_speculative_tokens=chance.randint(1, 8),
            **options,
        )

    def check_room(self) -> None:
        self.counts.drafted += self.engine.metrics.spec_decode_num_draft_tokens
        self.counts.accepted += self.engine.metrics.spec_decode_num_accepted_tokens
        super().check_room()


class ErraticDrafter:
    """Knows how some sequences go on, and errs. Unless it is calm, it fails in one of 200 calls."""

    def __init__(self, known: Sequence[Sequence[int]], chance: Random, calm: bool) -> None:
        self.known = known
        self.chance = chance
        self.calm = calm

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        if not self.calm and self.chance.random() < 0.005:
            raise ModelFailure("a drafter")
        ahead = next((one[len(tokens) :] for one in self.known if one[: len(tokens)] == list(tokens)), [])
        return [token if self.chance.random() < 0.8 else self.chance.randrange(256) for token in ahead[:count]]
