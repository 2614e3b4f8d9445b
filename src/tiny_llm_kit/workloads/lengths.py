"""How long answers are: distributions to draw lengths from, in tokens."""

from collections.abc import Callable
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator, int], list[int]]
"""Draws this many lengths."""


def log_normal(median: float, sigma: float, least: int, most: int) -> Draw:
    """Most are short, a few are long; cut off at both ends."""
    return lambda random, count: _whole(random.lognormal(np.log(median), sigma, size=count), least, most)


def exponential(mean: float, most: int) -> Draw:
    """An answer that ends with the same probability after each token; one that would be longer has `most`."""
    return lambda random, count: _whole(random.exponential(mean, size=count), 1, most)


def uniform(least: int, most: int) -> Draw:
    """Each length as likely as every other."""
    return lambda random, count: random.integers(least, most, size=count, endpoint=True).tolist()


def equal(length: int) -> Draw:
    """All alike."""
    return lambda random, count: [length] * count


KINDS: dict[str, Callable[..., Draw]] = {
    "log-normal": log_normal,
    "exponential": exponential,
    "uniform": uniform,
    "equal": equal,
}

CHAT = log_normal(median=32, sigma=0.8, least=8, most=256)
"""The distribution of the workload heavy-tail."""

DISTRIBUTIONS: dict[str, Draw] = {
    "log-normal": CHAT,
    "exponential": exponential(mean=44, most=1024),
    "uniform": uniform(least=1, most=87),
    "equal": equal(44),
}
"""One of each kind, with means of about 44 tokens: only the shapes differ."""


def distribution(kind: str, **parameters: Any) -> Draw:
    """The distribution that a table of a data file describes.

    Raises:
        ValueError: if there is no such kind, or it has other parameters.
    """
    if kind not in KINDS:
        raise ValueError(f"no distribution of lengths is called {kind!r}; there are: {', '.join(KINDS)}")
    try:
        return KINDS[kind](**parameters)
    except TypeError as error:
        raise ValueError(f"lengths of the kind {kind!r}: {error}") from None


def drawn(draw: Draw, seed: int, count: int) -> list[int]:
    """The same lengths for the same seed, on every machine."""
    return draw(np.random.Generator(np.random.PCG64(seed)), count)


def _whole(lengths: np.ndarray, least: int, most: int) -> list[int]:
    return np.clip(np.rint(lengths), least, most).astype(int).tolist()
