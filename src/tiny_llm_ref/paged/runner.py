"""The device's side of the paged engine: one call of the model for everything in a plan. Nothing is read back here."""

import mlx.core as mx

from tiny_llm_kit.course import task

from ..in_flight import Drawn
from ..model import Model
from ..model_runner import sample
from .paged_kv_cache import PagedAttention, PagedKvCache
from .quantized_pool import QuantizedKvCache, check_quantized
from .ragged_batch import Row, make_ragged_batch
from .request import PagedRequest
from .scheduler import MixedPlan


class PagedRunner:
    """Computes plans: decodes and prompt chunks side by side, so the weights are read once per step.

    Args:
        model: see `Model`.
        num_blocks, block_size: of each layer's pool.
        paged_attention: see `PagedKvCache`.
        kv_bits: 8 or 4: keys and values are stored in this many bits (see `QuantizedKvCache`). None: as they are.
    Raises:
        ValueError: for other `kv_bits`, a model whose heads can't be quantized, or if both `paged_attention` and `kv_bits` are
            given.
    """

    def __init__(
        self,
        model: Model,
        num_blocks: int,
        block_size: int,
        paged_attention: PagedAttention | None = None,
        kv_bits: int | None = None,
    ) -> None:
        if kv_bits is not None:
            check_quantized(kv_bits, model.config.head_dim)
            if paged_attention is not None:
                raise ValueError(
                    f"paged_attention reads pools of plain numbers, and kv_bits is {kv_bits}: leave out one of them"
                )
        self.model = model
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.paged_attention = paged_attention
        self.kv_bits = kv_bits
        self.reset()

    def reset(self) -> None:
        """Empty pools in new memory: what was there may depend on a computation that has failed."""
        self.caches = [self._make_cache() for _ in range(self.model.config.num_layers)]
        self.last_tokens = mx.zeros((0,), dtype=mx.uint32)
        self.row_of: dict[int, int] = {}

    def _make_cache(self) -> PagedKvCache:
        if self.kv_bits is None:
            return PagedKvCache(self.num_blocks, self.block_size, self.paged_attention)
        return QuantizedKvCache(self.num_blocks, self.block_size, self.kv_bits)

    @task(week=3, day=4, number=5)
    def copy_block(self, source: int, target: int) -> None:
        """Copy a block, in all layers."""
        for cache in self.caches:
            cache.copy_block(source, target)

    @task(week=3, day=4, number=5)
    def run(self, plan: MixedPlan) -> tuple[list[PagedRequest], Drawn] | None:
        """Build a step. Each `offset` advances by what is computed, and `in_flight` by the token that is asked for.

        Returns:
            The requests that get a token, and the tokens: all decodes, and the chunks that reach the end of the known tokens.
            None if there are none.
        """
        rows = [Row(request.offset, request.offset + 1, request.blocks) for request in plan.decodes]
        asking = list(plan.decodes)
        for chunk in plan.chunks:
            complete = chunk.end - chunk.start == chunk.request.to_compute
            rows.append(Row(chunk.start, chunk.end, chunk.request.blocks, complete))
            if complete:
                asking.append(chunk.request)
        batch = make_ragged_batch(rows, self._tokens(plan), self.block_size)
        for cache in self.caches:
            cache.batch = batch
        logits = self.model(batch.tokens, batch.positions, self.caches, None, logits_to_keep=batch.keep)[0]
        for chunk in plan.chunks:
            chunk.request.offset = chunk.end - 1  # position of a decode: its last token is the input of this step
        tokens = sample(logits, asking, batch.tokens[0, batch.keep]) if asking else self.last_tokens[:0]
        for request in [*plan.decodes, *(chunk.request for chunk in plan.chunks)]:
            request.offset += 1
        for request in asking:
            request.in_flight += 1
        self.last_tokens = tokens
        self.row_of = {request.request_id: row for row, request in enumerate(asking)}
        return (asking, Drawn(tokens, mx.max(logits, axis=-1))) if asking else None

    def start(self) -> None:
        """Start the device on what is to be written: a step in which no request gets a token asks for nothing else."""
        mx.async_eval([cache.pools for cache in self.caches])

    @task(week=3, day=4, number=5)
    def _tokens(self, plan: MixedPlan) -> mx.array:
        """The tokens of a step `(T,)`: those in flight are taken from the last step's output, without going through the
        host."""
        known = [0 if request.in_flight else request.tokens[request.offset] for request in plan.decodes]
        for chunk in plan.chunks:
            known += chunk.request.tokens[chunk.start : chunk.end]
        places = list(range(len(self.last_tokens), len(self.last_tokens) + len(known)))
        for place, request in enumerate(plan.decodes):
            if request.in_flight:
                places[place] = self.row_of[request.request_id]
        return mx.concatenate([self.last_tokens, mx.array(known, dtype=mx.uint32)])[mx.array(places)]
