"""Where a wrong answer went wrong: the first position of a request whose hidden state is another than alone, and its layer.

A `ToyModel` notes what it computes for an engine. When an answer is wrong, the notes are searched for the calls that computed
the request's tokens, each at its position, and compared layer by layer with the sequence computed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

TOLERANCE = 1e-3
"""A row of a batch is summed in another order than alone, which moves hidden states of size 1 by about 1e-6. What a mistake
moves by less than this moves no token either."""


@dataclass(frozen=True, eq=False)
class Call:
    """What one call of the model was given, and the hidden states `(B, L, D)` after each layer, all of them lazy.

    After the last layer there are only those whose logits were wanted: nothing else computes the others, and an array that is
    never computed keeps all that it would be computed from.
    """

    number: int
    tokens: mx.array
    offset: int | mx.array
    states: list[mx.array]

    @property
    def length(self) -> int:
        return self.tokens.shape[1]

    @property
    def ragged(self) -> bool:
        """Whether it holds tokens of several sequences in one row, each at a position of its own."""
        return isinstance(self.offset, mx.array) and self.offset.ndim == 2

    def __str__(self) -> str:
        rows, length = self.tokens.shape
        if self.ragged:
            return f"call {self.number} of the model ({length} tokens)"
        what = f"a chunk of {length} tokens" if length > 1 else f"one token for {rows} rows" if rows > 1 else "one token"
        return f"call {self.number} of the model ({what})"


@dataclass(frozen=True, eq=False)
class Place:
    """Where a position was computed."""

    call: Call
    row: int
    column: int

    def __str__(self) -> str:
        return f"{self.call}, at place {self.column}" if self.call.ragged else f"{self.call}, row {self.row}"

    @property
    def when(self) -> tuple[int, int]:
        """Places of one row sorted by this are in the order in which they were computed."""
        return self.call.number, self.column

    def first_wrong_layer(self, right: Sequence[np.ndarray]) -> int | None:
        """The first layer after which the hidden state is not `right`, the one `(D,)` after each layer; None if none is."""
        for layer, (states, state) in enumerate(zip(self.call.states, right, strict=True)):
            from_end = self.column - self.call.length
            kept = -from_end <= states.shape[1]
            if kept and not np.allclose(np.array(states[self.row, from_end]), state, rtol=TOLERANCE, atol=TOLERANCE):
                return layer
        return None


Places = dict[tuple[int, int], list[Place]]
"""Where a token was computed at a position, by position and token."""


def explain(calls: Sequence[Call], prompt: Sequence[int], sequence: Sequence[int], right: Sequence[mx.array]) -> str:
    """Where the computation of the token after `sequence`, which begins with `prompt`, went wrong, and what to look at.

    `right` holds the hidden states `(1, len(sequence), D)` after each layer, computed alone.
    """
    states = [np.array(layer[0]) for layer in right]
    places = _find_places(calls)
    place = None
    for position, token in enumerate(sequence):
        found = places.get((position, token))
        if not found:
            return _describe_missing(places, place, position, token, len(prompt))
        wrong = {place: place.first_wrong_layer([layer[position] for layer in states]) for place in found}
        place = min(found, key=lambda place: (wrong[place] is not None, -(wrong[place] or 0)))
        if (layer := wrong[place]) is not None:
            return _describe_wrong(place, position, layer)
    assert place is not None, "a sequence has tokens"
    return f"its logits in {place} were right: look at which request is given which row's token"


def _find_places(calls: Sequence[Call]) -> Places:
    places: Places = {}
    for call in calls:
        rows = call.tokens.tolist()
        positions = np.array(call.offset)
        if not call.ragged:
            positions = np.broadcast_to(positions.reshape(-1, 1), (len(rows), 1)) + np.arange(call.length)
        for row, (tokens, at) in enumerate(zip(rows, positions.tolist(), strict=True)):
            for column, (token, position) in enumerate(zip(tokens, at, strict=True)):
                places.setdefault((position, token), []).append(Place(call, row, column))
    return places


def _describe_missing(places: Places, before: Place | None, position: int, token: int, prompt_length: int) -> str:
    """The difference in a token that has not been computed at its position, though the one before it has, in `before`."""
    what = f"token {position} of its prompt" if position < prompt_length else f"its token {position - prompt_length}"
    what = f"no call of the model has computed {what} at position {position}"
    if before is None or before.call.ragged:
        return f"{what}: look at the tokens and the offsets that the model is given"
    (other, computed), following = _next_in_row(places, before, decode=position >= prompt_length)
    if computed == token:
        return f"{what}, but {following} has at {other}: look at the offsets"
    if other == position:
        return f"{what}, but {following} has computed {computed} there: look at the tokens that the model is given"
    return f"{what}: look at the tokens and the offsets that the model is given"


def _next_in_row(places: Places, before: Place, decode: bool) -> tuple[tuple[int | None, int | None], Place]:
    """The position, the token, and the place of what came after `before` in the same row, in a decode step or in a chunk."""
    later = [
        (key, place)
        for key, found in places.items()
        for place in found
        if place.row == before.row and place.when > before.when and (place.call.length == 1) == decode
    ]
    return min(later, key=lambda entry: entry[1].when, default=((None, None), before))


def _describe_wrong(place: Place, position: int, layer: int) -> str:
    where = f"position {position} was the first to go wrong, in {place}"
    if layer > 0:
        return f"{where}: layer {layer} is the first that differs, so look at that layer's cache"
    if place.call.ragged:
        return f"{where}: layer 0 differs already, so look at its sequence's table, and at what the blocks in it hold"
    return f"{where}: layer 0 differs already, so look at the mask, and at what the cache holds for that row"
