"""A figure over many lists of requests: its mean, and how far apart the lists are."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple


class OverSeeds(NamedTuple):
    """The mean, the least and the most of as many figures as there were seeds."""

    mean: float
    least: float
    most: float

    def __str__(self) -> str:
        return self.shown("{:.2f}".format)

    def shown(self, form: Callable[[float], str]) -> str:
        """The mean and, where they differ, the least and the most."""
        mean, least, most = map(form, self)
        return mean if least == most else f"{mean} ({least} … {most})"


def over_seeds(figures: Sequence[float]) -> OverSeeds:
    return OverSeeds(fmean(figures), min(figures), max(figures))
