"""How many replicas there should be: as many as the load wants, once it has wanted them for a while.

Kubernetes' horizontal autoscaler and Ray Serve's decide in this way, with stabilization windows and delays.
"""

from dataclasses import dataclass
from math import ceil

from tiny_llm_kit.course import task


@dataclass
class Autoscaler:
    """Looks at the load from time to time, and says how many replicas there should be. It reads no clock: it is told the time.

    Args:
        target_load: open requests that one replica should have, on average.
        least, most: bounds of the number of replicas.
        up_delay: seconds for which the load must have wanted more replicas, at every look, before there are more.
        down_delay: the same for fewer. It should be longer: what is taken away too early is dear to get back.
        cold_start: seconds that a new replica needs until it can serve anybody.
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
        self._direction = 0  # 1 while the load wants more replicas, −1 while it wants fewer
        self._since = 0.0  # when it began to
        self._modest = 0  # of all numbers that it has wanted since, the one that changes least

    @task(week=3, day=7, number=6)
    def wanted(self, load: float) -> int:
        """How many replicas so many open requests want, within the bounds."""
        return min(max(ceil(load / self.target_load), self.least), self.most)

    @task(week=3, day=7, number=6)
    def decide(self, now: float, load: float, replicas: int) -> int:
        """How many replicas there should be from now on: `replicas`, or another number if a change has been wanted long enough.

        Of all numbers that were wanted in this time, the one that is nearest to `replicas` is taken: a peak of one look moves
        nothing. After a change, and whenever the direction turns, the time begins anew. A number outside of the bounds is
        brought within them at once.

        Args:
            now: seconds; never less than at the call before.
            load: open requests, of all replicas together.
            replicas: how many there are, those that are still starting included.
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
