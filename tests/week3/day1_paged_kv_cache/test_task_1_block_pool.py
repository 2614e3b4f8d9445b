"""Week 3 Day 1, task 1: the block pool, against a model of it in the test: what holds which block, and how often."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from effort import Watched, effort
from support import refuses


def make_pool(num_blocks: int = 8) -> Any:
    return answer.BlockPool(num_blocks, 4)


def take(pool: Any, count: int) -> list[int]:
    """`count` blocks, of which there are enough."""
    free = pool.num_free
    blocks = pool.allocate(count)
    assert blocks is not None, f"allocate({count}) gave None, but {free} blocks are free"
    assert len(blocks) == count, f"allocate({count}) gave {len(blocks)} blocks: {blocks}"
    return list(blocks)


def assert_holds(pool: Any, held: Counter[int], when: str) -> None:
    """The pool counts what `held` says, and accepts it as the tables that there are."""
    __tracebackhide__ = True
    free = pool.num_blocks - len([block for block, count in held.items() if count])
    assert pool.num_free == free, f"{when}: {free} blocks are not held, but num_free is {pool.num_free}"
    counts = {block: pool.references(block) for block in range(pool.num_blocks)}
    wrong = {block: count for block, count in counts.items() if count != held[block]}
    assert not wrong, f"{when}: references should be {dict(held)}, but for these blocks they are {wrong}"
    pool.check_integrity([list(held.elements())])


def test_task_1_a_pool_hands_out_each_block_once() -> None:
    pool = make_pool(5)
    blocks = [*take(pool, 2), *take(pool, 3)]
    assert sorted(blocks) == [0, 1, 2, 3, 4], f"5 blocks, allocated 2 and 3 at a time, are blocks 0 to 4, not {blocks}"
    assert_holds(pool, Counter(blocks), "after 2 and 3 blocks were allocated")


def test_task_1_all_or_nothing() -> None:
    pool = make_pool(8)
    first = take(pool, 5)
    got = pool.allocate(4)
    assert got is None, f"3 blocks are free, so allocate(4) gives None and not {got}"
    assert_holds(pool, Counter(first), "after an allocation that did not fit: it must have taken nothing")
    rest = take(pool, 3)
    assert_holds(pool, Counter(first + rest), "after the last 3 blocks were allocated")
    assert pool.allocate(1) is None, "no block is free: allocate(1) gives None"


def test_task_1_no_blocks_can_always_be_had() -> None:
    pool = make_pool(2)
    assert pool.allocate(0) == [], "allocate(0) is an empty list"
    blocks = take(pool, 2)
    assert pool.allocate(0) == [], "allocate(0) is an empty list, also when no block is free: None says that it did not fit"
    assert_holds(pool, Counter(blocks), "after allocate(0)")


@pytest.mark.parametrize("count", [-1, -8])
def test_task_1_a_negative_number_is_refused(count: int) -> None:
    pool = make_pool()
    blocks = take(pool, 3)
    with refuses(ValueError, f"allocate({count}) makes no sense", named=str(count)):
        pool.allocate(count)
    assert_holds(pool, Counter(blocks), "a refused allocation changes nothing")


def test_task_1_what_was_given_back_last_is_handed_out_first() -> None:
    pool = make_pool(20)
    blocks = take(pool, 12)
    for block in (blocks[7], blocks[2], blocks[9]):
        pool.release([block])
    got = [take(pool, 1)[0] for _ in range(3)]
    want = [blocks[9], blocks[2], blocks[7]]
    assert got == want, f"given back were blocks {want[::-1]}, in this order: the next three are {want}, not {got}"
    pool.release(blocks[3:6])
    assert sorted(take(pool, 3)) == sorted(blocks[3:6]), "blocks that were given back together are the next three, in any order"


def test_task_1_a_shared_block_is_free_when_the_last_lets_go() -> None:
    pool = make_pool()
    shared, own = take(pool, 3), take(pool, 2)
    pool.share(shared)
    pool.share(shared[:2])
    held = Counter({**dict.fromkeys(shared[:2], 3), shared[2]: 2, **dict.fromkeys(own, 1)})
    assert_holds(pool, held, "after three blocks were shared, two of them twice")
    while +held:
        going = sorted(+held)
        pool.release(going)
        held -= Counter(going)
        assert_holds(pool, held, f"after blocks {going} were given back once")


def test_task_1_a_block_is_given_back_as_often_as_it_is_listed() -> None:
    pool = make_pool()
    (block, other) = take(pool, 2)
    pool.share([block])
    pool.share([block])
    pool.release([block, other, block])
    assert_holds(pool, Counter([block]), f"block {block} had 3 references, and release lists it twice")
    pool.share([block])
    pool.release([block, block])
    assert_holds(pool, Counter(), f"block {block} had 2 references, and release lists it twice")
    rest = take(pool, pool.num_blocks)
    assert sorted(rest) == list(range(pool.num_blocks)), f"all blocks are free, each once, but allocate gives {sorted(rest)}"


FAULTS = ["free", "never allocated", "one too high", "negative"]


def bad_block(pool: Any, fault: str, given_back: int) -> int:
    fresh = next(block for block in range(pool.num_blocks) if not pool.references(block) and block != given_back)
    held_from_behind = next(block for block in range(pool.num_blocks) if pool.references(block)) - pool.num_blocks
    return {"free": given_back, "never allocated": fresh, "one too high": pool.num_blocks, "negative": held_from_behind}[fault]


@pytest.mark.parametrize("call", ["share", "release"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["first", "last"])
def test_task_1_a_block_that_nobody_holds_is_refused(call: str, fault: str, where: str) -> None:
    pool = make_pool()
    mine = take(pool, 4)
    given_back = mine.pop()
    pool.release([given_back])
    bad = bad_block(pool, fault, given_back)
    blocks = [bad, *mine] if where == "first" else [*mine, bad]
    with refuses(ValueError, f"{call}({blocks}), where nothing holds block {bad}", named=f"block {bad}"):
        getattr(pool, call)(blocks)
    assert_holds(pool, Counter(mine), f"a refused {call} changes nothing, also not for the blocks before the bad one")


def test_task_1_nobody_gives_back_more_than_was_taken() -> None:
    pool = make_pool()
    mine = take(pool, 3)
    pool.share(mine[1:2])
    blocks = [*mine, mine[1], mine[2]]
    with refuses(ValueError, f"block {mine[2]} has one reference, but is listed twice", named=f"block {mine[2]}"):
        pool.release(blocks)
    assert_holds(pool, Counter([*mine, mine[1]]), "a refused release changes nothing")
    pool.release(mine)
    pool.release(mine[1:2])
    with refuses(ValueError, f"block {mine[1]} was given back twice, as often as it was held", named=f"block {mine[1]}"):
        pool.release(mine[1:2])
    assert_holds(pool, Counter(), "after everything was given back")


def test_task_1_lists_that_were_handed_over_stay_the_callers() -> None:
    pool = make_pool()
    mine = take(pool, 3)
    kept = list(mine)
    pool.share(mine)
    pool.release(mine)
    assert mine == kept, "share and release leave the list that they are given as it is"
    mine.clear()
    assert_holds(pool, Counter(kept), "a caller that empties its table has not given its blocks back")


@settings(max_examples=60)
@given(
    st.integers(1, 12), st.lists(st.tuples(st.sampled_from(["allocate", "share", "release"]), st.integers(0, 99)), max_size=40)
)
def test_task_1_any_order_of_calls(num_blocks: int, calls: list[tuple[str, int]]) -> None:
    pool, held = make_pool(num_blocks), Counter[int]()
    take(pool, 0)
    for i, (call, number) in enumerate(calls):
        taken = sorted(+held)
        if call == "allocate":
            count = number % (num_blocks + 2)
            got = pool.allocate(count)
            assert (got is None) == (count > num_blocks - len(taken)), (
                f"allocate({count}) gave {got}, with {num_blocks - len(taken)} of {num_blocks} blocks free"
            )
            again = [block for block in got or [] if held[block]]
            assert not again, f"blocks {again} were handed out again, though they are still held"
            assert len(set(got or [])) == len(got or []), f"a block was handed out twice in one call: {got}"
            held.update(got or [])
        elif taken:
            blocks = taken[number % len(taken) :]
            getattr(pool, call)(blocks)
            held = held + Counter(blocks) if call == "share" else held - Counter(blocks)
        assert_holds(pool, held, f"after call {i + 1}, {call}")


# check_integrity: a pool and the tables that there are


def leak(pool: Any) -> tuple[list[list[int]], int]:
    table, lost = take(pool, 3), take(pool, 1)
    return [table], lost[0]


def held_by_two_who_did_not_share(pool: Any) -> tuple[list[list[int]], int]:
    table = take(pool, 3)
    return [table, [table[1]]], table[1]


def given_back_and_still_in_a_table(pool: Any) -> tuple[list[list[int]], int]:
    table = take(pool, 3)
    pool.release(table[2:])
    return [table], table[2]


def twice_in_a_table(pool: Any) -> tuple[list[list[int]], int]:
    table = take(pool, 3)
    return [[*table, table[0]]], table[0]


def shared_and_held_once(pool: Any) -> tuple[list[list[int]], int]:
    table = take(pool, 3)
    pool.share(table[1:2])
    return [table], table[1]


def beyond_the_pool(pool: Any) -> tuple[list[list[int]], int]:
    return [[*take(pool, 3), pool.num_blocks]], pool.num_blocks


def negative(pool: Any) -> tuple[list[list[int]], int]:
    take(pool, 3)
    return [[block for block in range(pool.num_blocks) if pool.references(block)], [-1]], -1


BROKEN = [
    leak,
    held_by_two_who_did_not_share,
    given_back_and_still_in_a_table,
    twice_in_a_table,
    shared_and_held_once,
    beyond_the_pool,
    negative,
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_task_1_the_check_finds_what_is_not_accounted_for(broken: Any) -> None:
    pool = make_pool()
    tables, block = broken(pool)
    with refuses(RuntimeError, f"{broken.__name__}: tables {tables}", named=f"{block}"):
        pool.check_integrity(tables)


def test_task_1_the_check_reads_its_tables_once() -> None:
    pool = make_pool()
    tables = [take(pool, 2), take(pool, 3), []]
    pool.share(tables[0])
    tables.append(list(tables[0]))
    pool.check_integrity(table for table in tables)
    pool.check_integrity(iter(tuple(map(tuple, tables))))
    with refuses(RuntimeError, "a table is missing", named=str(tables[1][0]) if len(tables[1]) == 1 else ""):
        pool.check_integrity(table for table in tables[:1])


# Costs


def one_round(pool: Any) -> None:
    blocks = pool.allocate(3)
    pool.share(blocks)
    pool.release(blocks)
    pool.release(blocks)
    pool.allocate(pool.num_blocks + 1)


def test_task_1_a_call_costs_what_its_blocks_cost() -> None:
    small, large = (answer.BlockPool(num_blocks, 16) for num_blocks in (100, 1_000_000))
    for pool in (small, large):  # a first round may make what is kept
        one_round(pool)
    few, many = effort(lambda: one_round(small)), effort(lambda: one_round(large))
    assert many < 2 * few + 200, (
        f"allocate, share and release of 3 blocks go through {few:,} lines and elements in a pool of 100 blocks, and through"
        f" {many:,} in one of 1,000,000: something looks at all blocks, or copies or moves a list of them"
    )


def test_task_1_no_call_searches_among_the_blocks() -> None:
    counts = []
    for num_blocks in (100, 5000):
        pool = answer.BlockPool(num_blocks, 16)
        pool.release([Watched(block) for block in take(pool, num_blocks)])
        Watched.compared = 0
        blocks = [Watched(block) for block in take(pool, 3)]
        pool.share(blocks)
        pool.release(blocks)
        pool.release(blocks)
        counts.append(Watched.compared)
    few, many = counts
    assert many < 2 * few + 100, (
        f"3 blocks allocated, shared and released take {few} comparisons of numbers in a pool of 100 blocks, and {many} in one"
        " of 5000: the list of free blocks is searched or sorted. What is at its end can be had at once"
    )
