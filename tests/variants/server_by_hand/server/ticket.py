from tiny_llm_kit.course import task


class Ticket:
    @task(week=3, day=6, number=3)
    def put(self, delta: Delta) -> None:
        if self.ended:
            return
        too_many = len(self._unread) >= self._max_unread
        if too_many:
            delta = Delta(error=SlowReader(f"{self._max_unread} parts of the answer lie here unread, so it was given up"))
        self.ended = delta.is_last
        self._unread.append(delta)
        self._news.set()
        if too_many:
            self._give_up(self)

    @task(week=3, day=6, number=3)
    async def __anext__(self) -> Delta:
        if self.ended and not self._unread:
            raise StopAsyncIteration
        await self._news.wait()
        delta = self._unread.popleft()
        if not (self._unread or self.ended):
            self._news.clear()
        return delta
