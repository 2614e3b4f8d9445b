from tiny_llm_kit.course import task


class Ticket:
    @task(week=3, day=6, number=3)
    def put(self, delta: Delta) -> None:
        if not self.ended:
            if len(self._unread) == self._max_unread:
                delta = Delta(error=SlowReader(f"its client has left {len(self._unread)} parts unread"))
                self.ended = True
                self._give_up(self)
            self.ended = self.ended or delta.is_last
            self._unread.append(delta)
            self._news.set()

    @task(week=3, day=6, number=3)
    async def __anext__(self) -> Delta:
        while True:
            self._news.clear()
            try:
                return self._unread.popleft()
            except IndexError:
                if self.ended:
                    raise StopAsyncIteration from None
            await self._news.wait()
