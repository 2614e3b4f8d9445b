"""Week 3 Day 1, task 2: how many blocks hold a sequence, and where each of its tokens lies."""

from answer import answer


def test_task_2_tokens_lie_where_the_table_says() -> None:
    got = answer.slot_mapping([7, 2, 5], 2, 9, 4)
    assert list(got) == [30, 31, 8, 9, 10, 11, 20], f"tokens 2 to 8 in blocks 7, 2, 5 of 4 tokens: {got}"
