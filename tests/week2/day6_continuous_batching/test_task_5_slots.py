"""Task 5: the slot manager. `free` and `slot_of`, which its `__init__` makes, say which request has which slot."""

import re
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from support import refuses


def taken(max_slots: int, owners: int) -> Any:
    """A manager whose slots 0, 1, 2 … have the owners 10, 11, 12 …"""
    slots = answer.SlotManager(max_slots)
    for request_id in range(10, 10 + owners):
        slots.allocate_slot(request_id)
    return slots


def test_task_5_the_lowest_free_slot_first() -> None:
    slots = answer.SlotManager(3)
    assert [slots.allocate_slot(request_id) for request_id in (10, 11, 12)] == [0, 1, 2], "the lowest free slot first"


def test_task_5_none_when_all_are_taken() -> None:
    slots = taken(2, 2)
    assert slots.allocate_slot(12) is None, "both slots are taken"
    slots.check_integrity()
    slots.free_slot(10)
    assert slots.allocate_slot(12) == 0, "slot 0 was given back: the refused request may have it now"


@pytest.mark.parametrize("order", list(permutations((10, 11, 12))))
def test_task_5_the_lowest_freed_slot_is_the_next_one_given(order: tuple[int, ...]) -> None:
    slots = taken(5, 4)
    assert [slots.free_slot(request_id) for request_id in order] == [request_id - 10 for request_id in order], (
        "free_slot says which slot it was"
    )
    slots.check_integrity()
    assert [slots.allocate_slot(request_id) for request_id in range(20, 24)] == [0, 1, 2, 4], (
        f"the lowest free slot first, in whatever order they were freed: here {[request_id - 10 for request_id in order]}"
    )
    assert slots.allocate_slot(24) is None, "slot 3 has had its owner all the time"
    slots.check_integrity()


def test_task_5_one_slot_per_request() -> None:
    slots = taken(2, 1)
    with refuses(ValueError, "allocate_slot, for a request that has a slot already (slot 0 counts as one)"):
        slots.allocate_slot(10)
    slots.check_integrity()
    assert slots.allocate_slot(11) == 1, "the refused call must not have used up a slot"
    with refuses(ValueError, "allocate_slot, for a request that has a slot already, when none is free"):
        slots.allocate_slot(11)
    assert slots.free_slot(10) == 0, "the refused call must not have moved it"


def test_task_5_freeing_twice_is_refused() -> None:
    slots = taken(2, 1)
    slots.free_slot(10)
    for stranger in (10, 99):
        with refuses(ValueError, f"free_slot, for request {stranger}, which has no slot"):
            slots.free_slot(stranger)
    slots.check_integrity()
    assert [slots.allocate_slot(request_id) for request_id in (1, 2, 3)] == [0, 1, None], "there are still 2 slots, not 3"


def test_task_5_no_slot_leaks() -> None:
    slots = answer.SlotManager(3)
    for request_id in range(50):
        assert slots.allocate_slot(request_id) == 0, f"after {request_id} requests came and went, slot 0 is free again"
        slots.check_integrity()
        slots.free_slot(request_id)


# Closing the gaps.


def test_task_5_condense_closes_a_gap() -> None:
    slots = taken(4, 4)
    slots.free_slot(11)
    assert slots.condense() == [(3, 1)], "the owner of the highest slot moves into the gap"
    slots.check_integrity()
    assert slots.free_slot(13) == 1, "request 13 has moved: its slot is 1 now"
    assert slots.allocate_slot(14) == 1, "the lowest free slot first"
    assert slots.allocate_slot(15) == 3, "and the slot that it left is free"
    slots.check_integrity()


def test_task_5_without_gaps_nobody_moves() -> None:
    slots = answer.SlotManager(3)
    assert slots.condense() == [], "there is no owner to move"
    for request_id in (10, 11, 12):
        slots.allocate_slot(request_id)
        assert slots.condense() == [], "the owners are already next to each other"
    slots.free_slot(12)
    assert slots.condense() == [], "slots 0 and 1 are already next to each other"


@pytest.mark.parametrize("freed", [(0, 1), (1, 0), (0, 2), (2, 0, 4), (5, 1), (1, 3, 5), (4, 3, 2, 1, 0), (6, 5, 4)])
def test_task_5_condense_moves_the_highest_into_the_lowest_gaps(freed: tuple[int, ...]) -> None:
    slots, owners = taken(8, 7), {10 + slot: slot for slot in range(7)}
    for slot in freed:
        slots.free_slot(10 + slot)
        del owners[10 + slot]
    follow(slots.condense(), owners)
    slots.check_integrity()
    assert slots.condense() == [], "a second condense finds nothing to do"
    assert slots.allocate_slot(99) == len(owners), "the slots that were left are free, and the lowest of them is next"
    assert {request_id: slots.free_slot(request_id) for request_id in owners} == owners, (
        "each owner has the slot it was moved to"
    )


