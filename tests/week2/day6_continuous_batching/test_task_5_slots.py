"""Task 5: the slot manager."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer


def test_task_5_the_lowest_free_slot_first() -> None:
    slots = answer.SlotManager(3)
    assert [slots.allocate_slot(request_id) for request_id in (10, 11, 12)] == [0, 1, 2]


def test_task_5_none_when_all_are_taken() -> None:
    slots = answer.SlotManager(2)
    for request_id in (10, 11):
        slots.allocate_slot(request_id)
    assert slots.allocate_slot(12) is None, "both slots are taken"
    slots.check_integrity()
    slots.free_slot(10)
    assert slots.allocate_slot(12) == 0, "slot 0 was given back: the refused request may have it now"


def test_task_5_a_freed_slot_is_the_next_one_given() -> None:
    slots = answer.SlotManager(4)
    for request_id in (10, 11, 12, 13):
        slots.allocate_slot(request_id)
    assert slots.free_slot(12) == 2, "free_slot says which slot it was"
    assert slots.free_slot(11) == 1
    assert [slots.allocate_slot(14), slots.allocate_slot(15)] == [1, 2], "the lowest free one first, whenever it was freed"
    slots.check_integrity()


def test_task_5_one_slot_a_request() -> None:
    slots = answer.SlotManager(2)
    slots.allocate_slot(10)
    with pytest.raises(ValueError):
        slots.allocate_slot(10)
    slots.check_integrity()
    assert slots.allocate_slot(11) == 1, "the refused call must not have used up a slot"


def test_task_5_freeing_twice_is_refused() -> None:
    slots = answer.SlotManager(2)
    slots.allocate_slot(10)
    slots.free_slot(10)
    for stranger in (10, 99):
        with pytest.raises(ValueError):
            slots.free_slot(stranger)
    slots.check_integrity()
    assert [slots.allocate_slot(request_id) for request_id in (1, 2, 3)] == [0, 1, None], "there are still 2 slots, not 3"


def test_task_5_no_slot_leaks() -> None:
    slots = answer.SlotManager(3)
    for request_id in range(50):
        assert slots.allocate_slot(request_id) is not None, f"after {request_id} requests came and went, no slot is left"
        slots.check_integrity()
        slots.free_slot(request_id)


def test_task_5_condense_closes_a_gap() -> None:
    slots = answer.SlotManager(4)
    for request_id in (10, 11, 12, 13):
        slots.allocate_slot(request_id)
    slots.free_slot(11)
    assert slots.condense() == [(3, 1)], "the owner of the highest slot moves into the gap"
    assert slots.free_slot(13) == 1, "request 13 has moved: its slot is 1 now"
    assert slots.allocate_slot(14) == 1
    assert slots.allocate_slot(15) == 3, "and the slot that it left is free"
    slots.check_integrity()


def test_task_5_without_gaps_nobody_moves() -> None:
    slots = answer.SlotManager(3)
    assert slots.condense() == []
    for request_id in (10, 11, 12):
        slots.allocate_slot(request_id)
        assert slots.condense() == []
    slots.free_slot(12)
    assert slots.condense() == [], "slots 0 and 1 are already next to each other"


@settings(max_examples=60)
@given(max_slots=st.integers(1, 6), actions=st.lists(st.tuples(st.sampled_from("aaffc"), st.integers(0, 7)), max_size=30))
def test_task_5_any_order_of_events(max_slots: int, actions: list[tuple[str, int]]) -> None:
    slots = answer.SlotManager(max_slots)
    slots.check_integrity()
    owners: dict[int, int] = {}
    for action, request_id in actions:
        if action == "a" and request_id not in owners:
            free = sorted(set(range(max_slots)) - set(owners.values()))
            slot = slots.allocate_slot(request_id)
            assert slot == (free[0] if free else None), f"the free slots are {free}"
            if slot is not None:
                owners[request_id] = slot
        elif action == "f" and request_id in owners:
            assert slots.free_slot(request_id) == owners.pop(request_id)
        elif action == "c":
            follow(slots.condense(), owners)
        slots.check_integrity()
    for request_id, slot in owners.items():
        assert slots.free_slot(request_id) == slot, "the slot must be where condense said that it moved"


def follow(moves: list[tuple[int, int]], owners: dict[int, int]) -> None:
    """Do with `owners` what the caller of condense does with the caches."""
    stay = {request_id for request_id, slot in owners.items() if slot < len(owners)}
    moved: set[Any] = set()
    for source, target in moves:
        assert target not in owners.values(), f"the move {source} to {target} overwrites the owner of {target}"
        (mover,) = (request_id for request_id, slot in owners.items() if slot == source)
        owners[mover] = target
        moved.add(mover)
    assert sorted(owners.values()) == list(range(len(owners))), f"after {moves} there are still gaps: {owners}"
    assert not moved & stay, f"requests {moved & stay} stood well already: every needless move copies a whole cache row"
