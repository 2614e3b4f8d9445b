from dataclasses import dataclass

from tiny_llm_kit.course import task

from ..request import Request


@dataclass(eq=False)
class PagedRequest(Request):
    @property
    @task(week=3, day=4, number=1)
    def state(self) -> str:
        if self.finish_reason is not None:
            return "finished"
        if not self.blocks:
            return "waiting"
        return "decoding" if self.to_compute < 2 else "prefilling"

    @task(week=3, day=4, number=1)
    def hold(self, blocks: list[int], cached: int = 0) -> None:
        self.blocks = list(blocks)
        self.cached = self.offset = cached

    @task(week=3, day=4, number=1)
    def let_go(self) -> list[int]:
        table = self.blocks
        self.blocks = []
        self.offset = self.cached = self.published = 0
        return table
