"""A model that counts its calls: what a schedule costs on any machine. Tests of an engine use it, too."""

from typing import Any

import mlx.core as mx


class CountingModel:
    """Passes calls on, and notes the shape `(rows, length)` of the tokens of each. Calls of length 1 are decode steps."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.calls: list[tuple[int, int]] = []

    def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        self.calls.append((tokens.shape[0], tokens.shape[1]))
        return self.model(tokens, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # asked for before __init__ has run, as copy and pickle do
            raise AttributeError(name)
        return getattr(self.model, name)

    @property
    def lengths(self) -> list[int]:
        """The number of positions of each call."""
        return [length for _, length in self.calls]

    @property
    def decode_rows(self) -> list[int]:
        """The number of rows of each decode step."""
        return [rows for rows, length in self.calls if length == 1]

    @property
    def prompt_tokens(self) -> int:
        """Tokens in all other calls."""
        return sum(rows * length for rows, length in self.calls if length > 1)
