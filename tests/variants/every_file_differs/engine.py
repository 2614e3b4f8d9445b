"""An engine whose requests keep their slots."""

from tiny_llm_kit.course import task

from .request import Request


class ContinuousBatchScheduler:
    @task(week=2, day=6, number=4)
    def _make_room(self) -> list[Request]:
        done = [request for request in self.running.values() if request.all_launched]
        for request in done:
            self.release(request)
        return [request for request in self.running.values() if not request.all_launched]