def follow(moves: list[tuple[int, int]], owners: dict[int, int]) -> None:
    """Do with `owners` what the caller of condense does with the caches, one move after the other."""
    before, count = dict(owners), len(owners)
    for source, target in moves:
        assert target not in owners.values(), f"the move {source} to {target} of {moves} overwrites the owner of {target}"
        movers = [request_id for request_id, slot in owners.items() if slot == source]
        assert movers, f"the move {source} to {target} of {moves} finds no owner in slot {source}"
        owners[movers[0]] = target
    assert sorted(owners.values()) == list(range(count)), f"after {moves} from {before} there are still gaps: {owners}"
    needed = sum(slot >= count for slot in before.values())
    assert len(moves) == needed, (
        f"{before} with {moves}: {needed} owners are in slots from {count} on, and each of them moves once;"
        " every needless move copies a whole row"
    )


@settings(max_examples=60)
@given(max_slots=st.integers(1, 6), actions=st.lists(st.tuples(st.sampled_from("aaaffc"), st.integers(0, 5)), max_size=30))
def test_task_5_any_order_of_events(max_slots: int, actions: list[tuple[str, int]]) -> None:
    """(`"f"`, n) frees the slot of the n-th owner, so that most programs free many."""
    slots, newcomer = answer.SlotManager(max_slots), 10
    slots.check_integrity()
    owners: dict[int, int] = {}
    for action, place in actions:
        if action == "a":
            free = sorted(set(range(max_slots)) - set(owners.values()))
            slot = slots.allocate_slot(newcomer)
            assert slot == (free[0] if free else None), f"the free slots are {free}: the lowest is next"
            if slot is not None:
                owners[newcomer] = slot
            newcomer += 1
        elif action == "f" and owners:
            request_id = sorted(owners)[place % len(owners)]
            assert slots.free_slot(request_id) == owners.pop(request_id), "free_slot says which slot it was"
        elif action == "c":
            follow(slots.condense(), owners)
        slots.check_integrity()
    for request_id, slot in owners.items():
        assert slots.free_slot(request_id) == slot, "the slot must be where condense said that it moved"


# Finding the step at which something went wrong.


def integrity_error(slots: Any) -> RuntimeError | None:
    try:
        slots.check_integrity()
    except NotImplementedError:
        raise
    except RuntimeError as error:
        return error
    return None


def lose_a_free_slot(slots: Any) -> None:
    slots.free.remove(4)


def lose_an_owned_slot(slots: Any) -> None:
    del slots.slot_of[12]


def free_a_slot_twice(slots: Any) -> None:
    slots.free.append(4)


def free_a_slot_twice_and_lose_another(slots: Any) -> None:
    slots.free[:] = [4, 4, 5]


def own_a_slot_twice(slots: Any) -> None:
    slots.slot_of[13] = 2


def own_a_slot_twice_and_lose_another(slots: Any) -> None:
    slots.slot_of[11] = 2


def free_an_owned_slot(slots: Any) -> None:
    slots.free.append(2)


def free_an_owned_slot_and_lose_another(slots: Any) -> None:
    slots.free[:] = [2, 4, 5]


def free_an_unknown_slot(slots: Any) -> None:
    slots.free.append(6)


def free_an_unknown_slot_in_place_of_another(slots: Any) -> None:
    slots.free[:] = [3, 4, 6]


def free_a_negative_slot(slots: Any) -> None:
    slots.free.append(-1)


def own_an_unknown_slot(slots: Any) -> None:
    slots.slot_of[13] = 6


def own_an_unknown_slot_in_place_of_another(slots: Any) -> None:
    slots.slot_of[12] = 6


@pytest.mark.parametrize(
    ("damage", "slot"),
    [
        (lose_a_free_slot, 4),
        (lose_an_owned_slot, 2),
        (free_a_slot_twice, 4),
        (free_a_slot_twice_and_lose_another, 4),
        (own_a_slot_twice, 2),
        (own_a_slot_twice_and_lose_another, 2),
        (free_an_owned_slot, 2),
        (free_an_owned_slot_and_lose_another, 2),
        (free_an_unknown_slot, 6),
        (free_an_unknown_slot_in_place_of_another, 6),
        (free_a_negative_slot, -1),
        (own_an_unknown_slot, 6),
        (own_an_unknown_slot_in_place_of_another, 6),
    ],
)
def test_task_5_check_integrity_finds_the_damage(damage: Callable[[Any], None], slot: int) -> None:
    slots = taken(6, 3)  # 10, 11 and 12 own the slots 0, 1 and 2, and 3, 4 and 5 are free
    assert integrity_error(slots) is None, "each slot is either free or owned, once: there is nothing to find"
    damage(slots)
    what = damage.__name__.replace("_", " ")
    found = integrity_error(slots)
    assert found is not None, (
        f"{what}: check_integrity has to see that not every slot is either free or owned, once;"
        f" free {slots.free}, owned {slots.slot_of}"
    )
    numbers = [int(number) for number in re.findall(r"-?\d+", str(found))]
    assert slot in numbers, f"{what}: the error names the slot, which is {slot}, but says: {found}"


def test_task_5_check_integrity_changes_nothing() -> None:
    slots = taken(6, 4)
    slots.free_slot(12)
    before = (list(slots.free), dict(slots.slot_of))
    for _ in range(2):
        slots.check_integrity()
    assert (list(slots.free), dict(slots.slot_of)) == before, "check_integrity only looks: it puts nothing in order either"
    assert [slots.allocate_slot(20), slots.allocate_slot(21), slots.allocate_slot(22)] == [2, 4, 5], (
        "the lowest free slot first"
    )
