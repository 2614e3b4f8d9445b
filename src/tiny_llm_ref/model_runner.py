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
        if request.kv_cache is None:
            request.kv_cache = [KvCache() for _ in self.caches]
        logits = prefill_chunk(self.model, request.prompt, start, end, request.kv_cache)
        request.offset = end
        if logits is None:
            return None
        return Drawn(sample(logits[None], [request]), mx.max(logits[None], axis=-1))

    @task(week=2, day=6, number=4)
    def join(self, request: Request, slot: int, first_token: Drawn) -> None:
        """Put a prefilled request, with its first token, into a slot; its own cache is dropped."""
        assert request.kv_cache is not None
        for cache, prefilled in zip(self.caches, request.kv_cache, strict=True):
            cache.add_request(prefilled, slot)
        request.kv_cache = None
        self._put_last_token(slot, first_token.tokens)

    @task(week=2, day=6, number=4)
    def decode(self, requests: Sequence[Request]) -> Drawn:
        """Launch one token for each request; they own slots 0 … B − 1, in this order. Each `offset` advances by one.

        Returns:
            The next tokens of all rows.
        """
        rows = len(requests)
        offsets = [request.offset for request in requests]
        mask = create_batch_mask(requests, max(offsets) + 1)
        logits = self.model(self.last_tokens[:rows, None], mx.array(offsets), self.caches, mask, logits_to_keep=1)
        logits = logits[:, -1]
        self.last_tokens = sample(logits, requests, self.last_tokens)
        for request in requests:
            request.offset += 1
        return Drawn(self.last_tokens, mx.max(logits, axis=-1))

    @task(week=2, day=6, number=4)
    def leave(self, slot: int) -> None:
        """Free a slot, in all layers."""
        for cache in self.caches:
            cache.remove_request(slot)

    @task(week=2, day=6, number=4)
    def move(self, source: int, target: int) -> None:
        """Move a request to a free slot, in all layers, with its last token."""
        for cache in self.caches:
            cache.move_request(source, target)
        self._put_last_token(target, self.last_tokens[source : source + 1])

    @task(week=2, day=6, number=4)
    def _put_last_token(self, slot: int, token: mx.array) -> None:
        """Set the last token `(1,)` of a slot, in a new array: the old one may still be waiting to be read.

        The slot may be the one right after the last row; then there is one row more.
        """
        self.last_tokens = mx.concatenate([self.last_tokens[:slot], token, self.last_tokens[slot + 1 :]])


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
    tokens = mx.argmax(logits, axis=-1)
    for row in [row for row, request in enumerate(requests) if not request.sampler.greedy]:
        request = requests[row]
        unread = [] if last_tokens is None else [last_tokens[row]]
        tokens[row] = request.sampler(logits[row], [*request.tokens[: request.offset], *unread])
    return tokens
