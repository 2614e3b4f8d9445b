from tiny_llm_kit.course import task


class PagedRequest:
    @property
    @task(week=3, day=4, number=1)
    def to_compute(self) -> int:
        return self.in_flight + len(self.tokens) - self.offset

    @property
    @task(week=3, day=4, number=1)
    def state(self) -> str:
        match self.finish_reason, bool(self.blocks):
            case None, False:
                return "waiting"
            case None, True:
                return "prefilling" if self.to_compute >= 2 else "decoding"
            case _:
                return "finished"

    @task(week=3, day=4, number=1)
    def hold(self, blocks: list[int], cached: int = 0) -> None:
        self.offset = self.cached = cached
        self.blocks = blocks[:]

    @task(week=3, day=4, number=1)
    def let_go(self) -> list[int]:
        given_up = self.blocks[:]
        self.blocks.clear()
        self.offset, self.cached, self.published = 0, 0, 0
        return given_up
