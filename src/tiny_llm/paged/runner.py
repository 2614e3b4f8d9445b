"""The device's side of the paged engine: one call of the model for all that a plan says. Nothing is read back here."""

import mlx.core as mx

from tiny_llm_kit.course import task

from ..in_flight import Drawn
from ..model import Model
from ..model_runner import sample
from .paged_kv_cache import PagedAttention, PagedKvCache
from .ragged_batch import Row, make_ragged_batch
from .request import PagedRequest
from .scheduler import MixedPlan


class PagedRunner:
    """Computes plans: decodes and prompt chunks side by side, so that the weights are read once in a step.

    Args:
        model: see `Model`.
        num_blocks, block_size: of each layer's pool.
        paged_attention: see `PagedKvCache`.
    """

    def __init__(self, model: Model, num_blocks: int, block_size: int, paged_attention: PagedAttention | None = None) -> None:
        self.model = model
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.paged_attention = paged_attention
        self.reset()

    def reset(self) -> None:
        """Empty pools in new memory: what was there may hang on a computation that has failed."""
        layers = range(self.model.config.num_layers)
        self.caches = [PagedKvCache(self.num_blocks, self.block_size, self.paged_attention) for _ in layers]
        self.last_tokens = mx.zeros((0,), dtype=mx.uint32)
        self.row_of: dict[int, int] = {}

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
