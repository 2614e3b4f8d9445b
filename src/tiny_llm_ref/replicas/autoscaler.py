"""How many replicas there should be: as many as the load calls for, once it has called for them for a while.

The autoscalers of Kubernetes (horizontal) and Ray Serve decide this way, with stabilization windows and delays.
"""

from dataclasses import dataclass
from math import ceil

from tiny_llm_kit.course import task


@dataclass
class Autoscaler:
    """Looks at the load from time to time, and says how many replicas there should be. It reads no clock: the time is passed
    in.

    Args:
        target_load: open requests that one replica should have, on average.
        least, most: bounds of the number of replicas.
        up_delay: seconds for which the load must have called for more replicas, at every look, before any are added.
        down_delay: the same for fewer. It should be longer: a replica that is removed too early is costly to get back.
        cold_start: seconds that a new replica needs before it can serve.
        interval: seconds between two looks.
    Raises:
        ValueError: if the bounds are not 1 ≤ least ≤ most, a time is negative, or `target_load` or `interval` is not above 0.
    """

    target_load: float
    least: int = 1
    most: int = 8
    up_delay: float = 5.0
    down_delay: float = 60.0
    cold_start: float = 20.0
    interval: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"least is {self.least} and most {self.most}: they must be at least 1, and in this order")
        for name in ("target_load", "interval"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("up_delay", "down_delay", "cold_start"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 seconds or more")
        self._direction = 0  # 1 while the load calls for more replicas, −1 while for fewer
        self._since = 0.0  # since when
        self._modest = 0  # of all numbers that it has called for since, the one that changes least

    @task(week=3, day=7, number=6)
    def wanted(self, load: float) -> int:
        """How many replicas this many open requests call for, within the bounds."""
        return min(max(ceil(load / self.target_load), self.least), self.most)

    @task(week=3, day=7, number=6)
    def decide(self, now: float, load: float, replicas: int) -> int:
        """How many replicas there should be from now on: `replicas`, or another number if a change has been wanted long enough.

        It takes the number nearest to `replicas` among all those wanted in this time: a peak at a single look changes nothing.
        After a change, and whenever the direction turns, the time starts again. A number outside the bounds is brought within
        them at once.

        Args:
            now: seconds; never less than in the previous call.
            load: open requests, of all replicas together.
            replicas: how many there are, including those that are still starting.
        """
        if not self.least <= replicas <= self.most:
            self._direction = 0
            return min(max(replicas, self.least), self.most)
        wanted = self.wanted(load)
        direction = (wanted > replicas) - (wanted < replicas)
        if direction != self._direction:
            self._direction, self._since, self._modest = direction, now, wanted
        self._modest = min(self._modest, wanted) if direction > 0 else max(self._modest, wanted)
        if not direction or now - self._since < (self.up_delay if direction > 0 else self.down_delay):
            return replicas
        self._direction = 0
        return self._modest
