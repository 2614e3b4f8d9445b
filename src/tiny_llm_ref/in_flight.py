"""What is in flight: tokens that the device was asked for and that have not been read yet."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple, cast

import mlx.core as mx

from .request import Request


class Drawn(NamedTuple):
    """Tokens of B rows, on the device.

    Args:
        tokens: `(B,)`, uint32.
        best: `(B,)`, the largest logit of each row, which is not finite where a row holds NaN or infinity, or rules out all
            tokens. An argmax finds a token in any row; this says whether that token means anything.
    """

    tokens: mx.array
    best: mx.array


@dataclass
class InFlight:
    """What one iteration asked of the device: a token for each of these requests, in this order."""

    requests: list[Request] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)

    def add(self, requests: Sequence[Request], drawn: Drawn) -> None:
        """Expect one token for each of these requests, one per row."""
        self.requests.extend(requests)
        self.drawn.append(drawn)

    def start(self) -> None:
        """Start the device on this, without waiting."""
        if len(self.drawn) > 1:
            tokens, best = zip(*self.drawn, strict=True)
            self.drawn = [Drawn(mx.concatenate(list(tokens)), mx.concatenate(list(best)))]
        mx.async_eval(self.drawn)

    def read(self) -> list[tuple[Request, int, bool]]:
        """Wait for the tokens: the only synchronisation of an iteration.

        Returns:
            Request, token, and whether the token means anything: see `Drawn`.
        """
        if not self.drawn:
            return []
        tokens = cast(list[int], self.drawn[0].tokens.tolist())
        best = cast(list[float], self.drawn[0].best.tolist())
        return list(zip(self.requests, tokens, map(isfinite, best), strict=True))
