"""What is on its way: tokens that the device was asked for and that nobody has read yet."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import mlx.core as mx

from .request import Request


@dataclass
class Launch:
    """What one iteration asked of the device: a token for each of these requests, in this order."""

    requests: list[Request] = field(default_factory=list)
    tokens: list[mx.array] = field(default_factory=list)

    def add(self, requests: Sequence[Request], tokens: mx.array) -> None:
        """Expect `tokens` `(n,)` for these n requests."""
        self.requests.extend(requests)
        self.tokens.append(tokens)

    def start(self) -> None:
        """Set the device to work, without waiting; all tokens come back in one array."""
        if self.tokens:
            self.tokens = [mx.concatenate(self.tokens) if len(self.tokens) > 1 else self.tokens[0]]
            mx.async_eval(self.tokens)

    def read(self) -> list[tuple[Request, int]]:
        """Wait for the tokens: the one synchronisation of an iteration."""
        tokens = cast(list[int], self.tokens[0].tolist()) if self.tokens else []
        return list(zip(self.requests, tokens, strict=True))
