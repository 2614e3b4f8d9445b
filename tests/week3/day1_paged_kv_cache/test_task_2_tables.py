"""Week 3 Day 1, task 2: how many blocks hold a sequence, and where each of its tokens is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from support import refuses

SIZES = [1, 4, 16]


@pytest.mark.parametrize("block_size", SIZES)
@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("blocks", [1, 3])
def test_task_2_the_last_block_may_be_filled_in_part(blocks: int, more: int, block_size: int) -> None:
    tokens = blocks * block_size + more
    got = answer.blocks_for(tokens, block_size)
    enough = got * block_size >= tokens
    assert enough, f"{got} blocks of {block_size} tokens can't hold {tokens} tokens"
    assert (got - 1) * block_size < tokens, f"{tokens} tokens fit into fewer than {got} blocks of {block_size}"


def test_task_2_no_tokens_need_no_block() -> None:
    got = answer.blocks_for(0, 16)
    assert got == 0, f"no tokens need no block, not {got}"


def test_task_2_numbers_of_blocks_are_whole() -> None:
    tokens = 16 * 10**16 + 1
    got = answer.blocks_for(tokens, 16)
    assert isinstance(got, int), f"a number of blocks is an int, not {type(got).__name__}"
    assert got == 10**16 + 1, f"blocks_for({tokens}, 16) is {got}: a division of floats rounds, use //"


def test_task_2_tokens_lie_where_the_table_says() -> None:
    got = answer.slot_mapping([7, 2, 5], 2, 9, 4)
    assert list(got) == [30, 31, 8, 9, 10, 11, 20], (
        f"of tokens 2 to 8 in blocks 7, 2, 5 of 4 tokens, 2 and 3 end block 7, 4 to 7 fill block 2, 8 begins block 5; got {got}"
    )


@settings(max_examples=80)
@given(st.data())
def test_task_2_each_token_has_a_slot_in_its_block(data: st.DataObject) -> None:
    block_size = data.draw(st.integers(1, 9), label="block_size")
    table = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True), label="table")
    end = data.draw(st.integers(0, len(table) * block_size), label="end")
    start = data.draw(st.integers(0, end), label="start")
    got = list(answer.slot_mapping(table, start, end, block_size))
    assert len(got) == end - start, f"tokens {start} to {end - 1} are {end - start}, but there are {len(got)} slots: {got}"
    for at, slot in zip(range(start, end), got, strict=True):
        block, place = divmod(slot, block_size)
        assert block == table[at // block_size], f"token {at} is in block {table[at // block_size]}, not {block}"
        assert place == at % block_size, f"token {at} is at place {at % block_size} of its block, not at {place}"


def test_task_2_two_sequences_have_no_slot_in_common() -> None:
    one, other = ([3, 0, 6], [1, 4]), (10, 8)
    slots = [slot for table, end in zip(one, other, strict=True) for slot in answer.slot_mapping(table, 0, end, 4)]
    assert len(set(slots)) == 18, f"18 tokens in blocks of their own have 18 slots, not {len(set(slots))}: {sorted(slots)}"


def test_task_2_a_sequence_goes_on_where_it_ended() -> None:
    table = [5, 1, 9, 2]
    whole = list(answer.slot_mapping(table, 0, 13, 4))
    pieces = [
        slot for start, end in ((0, 3), (3, 4), (4, 4), (4, 9), (9, 13)) for slot in answer.slot_mapping(table, start, end, 4)
    ]
    assert pieces == whole, f"piece by piece, tokens go where they go in one go: {pieces}, {whole}"


@pytest.mark.parametrize(("blocks", "end"), [(0, 1), (1, 5), (2, 9), (2, 12)])
def test_task_2_a_table_that_is_too_short_is_refused(blocks: int, end: int) -> None:
    with refuses(ValueError, f"{blocks} blocks of 4 tokens can't hold {end} tokens", named=str(end)):
        list(answer.slot_mapping([6, 3][:blocks], max(end - 2, 0), end, 4))


def test_task_2_a_table_may_be_longer_than_its_sequence() -> None:
    got = list(answer.slot_mapping([2, 0, 8, 4], 3, 5, 4))
    assert got == [11, 0], f"blocks that are not begun don't matter: tokens 3 and 4 have slots 11 and 0, not {got}"
    got = list(answer.slot_mapping([2, 0], 0, 8, 4))
    assert got == [8, 9, 10, 11, 0, 1, 2, 3], f"a table may be full to the last place: {got}"
    assert list(answer.slot_mapping([], 0, 0, 4)) == [], "no token needs no block"
