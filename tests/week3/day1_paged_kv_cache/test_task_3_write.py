"""Week 3 Day 1, task 3: keys and values go where the batch says, in place, and come back through a table."""

import mlx.core as mx

from answer import answer
from oracles import assert_close, normal
from ragged import Span, make_batch


def test_task_3_what_is_written_comes_back_through_the_table() -> None:
    cache = answer.PagedKvCache(8, 4)
    k, v = normal(1, 2, 6, 8, seed=1), normal(1, 2, 6, 8, seed=2)
    cache.batch = make_batch([Span(0, 6, [5, 2])], 4)
    cache.write(k, v)
    keys, values = cache.fetch(mx.array([[5, 2]]))
    assert_close(keys[:, :, :6], k, "keys that were written", 0.0)
    assert_close(values[:, :, :6], v, "values that were written", 0.0)
