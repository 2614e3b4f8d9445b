"""Accidents on purpose: a model that fails in every way that a model can, and a signal at any moment."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import mlx.core as mx

KINDS = ("fail early", "fail late", "interrupt early", "interrupt late", "NaN", "foreign")


class ModelFailure(Exception):
    """What a failing call of the model raises."""


class ClientGone(Exception):
    """What a failing `on_update` raises."""


class Interruption(BaseException):
    """Like Ctrl-C, which is not an Exception either."""


class AccidentalModel:
    """Passes calls on, and fails in the way it was told to, once. `shapes` are those of the tokens it was given."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        self.accident: str | None = None
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        self.shapes.append(tokens.shape)
        accident, self.accident = self.accident, None
        if accident == "fail early":
            raise ModelFailure(accident)
        if accident == "interrupt early":
            raise Interruption(accident)
        logits = self.model(tokens, *args, **kwargs)
        match accident:
            case "fail late":
                raise ModelFailure(accident)
            case "interrupt late":
                raise Interruption(accident)
            case "NaN":
                return logits * mx.nan
            case "foreign":  # asked for in another thread, so that it can never be computed here
                with ThreadPoolExecutor(1) as elsewhere:
                    return logits + elsewhere.submit(lambda: mx.zeros((1,)) + 1).result()
        return logits


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """A signal that interrupts the block after this many seconds, wherever it is by then; 0: none."""
    if not seconds:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interruption("a signal")

    before: Callable[[int, FrameType | None], Any] | int | None = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
