"""The engine of somebody who has not come to launching ahead yet."""

from tiny_llm_kit.course import task

from .request import Request
from .scheduling import plan_step


class ContinuousBatchScheduler:
    @task(week=2, day=6, number=4)
    def step(self) -> list[Request]:
        with self.iteration():
            claims = self._make_room()
            plan = plan_step(self.waiting.values(), claims, self.slots.max_slots, self.prefill_step, self.strategy)
            launched = self._launch(plan)
            queue_size = len(self.waiting)
            new_tokens = self._update(launched)
        return self.close_iteration(len(plan.decode) + len(plan.prefill), self.slots.max_slots, queue_size, new_tokens)
