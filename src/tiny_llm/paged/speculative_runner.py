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
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _pieces(self, plan: MixedPlan, drafts: Mapping[int, Sequence[int]]) -> list[Piece]:
        """Decodes without drafts, which are one group of the batch, then decodes with drafts, then the chunks."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=5)
    def _batch(self, pieces: Sequence[Piece]) -> RaggedBatch:
        """Lay out a step, with all wanted logits."""
        raise NotImplementedError("Week 3 Day 5, task 5: the speculating engine. Read book/src/week3-05-speculation.md")
