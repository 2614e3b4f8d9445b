"""Slots: the rows of the batch. A slot has one owner or none."""

import heapq

from tiny_llm_kit.course import task


class SlotManager:
    """Hands out slots 0 … max_slots − 1, the lowest free one first.

    It knows request ids, not requests.

    Raises:
        ValueError: if `max_slots` is less than 1.
    """

    def __init__(self, max_slots: int) -> None:
        if max_slots < 1:
            raise ValueError(f"max_slots is {max_slots}: a batch needs at least 1 slot")
        self.max_slots = max_slots
        self.free = list(range(max_slots))
        self.slot_of: dict[int, int] = {}

    @task(week=2, day=6, number=5)
    def allocate_slot(self, request_id: int) -> int | None:
        """Give a request the lowest free slot; None if all are taken.

        Raises:
            ValueError: if the request already has a slot.
        """
        if request_id in self.slot_of:
            raise ValueError(f"request {request_id} has slot {self.slot_of[request_id]} already")
        if not self.free:
            return None
        self.slot_of[request_id] = heapq.heappop(self.free)
        return self.slot_of[request_id]

    @task(week=2, day=6, number=5)
    def free_slot(self, request_id: int) -> int:
        """Take a request's slot back and return it.

        Raises:
            ValueError: if the request has none.
        """
        if request_id not in self.slot_of:
            raise ValueError(f"request {request_id} has no slot to free")
        slot = self.slot_of.pop(request_id)
        heapq.heappush(self.free, slot)
        return slot

    @task(week=2, day=6, number=5)
    def condense(self) -> list[tuple[int, int]]:
        """Close the gaps: move owners of the highest slots into the lowest free ones, until n owners have slots 0 … n − 1.

        Without gaps the busy rows of the batch are one slice, and idle rows cost nothing.

        Returns:
            The moves (from, to), in order; the caller moves what is stored in the slots.
        """
        moves = []
        while self.free and self.free[0] < len(self.slot_of):
            request_id, source = max(self.slot_of.items(), key=lambda owner: owner[1])
            target = heapq.heapreplace(self.free, source)
            self.slot_of[request_id] = target
            moves.append((source, target))
        return moves

    @task(week=2, day=6, number=5)
    def check_integrity(self) -> None:
        """Every slot must be either free or owned, once.

        Raises:
            RuntimeError: naming the slots for which that does not hold.
        """
        seen = sorted([*self.free, *self.slot_of.values()])
        if seen != list(range(self.max_slots)):
            wrong = sorted(
                {slot for slot in range(self.max_slots) if seen.count(slot) != 1} | set(seen) - set(range(self.max_slots))
            )
            raise RuntimeError(f"slots {wrong} are lost, unknown or counted twice: free {self.free}, owned {self.slot_of}")
