import heapq
from collections import Counter

from tiny_llm_kit.course import task


class SlotManager:
    @task(week=2, day=6, number=5)
    def allocate_slot(self, request_id: int) -> int | None:
        if request_id in self.slot_of:
            raise ValueError(f"request {request_id} has slot {self.slot_of[request_id]} already")
        if not self.free:
            return None
        slot = self.slot_of[request_id] = heapq.heappop(self.free)
        return slot

    @task(week=2, day=6, number=5)
    def condense(self) -> list[tuple[int, int]]:
        moves = []
        owners = sorted((slot, owner) for owner, slot in self.slot_of.items())
        while owners and self.free and self.free[0] < owners[-1][0]:
            source, owner = owners.pop()
            target = heapq.heapreplace(self.free, source)
            self.slot_of[owner] = target
            moves.append((source, target))
        return moves

    @task(week=2, day=6, number=5)
    def check_integrity(self) -> None:
        seen = Counter([*self.free, *self.slot_of.values()])
        wrong = sorted(slot for slot in {*range(self.max_slots), *seen} if seen[slot] != 1 or not 0 <= slot < self.max_slots)
        if wrong:
            raise RuntimeError(f"slots that are not free or owned just once: {wrong}")
