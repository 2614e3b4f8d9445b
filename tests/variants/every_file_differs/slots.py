from tiny_llm_kit.course import task


class SlotManager:
    @task(week=2, day=6, number=5)
    def allocate_slot(self, request_id: int) -> int | None:
        if self.slot_of.get(request_id) is not None:
            raise ValueError(f"{request_id} holds slot {self.slot_of[request_id]}: one request, one slot")
        for slot in range(self.max_slots):
            if slot in self.free:
                self.free.remove(slot)
                self.slot_of[request_id] = slot
                return slot
        return None

    @task(week=2, day=6, number=5)
    def free_slot(self, request_id: int) -> int:
        try:
            slot = self.slot_of.pop(request_id)
        except KeyError:
            raise ValueError(f"{request_id} holds no slot that could be freed") from None
        self.free.append(slot)
        return slot

    @task(week=2, day=6, number=5)
    def condense(self) -> list[tuple[int, int]]:
        owners = {slot: request_id for request_id, slot in self.slot_of.items()}
        gaps = sorted(slot for slot in self.free if slot < len(owners))
        highest = sorted((slot for slot in owners if slot >= len(owners)), reverse=True)
        moves = list(zip(highest, gaps, strict=True))
        for source, target in moves:
            self.slot_of[owners[source]] = target
        self.free = [slot for slot in range(self.max_slots) if slot >= len(owners)]
        return moves

    @task(week=2, day=6, number=5)
    def check_integrity(self) -> None:
        times = dict.fromkeys(range(self.max_slots), 0)
        for slot in [*self.free, *self.slot_of.values()]:
            times[slot] = times.get(slot, 0) + 1
        for slot in times:
            if slot not in range(self.max_slots):
                raise RuntimeError(f"there is no slot {slot}: {times}")
        wrong = [slot for slot, count in times.items() if count != 1]
        if wrong:
            raise RuntimeError(f"slots {wrong} should be free or owned, and just once: {times}")
