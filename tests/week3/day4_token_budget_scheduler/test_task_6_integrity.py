"""Week 3 Day 4, task 6: `check_integrity` of the engine sees each kind of damage that it promises to see.

The damage is done behind the engine's back, by way of what is public: its pool, its prefix cache, and its requests.
"""

from collections.abc import Callable
from typing import Any

import pytest

from paged_engines import ask, engine, serve
from support import ToyModel, refuses, step_until


class Busy:
    """An engine in full swing: two requests decode, one is in the middle of its prompt, one waits, and something is cached."""

    def __init__(self, toy: ToyModel) -> None:
        self.served = engine(toy, max_num_seqs=3)
        serve(self.served, ask(9, 3, seed=8))
        self.first, self.second = self.served.submit(ask(4, 20)), self.served.submit(ask(7, 20, seed=1))
        step_until(self.served, lambda: len(self.second.generated_tokens) == 2)
        self.reading, self.waiting = self.served.submit(ask(40, 5, seed=2)), self.served.submit(ask(5, 5, seed=3))
        step_until(self.served, lambda: 0 < self.reading.offset < 30)
        self.served.check_integrity()


def lose_a_block(busy: Busy) -> None:
    busy.served.pool.allocate(1)


def free_a_block_that_is_used(busy: Busy) -> None:
    busy.served.pool.release(busy.first.blocks[-1:])


def put_a_block_into_two_tables(busy: Busy) -> None:
    busy.second.blocks[-1] = busy.first.blocks[-1]


def forget_a_block_of_a_table(busy: Busy) -> None:
    busy.reading.blocks.pop()


def hold_a_cached_block_without_a_table(busy: Busy) -> None:
    busy.served.prefix_cache.lock(busy.served.prefix_cache.match(ask(9, 3, seed=8).prompt))


def compute_more_than_there_are_blocks_for(busy: Busy) -> None:
    busy.first.offset = 4 * len(busy.first.blocks) + 1


def finish_behind_the_engine_s_back(busy: Busy) -> None:
    busy.second.finish("cancelled")


def wait_with_blocks(busy: Busy) -> None:
    busy.waiting.blocks, busy.first.blocks = busy.first.blocks, []
    busy.first.offset = 0


def wait_with_something_computed(busy: Busy) -> None:
    busy.waiting.offset = 1


def expect_a_token_that_is_not_on_its_way(busy: Busy) -> None:
    busy.waiting.in_flight = 1


def expect_no_token_though_one_is_on_its_way(busy: Busy) -> None:
    busy.first.in_flight = 0


DAMAGES: list[Callable[[Any], None]] = [
    lose_a_block,
    free_a_block_that_is_used,
    put_a_block_into_two_tables,
    forget_a_block_of_a_table,
    hold_a_cached_block_without_a_table,
    compute_more_than_there_are_blocks_for,
    finish_behind_the_engine_s_back,
    wait_with_blocks,
    wait_with_something_computed,
    expect_a_token_that_is_not_on_its_way,
    expect_no_token_though_one_is_on_its_way,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_task_6_integrity_sees(toy: ToyModel, damage: Callable[[Any], None]) -> None:
    busy = Busy(toy)
    damage(busy)
    with refuses(RuntimeError, f"check_integrity, after a request came to {damage.__name__.replace('_', ' ')}"):
        busy.served.check_integrity()


def test_task_6_integrity_of_the_prefix_cache_is_part_of_it(toy: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(toy)
    asked = []
    monkeypatch.setattr(busy.served.prefix_cache, "check_integrity", lambda: asked.append(True))
    busy.served.check_integrity()
    assert asked, "the prefix cache has a check of its own, and nothing else calls it"


def test_task_6_integrity_raises_no_false_alarm(toy: ToyModel) -> None:
    busy = Busy(toy)
    serve(busy.served)
    busy.served.check_integrity()
