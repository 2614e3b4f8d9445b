"""What the tests of the plan (week 3, day 4) are built on: a pool, a prefix cache, and requests in any state, without a model.

`carry_out` does to the pool what an engine does with a plan, so that a plan for which there are too few blocks is found out.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from answer import answer

_fresh_tokens = itertools.count(1000)


def blocks_for(tokens: int, block_size: int) -> int:
    return -(-tokens // block_size)


class State:
    """A pool of blocks of 4 tokens (or others), its prefix cache, the running requests, oldest first, and the waiting ones."""

    def __init__(self, num_blocks: int = 100, block_size: int = 4) -> None:
        self.pool = answer.BlockPool(num_blocks, block_size)
        self.cache = answer.PrefixCache(self.pool)
        self.running: list[Any] = []
        self.waiting: list[Any] = []
        self.names: dict[int, str] = {}
        self.plan()  # as long as there is only its stub, that one is to fail, and none of the days before

    def _request(self, name: str, prompt: int | Sequence[int], answered: int, in_flight: int, max_tokens: int) -> Any:
        tokens = [next(_fresh_tokens) for _ in range(prompt)] if isinstance(prompt, int) else list(prompt)
        request = answer.PagedRequest(tokens, max_tokens)
        request.generated_tokens.extend(range(answered))
        request.in_flight = in_flight
        self.names[request.request_id] = name
        return request

    def wait(self, name: str, prompt: int | Sequence[int], answered: int = 0, in_flight: int = 0, max_tokens: int = 50) -> Any:
        """A new request, or, with tokens of an answer, one that was preempted."""
        request = self._request(name, prompt, answered, in_flight, max_tokens)
        self.waiting.append(request)
        return request

    def begun(
        self,
        name: str,
        prompt: int | Sequence[int],
        done: int,
        answered: int = 0,
        max_tokens: int = 50,
        shared: Sequence[int] = (),
    ) -> Any:
        """A running request: `done` tokens are computed, and there are blocks for all known ones. The first may be `shared`."""
        request = self._request(name, prompt, answered, 0, max_tokens)
        own = self.take(blocks_for(len(request.tokens), self.pool.block_size) - len(shared))
        request.blocks = [*self._share(shared), *own]
        request.offset = done
        self.running.append(request)
        return request

    def decode(self, name: str, computed: int, in_flight: int = 0, max_tokens: int = 50, shared: Sequence[int] = ()) -> Any:
        """A decoding request: this many tokens are computed, with blocks for these; the last known or launched one is not."""
        request = self._request(name, computed - in_flight, 1, in_flight, max_tokens)
        own = self.take(blocks_for(computed, self.pool.block_size) - len(shared))
        request.blocks = [*self._share(shared), *own]
        request.offset = computed
        self.running.append(request)
        return request

    def _share(self, blocks: Sequence[int]) -> Sequence[int]:
        if all(map(self.cache.holds, blocks)):
            self.cache.lock(answer.Match(list(blocks), len(blocks) * self.pool.block_size))
        else:
            self.pool.share(blocks)
        return blocks

    def take(self, count: int) -> list[int]:
        """Blocks that no request in the test uses, or that a request will."""
        blocks = self.pool.allocate(count)
        assert blocks is not None, "the test itself needs more blocks than its pool has"
        return list(blocks)

    def leave_free(self, count: int) -> None:
        """Let another request hold all blocks but this many."""
        self.take(self.pool.num_free - count)

    def cached(self, tokens: Sequence[int]) -> list[int]:
        """Let the prefix cache hold these tokens, a whole number of blocks, and no request; the blocks."""
        blocks = self.take(len(tokens) // self.pool.block_size)
        duplicates = self.cache.insert(list(tokens), blocks)
        blocks = [duplicates.get(block, block) for block in blocks]
        self.cache.release(blocks)
        return blocks

    def plan(self, seqs: int = 8, tokens: int = 16, watermark: float = 0.0) -> Any:
        return answer.Scheduler(seqs, tokens, watermark).plan(iter(self.waiting), self.running, self.pool, self.cache)

    def show(self, plan: Any) -> str:
        """Decodes and preempted ones in the order of their names, chunks of those who run likewise, admissions as they come."""

        def span(chunk: Any) -> str:
            return f"{self.names[chunk.request.request_id]} {chunk.start}:{chunk.end}"

        parts = {
            "decode": sorted(self.names[request.request_id] for request in plan.decodes),
            "go on": sorted(span(chunk) for chunk in plan.chunks if chunk.match is None),
            "admit": [span(chunk) for chunk in plan.chunks if chunk.match is not None],
            "preempt": sorted(self.names[request.request_id] for request in plan.preempted),
        }
        return "; ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names) or "nothing"

    def everything(self) -> Any:
        """All that a plan must leave as it is."""
        return (
            [self.pool.references(block) for block in range(self.pool.num_blocks)],
            self.pool.num_free,
            sorted(self.cache.blocks),
            self.cache.evictable,
            [
                (request.request_id, request.state, request.offset, request.in_flight, [*request.blocks], request.tokens)
                for request in [*self.running, *self.waiting]
            ],
        )

    def allocate(self, count: int, what: str) -> list[int]:
        """As an engine does: what is missing is evicted first."""
        if count > self.pool.num_free:
            self.cache.evict(count - self.pool.num_free)
        blocks = self.pool.allocate(max(count, 0))
        assert blocks is not None, f"{what} needs {count} blocks, and {self.pool.num_free} are free, with nothing left to evict"
        return list(blocks)

    def carry_out(self, plan: Any) -> None:
        """Assign blocks and advance counters. A chunk to the end of what is known, and each decode, puts a token in flight."""
        for request in plan.preempted:
            self.running.remove(request)
            self.waiting.insert(0, request)
            self.cache.release(request.blocks)
            request.blocks, request.offset = [], 0
        for chunk in plan.chunks:
            if chunk.match is not None:
                self.cache.lock(chunk.match)
        for request in plan.decodes:
            self._grow(request, request.offset + 1)
        for chunk in plan.chunks:
            if chunk.match is not None:
                self._admit(chunk)
        for request in plan.decodes:
            request.offset += 1
            request.in_flight += 1
        for chunk in plan.chunks:
            complete = chunk.end == len(chunk.request.tokens)
            chunk.request.offset = chunk.end
            chunk.request.in_flight += complete

    def _grow(self, request: Any, tokens: int) -> None:
        missing = blocks_for(tokens, self.pool.block_size) - len(request.blocks)
        request.blocks = [*request.blocks, *self.allocate(missing, f"{self.names[request.request_id]}, for {tokens} tokens,")]

    def _admit(self, chunk: Any) -> None:
        request, size = chunk.request, self.pool.block_size
        self.waiting.remove(request)
        self.running.append(request)
        request.blocks, request.offset = list(chunk.match.blocks), chunk.match.tokens
        if chunk.match.tokens < len(request.blocks) * size:
            (copy,) = self.allocate(1, f"the copy of {self.names[request.request_id]}'s last block")
            self.cache.release([request.blocks[-1]])
            request.blocks[-1] = copy
        self._grow(request, len(request.tokens))

    def land(self, request: Any) -> None:
        """Let a token come back. A request that ends gives back its blocks; of one that runs, full blocks become known."""
        request.in_flight -= 1
        if request.accept(7 + len(request.generated_tokens)) and request.finish_reason is None:
            if request in self.running:
                self._publish(request)
            return
        self.end(request)

    def _publish(self, request: Any) -> None:
        full = (len(request.tokens) - 1) // self.pool.block_size
        duplicates = self.cache.insert(request.tokens[: full * self.pool.block_size], request.blocks[:full])
        request.blocks = [duplicates.get(block, block) for block in request.blocks]

    def end(self, request: Any) -> None:
        """Let a request leave, wherever it is."""
        request.finish("cancelled")
        for everyone in (self.running, self.waiting):
            if request in everyone:
                everyone.remove(request)
        self.cache.release(request.blocks)
        request.blocks = []


def assert_plan(state: State, expected: str, look_at: str, **limits: Any) -> Any:
    """The plan is the expected one, and there are blocks for it. It is returned, not carried out."""
    __tracebackhide__ = True
    plan = state.plan(**limits)
    got = state.show(plan)
    assert got == expected, f"{look_at}: expected “{expected}”, but the plan is “{got}”"
    return plan
