"""Week 3 Day 1, task 1: the block pool, against a model of it in the test: who holds what, and how often."""

from answer import answer


def test_task_1_a_pool_hands_out_each_block_once() -> None:
    pool = answer.BlockPool(5, 4)
    blocks = [*pool.allocate(2), *pool.allocate(3)]
    assert sorted(blocks) == [0, 1, 2, 3, 4], f"5 blocks, allocated 2 and 3 at a time, are blocks 0 to 4, not {blocks}"
