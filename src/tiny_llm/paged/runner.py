"""The device's side of the paged engine: one call of the model for all that a plan says. Nothing is read back here."""

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
    """Computes plans: decodes and prompt chunks side by side, so that the weights are read once in a step.

    Args:
        model: see `Model`.
        num_blocks, block_size: of each layer's pool.
        paged_attention: see `PagedKvCache`.
        kv_bits: 8 or 4: keys and values are stored in so many bits (see `QuantizedKvCache`). None: as they are.
    Raises:
        ValueError: for other `kv_bits`, a model whose heads can't be quantized, or both of the last two.
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
        """Empty pools in new memory: what was there may hang on a computation that has failed."""
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
        raise NotImplementedError("Week 3 Day 4, task 5: the runner. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=5)
    def run(self, plan: MixedPlan) -> tuple[list[PagedRequest], Drawn] | None:
        """Build a step. Each `offset` advances by what is computed, and `in_flight` by the token that it asks for.

        Returns:
            Those who get a token, and the tokens: of all decodes, and of the chunks that reach the end of what is known. None
            if nobody does.
        """
        raise NotImplementedError("Week 3 Day 4, task 5: the runner. Read book/src/week3-04-token-budget-scheduler.md")

    def start(self) -> None:
        """Set the device to work on what is to be written: a step in which nobody gets a token asks for nothing else."""
        mx.async_eval([cache.pools for cache in self.caches])

    @task(week=3, day=4, number=5)
    def _tokens(self, plan: MixedPlan) -> mx.array:
        """The tokens of a step `(T,)`: those that are in flight come from the last step's, without a way through the host."""
        raise NotImplementedError("Week 3 Day 4, task 5: the runner. Read book/src/week3-04-token-budget-scheduler.md")
