"""The device's side of speculation: one call of the model in which a decode may have drafts after its last token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import mlx.core as mx

from tiny_llm_kit.course import task

from ..in_flight import Drawn
from .ragged_batch import RaggedBatch, Row, make_ragged_batch
from .request import PagedRequest
from .runner import PagedRunner
from .scheduler import MixedPlan
from .verify import draw


@dataclass(frozen=True)
class Piece:
    """What a step computes for one request.

    Args:
        start: the position of the first of `tokens` in its sequence.
        wanted: for how many of the last tokens logits are wanted: for a decode all, for a chunk the last one or none.
    """

    request: PagedRequest
    start: int
    tokens: Sequence[int]
    wanted: int

    @property
    def row(self) -> Row:
        """The same for `make_ragged_batch`."""
        return Row(self.start, self.start + len(self.tokens), self.request.blocks)

    @property
    def drafts(self) -> Sequence[int]:
        """The tokens after the first one whose logits are wanted."""
        return self.tokens[len(self.tokens) - self.wanted + 1 :]


class SpeculativeRunner(PagedRunner):
    """Computes plans whose decodes have drafts. A step is launched only when the tokens of the last one have been read."""

    @task(week=3, day=5, number=5)
    def run(
        self, plan: MixedPlan, drafts: Mapping[int, Sequence[int]] | None = None
    ) -> tuple[list[PagedRequest], Drawn] | None:
        """Build a step for requests that have no token in flight.

        The `offset` of a chunk's request advances to the chunk's end. That of a decode stays, and so does `in_flight`: how far
        a request with drafts gets is known when the tokens are read.

        Args:
            drafts: by request id, for decodes whose tables have room for them. The others have none.
        Returns:
            A drawn token for each place whose logits are wanted, and the request of each: a decode with K drafts has K + 1
            places, one after another, and a chunk that reaches the end of the known tokens has one. None if no request gets a
            token.
        """
        pieces = self._pieces(plan, drafts or {})
        batch = self._batch(pieces)
        for cache in self.caches:
            cache.batch = batch
        logits = self.model(batch.tokens, batch.positions, self.caches, None, logits_to_keep=batch.keep)[0]
        for chunk in plan.chunks:
            chunk.request.offset = chunk.end
        asking = [piece for piece in pieces if piece.wanted]
        if not asking:
            return None
        ends = accumulate(piece.wanted for piece in asking)
        tokens = [
            draw(logits[end - piece.wanted : end], piece.drafts, piece.request.sampler, piece.request.tokens)
            for piece, end in zip(asking, ends, strict=True)
        ]
        requests = [piece.request for piece in asking for _ in range(piece.wanted)]
        return requests, Drawn(mx.concatenate(tokens), mx.max(logits, axis=-1))

    @task(week=3, day=5, number=5)
    def _pieces(self, plan: MixedPlan, drafts: Mapping[int, Sequence[int]]) -> list[Piece]:
        """Decodes without drafts, which are one group of the batch, then decodes with drafts, then the chunks."""
        pieces = []
        for request in sorted(plan.decodes, key=lambda request: bool(drafts.get(request.request_id))):
            tokens = [request.tokens[request.offset], *drafts.get(request.request_id, ())]
            pieces.append(Piece(request, request.offset, tokens, wanted=len(tokens)))
        for chunk in plan.chunks:
            known = chunk.request.tokens
            pieces.append(Piece(chunk.request, chunk.start, known[chunk.start : chunk.end], int(chunk.end == len(known))))
        return pieces

    @task(week=3, day=5, number=5)
    def _batch(self, pieces: Sequence[Piece]) -> RaggedBatch:
        """Lay out a step, with all wanted logits."""
        tokens = mx.array([token for piece in pieces for token in piece.tokens], dtype=mx.uint32)
        batch = make_ragged_batch([piece.row for piece in pieces], tokens, self.block_size)
        ends = accumulate(len(piece.tokens) for piece in pieces)
        keep = [place for piece, end in zip(pieces, ends, strict=True) for place in range(end - piece.wanted, end)]
        return replace(batch, keep=mx.array(keep, dtype=mx.int32))
