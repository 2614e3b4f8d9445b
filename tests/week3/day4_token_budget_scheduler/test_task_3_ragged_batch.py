"""Week 3 Day 4, task 3: a step as one row of tokens."""

import mlx.core as mx

from answer import answer


def test_task_3_positions_of_a_chunk() -> None:
    batch = answer.make_ragged_batch([answer.Row(2, 5, [3, 1])], mx.array([7, 8, 9]), block_size=4)
    assert batch.positions.tolist() == [[2, 3, 4]], "positions count from the beginning of the sequence"
