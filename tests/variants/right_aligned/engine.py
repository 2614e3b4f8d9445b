"""The engine of somebody for whom a first token is urgent."""

from tiny_llm_kit.course import task

from .in_flight import InFlight
from .scheduling import StepPlan


class ContinuousBatchScheduler:
    @task(week=2, day=6, number=4)
    def _launch(self, plan: StepPlan) -> InFlight:
        launched = InFlight()
        for chunk in plan.prefill:
            if chunk.request.request_id in self.waiting:
                self.admit(chunk.request)
            with self.failures_end([chunk.request]):
                first_token = self.runner.prefill(chunk.request, chunk.start, chunk.end)
                self.log_chunk(chunk.request, chunk.start, chunk.end)
                if first_token is not None:
                    launched.add([chunk.request], first_token)
                    self._join(chunk.request, first_token)
        slot_of = self.slots.slot_of
        # Everyone with a slot: those of the plan, and those who have just joined.
        rows = sorted((self.running[i] for i in slot_of if i in self.running), key=lambda request: slot_of[request.request_id])
        if rows:
            with self.failures_end(rows):
                launched.add(rows, self.runner.decode(rows))
        try:
            launched.start()
        except Exception as error:
            self.abandon(error)
            return InFlight()
        return launched
