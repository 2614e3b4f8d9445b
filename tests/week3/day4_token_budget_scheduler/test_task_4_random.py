"""Week 3 Day 4, task 4: random requests come, run, are cancelled and preempted; each plan must keep the rules and be possible.

No model is needed: a token that comes back is a number.
"""

import copy
import random
from typing import Any

import pytest

from answer import answer
from planning import State, blocks_for


class Life:
    """A state that lives on: each step is planned, checked, carried out, and its tokens come back now or one step later."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.block_size = self.random.choice([1, 2, 3, 4])
        self.longest = self.random.choice([6, 12, 24])
        self.num_blocks = blocks_for(self.longest - 1, self.block_size) + self.random.choice([0, 1, 2, 5, 10])
        self.seqs = self.random.randint(1, 8)
        self.tokens = self.seqs + self.random.choice([0, 1, 3, 20])
        self.watermark = self.random.choice([0.0, 0.01, 0.3])
        self.scheduler = answer.Scheduler(self.seqs, self.tokens, self.watermark)
        self.state = State(self.num_blocks, self.block_size)
        self.late = self.random.random() < 0.5
        self.flying: list[Any] = []

    def arrive(self, name: str) -> None:
        length = self.random.randint(1, self.random.choice([self.longest // 3, self.longest - 1]))
        prompt = [self.random.choice([3, 3, 3, place]) for place in range(length)]  # many begin in the same way
        self.state.wait(name, prompt, max_tokens=self.random.choice([1, self.longest - length]))

    def step(self) -> None:
        state = self.state
        for request in [*state.running, *state.waiting]:
            if self.random.random() < 0.02:
                state.end(request)
        if len(state.running) > 1 and self.random.random() < 0.1:
            self.preempt(self.random.choice(state.running))
        before = state.everything()
        plan = self.scheduler.plan(iter(state.waiting), state.running, state.pool, state.cache)
        assert state.everything() == before, "a plan changes nothing"
        self.check(plan)
        asking = [*plan.decodes, *(chunk.request for chunk in plan.chunks if chunk.end == len(chunk.request.tokens))]
        landing, self.flying = (self.flying, asking) if self.late else (asking, [])
        if state.running or state.waiting:
            assert plan.decodes or plan.chunks or landing, f"{self}: no request computes anything, and nothing is on its way"
        next_in_turn = self.kept_out(plan)
        state.carry_out(plan)
        if next_in_turn:
            self.check_kept_out(next_in_turn)
        for request in landing:
            if request.finish_reason is None:
                state.land(request)
        state.pool.check_integrity([*(request.blocks for request in state.running), state.cache.blocks])

    def preempt(self, request: Any) -> None:
        """As a caller may decide at any time."""
        self.state.running.remove(request)
        self.state.waiting.insert(0, request)
        self.state.cache.release(request.blocks)
        request.blocks, request.offset = [], 0

    def check(self, plan: Any) -> None:
        """The rules, one by one."""
        state, shown = self.state, f"{self}: the plan is “{self.state.show(plan)}”"
        claims = [request for request in state.running if not request.all_launched]
        kept = [request for request in claims if request not in plan.preempted]
        admitted = [chunk for chunk in plan.chunks if chunk.match is not None]
        going_on = [chunk for chunk in plan.chunks if chunk.match is None]
        used = len(plan.decodes) + sum(chunk.end - chunk.start for chunk in plan.chunks)
        assert used <= self.tokens, f"{shown}: {used} tokens, and the budget is {self.tokens}"
        assert len(claims) + len(admitted) <= max(self.seqs, len(claims)), f"{shown}: more than {self.seqs} run"
        working = [*plan.decodes, *(chunk.request for chunk in plan.chunks)]
        assert len({request.request_id for request in working}) == len(working), f"{shown}: none is served twice in a step"
        assert kept == claims[: len(kept)], f"{shown}: those who are preempted are the youngest"
        assert kept or not claims, f"{shown}: the oldest is never preempted"
        assert not (plan.preempted and admitted), f"{shown}: none is admitted in a step that preempts"
        if plan.preempted:
            self.check_preemptions(plan, claims)
        for request in plan.decodes:
            assert request in kept, f"{shown}: only those who run, and are not preempted, decode"
            assert request.to_compute == 1, f"{shown}: only those decode who lack just their last token"
        for chunk in going_on:
            assert chunk.request in kept, f"{shown}: a chunk without a match is a running request's"
            assert chunk.start == chunk.request.offset, f"{shown}: a chunk begins where the last one ended"
        for chunk in plan.chunks:
            assert chunk.start < chunk.end <= len(chunk.request.tokens), f"{shown}: a chunk has tokens, and only known ones"
        left = self.tokens - used
        for request in kept:
            if request.to_compute > 1:
                computed = sum(chunk.end - chunk.start for chunk in going_on if chunk.request is request)
                assert computed == request.to_compute or not left, f"{shown}: {left} tokens of the budget are left for prompts"
            elif request is not kept[0]:
                assert request in plan.decodes, (
                    f"{shown}: a request that decodes gets a token, or is preempted, unless the oldest"
                )
        back = [request for request in state.waiting if not request.in_flight]
        assert [chunk.request for chunk in admitted] == back[: len(admitted)], f"{shown}: the waiting are admitted in turn"
        for chunk in admitted:
            assert chunk.match.tokens == chunk.start < len(chunk.request.tokens), f"{shown}: a newcomer begins after its match"
            found = state.cache.match(chunk.request.tokens)
            whole = chunk.match.tokens // self.block_size
            assert chunk.match.blocks[:whole] == found.blocks[:whole], f"{shown}: a match is what the cache has now"
        assert state.running or admitted or not back, f"{shown}: none runs, so that the whole pool is there for the next one"

    def check_preemptions(self, plan: Any, claims: list[Any]) -> None:
        """Without the last one that was preempted, the oldest of them, the blocks would not have been enough."""
        pool, cache = copy.deepcopy((self.state.pool, self.state.cache))
        spared = claims[len(claims) - len(plan.preempted)]
        for request in plan.preempted:
            if request is not spared:
                cache.release(request.blocks)
        decoding = [request for request in claims[: claims.index(spared) + 1] if request.to_compute == 1]
        needed = sum(blocks_for(request.offset + 1, self.block_size) - len(request.blocks) for request in decoding)
        name, free = self.state.names[spared.request_id], pool.num_free + cache.evictable
        assert needed > free, f"{self}: {name} was preempted, and those up to it need {needed} of {free} blocks"

    def kept_out(self, plan: Any) -> Any:
        """The next one, if it is not admitted despite a free seat and tokens; None after a copy, which holds two blocks."""
        claims = [request for request in self.state.running if not request.all_launched]
        admitted = [chunk for chunk in plan.chunks if chunk.match is not None]
        back = [request for request in self.state.waiting if not request.in_flight][len(admitted) :]
        used = len(plan.decodes) + sum(chunk.end - chunk.start for chunk in plan.chunks)
        full = plan.preempted or len(claims) + len(admitted) >= self.seqs or used == self.tokens
        copied = any(chunk.match.tokens < len(chunk.match.blocks) * self.block_size for chunk in admitted)
        return back[0] if back and not full and not copied else None

    def check_kept_out(self, request: Any) -> None:
        """After the step, there is no room for it."""
        pool, cache = self.state.pool, self.state.cache
        match = cache.match(request.tokens)
        idle = sum(pool.references(block) == 1 for block in match.blocks)
        needed = blocks_for(len(request.tokens), self.block_size) - match.tokens // self.block_size + idle
        free = pool.num_free + cache.evictable - int(self.watermark * self.num_blocks)
        name = self.state.names[request.request_id]
        assert needed > free, f"{self}: {name} has to wait, though it needs {needed} of {free} blocks"

    def __str__(self) -> str:
        return (
            f"{self.num_blocks} blocks of {self.block_size}, {self.seqs} seats, a budget of {self.tokens}, watermark"
            f" {self.watermark}, {len(self.state.running)} run and {len(self.state.waiting)} wait"
        )


@pytest.mark.parametrize("seed", range(25))
def test_task_4_every_plan_is_possible_and_everyone_is_served(seed: int) -> None:
    life = Life(seed)
    state = life.state
    for step in range(600):
        if step < 40 and life.random.random() < 0.4:
            life.arrive(f"request {step}")
        if not (state.running or state.waiting):
            if step >= 40:
                break
            continue
        life.step()
    assert not state.running, f"{life}: these should have ended long ago"
    assert not state.waiting, f"{life}: these should have been served long ago"
    state.cache.clear()
    assert state.pool.num_free == life.num_blocks, f"{life}: all blocks are free at the end"
