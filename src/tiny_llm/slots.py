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
        raise NotImplementedError("Week 2 Day 6, task 5: the slot manager. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=5)
    def free_slot(self, request_id: int) -> int:
        """Take a request's slot back and return it.

        Raises:
            ValueError: if the request has none.
        """
        raise NotImplementedError("Week 2 Day 6, task 5: the slot manager. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=5)
    def condense(self) -> list[tuple[int, int]]:
        """Close the gaps: move owners of the highest slots into the lowest free ones, until n owners have slots 0 … n − 1.

        Without gaps the busy rows of the batch are one slice, and idle rows cost nothing.

        Returns:
            The moves (from, to), in order; the caller moves what is stored in the slots.
        """
        raise NotImplementedError("Week 2 Day 6, task 5: the slot manager. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=5)
    def check_integrity(self) -> None:
        """Every slot must be either free or owned, once.

        Raises:
            RuntimeError: naming the slots for which that does not hold.
        """
        raise NotImplementedError("Week 2 Day 6, task 5: the slot manager. Read book/src/week2-06-continuous-batching.md")
