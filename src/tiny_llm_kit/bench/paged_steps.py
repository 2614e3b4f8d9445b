"""Steps of the paged engine without its engine: requests that hold blocks and can be computed on again and again."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx

from tiny_llm_kit.bench.step_profile import LENGTH, REPEATS, shortest
from tiny_llm_kit.workloads.lists import plain_prompt
from tiny_llm_kit.workloads.paged import choose_paged_attention

BLOCK_SIZE = 16


class PagedSteps:
    """Decode steps of `rows` requests that hold `length` tokens each, optionally alongside a piece of another request's prompt.

    Args:
        steps: how many can be computed at most.
        prompt_tokens: of the piece, which is the same in each step.
        tokens_before: how many tokens of that prompt have been read before.
        paged_attention, kv_bits: of the runner.
    """

    def __init__(
        self,
        answer: ModuleType,
        model: Any,
        rows: int,
        length: int,
        steps: int,
        prompt_tokens: int = 0,
        tokens_before: int = 0,
        paged_attention: Callable[..., Any] | None = None,
        kv_bits: int | None = None,
    ) -> None:
        self.answer = answer
        end = tokens_before + prompt_tokens
        each, extra = answer.blocks_for(length + steps + 1, BLOCK_SIZE), answer.blocks_for(end, BLOCK_SIZE)
        packed = {} if kv_bits is None else {"kv_bits": kv_bits}
        self.runner = answer.PagedRunner(model, rows * each + extra, BLOCK_SIZE, paged_attention, **packed)
        self.decodes = [self._request(length, row * each, each, steps) for row in range(rows)]
        prompts = [answer.Chunk(request, 0, length) for request in self.decodes]
        self.chunks = []
        if prompt_tokens:
            late = self._request(end + 1, rows * each, extra, 1)
            prompts.append(answer.Chunk(late, 0, tokens_before))
            self.chunks = [answer.Chunk(late, tokens_before, end)]
        mx.eval(self._run([], prompts), [cache.pools for cache in self.runner.caches])

    def _request(self, length: int, first_block: int, blocks: int, steps: int) -> Any:
        request = self.answer.PagedRequest(plain_prompt(length, first_block), steps + 1)
        request.hold(list(range(first_block, first_block + blocks)))
        return request

    def _run(self, decodes: list[Any], chunks: list[Any]) -> mx.array:
        tokens: mx.array = self.runner.run(SimpleNamespace(decodes=decodes, chunks=chunks, preempted=[]))[1].tokens
        return tokens

    def build(self) -> mx.array:
        """The tokens of the next step, which are still to be computed."""
        return self._run(self.decodes, self.chunks)


def paged_decode_seconds(answer: ModuleType, model: Any, rows: int, length: int = LENGTH, kernels: str | None = None) -> float:
    """The time of a decode step of this many rows, which hold `length` tokens each, as `step_profile.decode_seconds`."""
    return shortest(
        PagedSteps(answer, model, rows, length, REPEATS + 2, paged_attention=choose_paged_attention(answer, kernels)).build
    )


def two_paged_prompts(answer: ModuleType, model: Any, tokens: int, kernels: str | None = None) -> tuple[float, float]:
    """Seconds for two prompts of this many tokens, in two steps and in one, in which one follows the other."""
    blocks = answer.blocks_for(tokens, BLOCK_SIZE)
    runner = answer.PagedRunner(model, 2 * blocks, BLOCK_SIZE, choose_paged_attention(answer, kernels))

    def read(prompts: int) -> mx.array:
        chunks = []
        for number in range(prompts):
            request = answer.PagedRequest([32] * tokens, 1)
            request.hold(list(range(number * blocks, (number + 1) * blocks)))
            chunks.append(answer.Chunk(request, 0, tokens))
        drawn: mx.array = runner.run(SimpleNamespace(decodes=[], chunks=chunks, preempted=[]))[1].tokens
        return drawn

    return 2 * shortest(lambda: read(1)), shortest(lambda: read(2))
