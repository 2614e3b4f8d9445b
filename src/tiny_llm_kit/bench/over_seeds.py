"""A figure over several lists of requests: its mean, and how far apart the lists are."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple


class Spread(NamedTuple):
    """The mean of a figure over the lists, its least and its most."""

    mean: float
    least: float
    most: float

    def __str__(self) -> str:
        return self.shown("{:.2f}".format)

    def shown(self, form: Callable[[float], str]) -> str:
        """The least and the most only where they differ."""
        mean, least, most = map(form, self)
        return mean if least == most else f"{mean} ({least} … {most})"


def over_seeds(figures: Sequence[float]) -> Spread:
    """The arithmetic mean of as many figures as there were seeds."""
    return Spread(fmean(figures), min(figures), max(figures))
