from tiny_llm_kit.course import task


class Autoscaler:
    @task(week=3, day=7, number=6)
    def wanted(self, load: float) -> int:
        enough = (count for count in range(self.least, self.most) if count * self.target_load >= load)
        return next(enough, self.most)

    @task(week=3, day=7, number=6)
    def decide(self, now: float, load: float, replicas: int) -> int:
        # All looks since the load has wanted this direction: when, how many.
        wishes: list[tuple[float, int]] = vars(self).setdefault("_wishes", [])
        if replicas not in range(self.least, self.most + 1):
            wishes.clear()
            return self.least if replicas < self.least else self.most
        wanted = self.wanted(load)
        up = wanted > replicas
        if wanted == replicas or (wishes and up != self._direction):
            wishes.clear()
        if wanted == replicas:
            return replicas
        self._direction = up
        wishes.append((now, wanted))
        if now - wishes[0][0] < (self.up_delay if up else self.down_delay):
            return replicas
        _, nearest = min(wishes, key=lambda wish: abs(wish[1] - replicas))
        wishes.clear()
        return nearest
