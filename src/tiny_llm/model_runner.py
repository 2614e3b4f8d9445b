"""The device's side of the engine: runs what a plan says, and reads nothing back.

It knows slots, caches and the model, but not which requests wait or why. All of it is lazy: a decode step is a graph whose
input tokens are the last step's output, still on the device, so the next step can be launched before the last one's tokens are
read.
"""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .batching_kv_cache import BatchingKvCache
from .in_flight import Drawn
from .kv_cache import KvCache
from .masking import create_batch_mask
from .model import Model
from .prefill import prefill_chunk
from .request import Request
from .slot_lengths import SharedLengths


class ModelRunner:
    """Prefills requests one at a time and decodes all that have joined the batch in one call of the model.

    Args:
        model: see `Model`.
        max_batch_size: slots.
        max_seq_len: tokens a slot can hold.
    """

    def __init__(self, model: Model, max_batch_size: int, max_seq_len: int) -> None:
        self.model = model
        self.max_batch_size = max_batch_size
        self.max_seq_len = max_seq_len
        self.reset()

    def reset(self) -> None:
        """Empty slots in new memory: what was there may depend on a computation that has failed."""
        shared, layers = SharedLengths(), range(self.model.config.num_layers)
        self.caches = [BatchingKvCache(self.max_batch_size, self.max_seq_len, shared) for _ in layers]
        self.last_tokens = mx.zeros((0,), dtype=mx.uint32)

    def scrub(self) -> None:
        """Clear what lies beyond the slots' lengths: a mask hides left-over numbers, but not NaN or infinity."""
        for cache in self.caches:
            cache.scrub()

    @task(week=2, day=6, number=4)
    def prefill(self, request: Request, start: int, end: int) -> Drawn | None:
        """Launch one chunk of a prompt into the request's own cache, which is made if needed; `offset` advances to `end`.

        Returns:
            The first token of the answer if `end` is the prompt's end, else None.
        """
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def join(self, request: Request, slot: int, first_token: Drawn) -> None:
        """Put a prefilled request, with its first token, into a slot; its own cache is dropped."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def decode(self, requests: Sequence[Request]) -> Drawn:
        """Launch one token for each request; they own slots 0 … B − 1, in this order. Each `offset` advances by one.

        Returns:
            The next tokens of all rows.
        """
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def leave(self, slot: int) -> None:
        """Free a slot, in all layers."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def move(self, source: int, target: int) -> None:
        """Move a request to a free slot, in all layers, with its last token."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _put_last_token(self, slot: int, token: mx.array) -> None:
        """Set the last token `(1,)` of a slot, in a new array: the old one may still be waiting to be read.

        The slot may be the one right after the last row; then there is one row more.
        """
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )


@task(week=2, day=6, number=4)
def sample(logits: mx.array, requests: Sequence[Request], last_tokens: mx.array | None = None) -> mx.array:
    """Draw a token for each row: greedy rows share one argmax, the others use their request's own sampler.

    Args:
        logits: `(B, V)`.
        requests: B of them; the first `offset` tokens of each are known.
        last_tokens: `(B,)` or more, the token after these of each request, which may not have been read yet; None if there is
            none.
    Returns:
        `(B,)`, uint32, on the device.
    """
    raise NotImplementedError("Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md")
