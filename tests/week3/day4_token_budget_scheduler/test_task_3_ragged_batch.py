"""Week 3 Day 4, task 3: sequences of any length in one row of tokens, and attention over each of them alone.

Most tests let attention compute over what the batch says, in a pool where all that belongs to no sequence is NaN, and
compare with attention over each sequence by itself. Queries, keys and values are random: no model is needed.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import LOGITS, assert_close, to_numpy
from support import refuses
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

HEADS, KV_HEADS, DIM = 4, 2, 8
SCALE = DIM**-0.5


def row(start: int, end: int, table: Sequence[int], wanted: bool = True) -> Any:
    return answer.Row(start, end, list(table), wanted)


def make(rows: Sequence[Any], block_size: int = 4) -> Any:
    """A batch, with tokens 100, 101, …"""
    count = sum(one.end - one.start for one in rows)
    return answer.make_ragged_batch(rows, mx.arange(100, 100 + count), block_size)


def dense(q: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Causal attention of the last queries `(H, L, D)` over a whole sequence `(KV, S, D)`."""
    keys, values = (np.repeat(x, HEADS // KV_HEADS, axis=0) for x in (keys, values))
    scores = q @ keys.swapaxes(1, 2) * SCALE
    length, total = scores.shape[1:]
    scores[:, np.arange(total) > np.arange(total - length, total)[:, None]] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ values


def by_tables(q: mx.array, keys: mx.array, values: mx.array, table: mx.array, lengths: mx.array, scale: float) -> mx.array:
    """What a kernel of Day 2 does, which sees tables and lengths and no mask."""
    assert scale == SCALE
    outs = []
    for part, blocks, length in zip(to_numpy(q), table.tolist(), lengths.tolist(), strict=True):
        k, v = (to_numpy(pool)[:, blocks].reshape(KV_HEADS, -1, DIM)[:, :length] for pool in (keys, values))
        outs.append(dense(part, k, v))
    return mx.array(np.stack(outs).astype(np.float32))


class Sequences:
    """Sequences whose keys and values are in one layer's pool, in blocks that are scattered over it. Each table is as long as
    its sequence will ever be; what has not been written is NaN, as an earlier owner may have left it."""

    def __init__(self, lengths: Mapping[str, int], block_size: int, kernel: bool = False, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.block_size = block_size
        counts = {name: -(-length // block_size) for name, length in lengths.items()}
        blocks = iter(self.random.permutation(sum(counts.values()) + 3).tolist())
        self.tables = {name: [next(blocks) for _ in range(count)] for name, count in counts.items()}
        self.cache = answer.PagedKvCache(sum(counts.values()) + 3, block_size, by_tables if kernel else None)
        shape = (KV_HEADS, (sum(counts.values()) + 3) * block_size, DIM)
        self.cache.pools = [mx.full(shape, mx.nan), mx.full(shape, mx.nan)]
        self.keys = {name: np.zeros((KV_HEADS, 0, DIM)) for name in lengths}
        self.values = dict(self.keys)

    def done(self, name: str) -> int:
        """How many of its tokens have been computed."""
        return self.keys[name].shape[1]

    def step(self, counts: Mapping[str, int]) -> None:
        """Compute this many further tokens of each sequence in one call, and compare with each alone."""
        __tracebackhide__ = True
        starts = {name: self.done(name) for name in counts}
        rows = [row(starts[name], starts[name] + count, self.tables[name]) for name, count in counts.items()]
        self.cache.batch = make(rows, self.block_size)
        q, k, v = (
            self.random.standard_normal((heads, sum(counts.values()), DIM)).astype(np.float32)
            for heads in (HEADS, KV_HEADS, KV_HEADS)
        )
        out = self.cache.attend(mx.array(q[None]), mx.array(k[None]), mx.array(v[None]), SCALE)
        at = 0
        for name, count in counts.items():
            here = slice(at, at + count)
            self.keys[name] = np.concatenate([self.keys[name], k[:, here]], axis=1)
            self.values[name] = np.concatenate([self.values[name], v[:, here]], axis=1)
            span = f"tokens {starts[name]} to {starts[name] + count - 1} of {name}, which is in {self.tables[name]}"
            want = dense(q[:, here], self.keys[name], self.values[name])
            assert_close(out[0, :, here], want, f"blocks of {self.block_size}, a step of {dict(counts)}: attention of {span}")
            at += count


def test_task_3_tokens_and_their_positions() -> None:
    batch = make([row(7, 8, [3, 1]), row(2, 5, [0, 2]), row(0, 2, [5]), row(4, 5, [4, 6])])
    assert batch.tokens.tolist() == [[100, 101, 102, 103, 104, 105, 106]], "tokens: (1, T), as they were given"
    assert batch.positions.tolist() == [[7, 2, 3, 4, 0, 1, 4]], "positions: (1, T), each counted within its own sequence"


def test_task_3_slots_follow_the_tables() -> None:
    batch = make([row(7, 8, [3, 1]), row(2, 6, [0, 2])])
    assert batch.slots.tolist() == [7, 2, 3, 8, 9], (
        "position 7 is the last place of block 1; positions 2 to 5 are the end of block 0 and the beginning of block 2"
    )


def test_task_3_a_table_that_is_too_short_is_refused() -> None:
    assert make([row(3, 4, [3])]).slots.tolist() == [15], "position 3 is the last place of block 3"
    with refuses(ValueError, "position 4 is in a second block, and this table has one"):
        make([row(0, 2, [1, 2]), row(3, 5, [3])])


@pytest.mark.parametrize("count", [3, 5])
def test_task_3_tokens_that_are_not_those_of_the_rows_are_refused(count: int) -> None:
    rows = [row(0, 3, [1]), row(5, 6, [2, 3])]
    assert make(rows).tokens.shape == (1, 4), "3 tokens and 1 token"
    with refuses(ValueError, f"the rows have 4 tokens, and {count} are given"):
        answer.make_ragged_batch(rows, mx.arange(count), 4)


def test_task_3_logits_are_kept_after_the_last_token_of_each_row() -> None:
    batch = make([row(7, 8, [3, 1]), row(2, 5, [0, 2]), row(0, 2, [5])])
    assert batch.keep.tolist() == [0, 3, 5], "the last tokens of rows with 1, 3 and 2 tokens are at places 0, 3 and 5"


def test_task_3_logits_of_rows_that_want_none_are_not_kept() -> None:
    batch = make([row(7, 8, [3, 1]), row(2, 5, [0, 2], wanted=False), row(0, 2, [5])])
    assert batch.keep.tolist() == [0, 5], "the second row is not at the end of its prompt: its logits are not wanted"
    batch = make([row(0, 4, [3], wanted=False)])
    assert batch.keep.tolist() == [], "no logits are wanted in this step"
    assert mx.issubdtype(batch.keep.dtype, mx.integer), "places are whole numbers, also when there are none"


def test_task_3_groups_hold_all_tokens_in_their_order() -> None:
    rows = [row(7, 8, [3, 1]), row(4, 5, [4, 6]), row(2, 5, [0, 2]), row(0, 2, [5]), row(8, 9, [7, 8, 9])]
    groups = make(rows).groups
    places = [place for group in groups for place in range(9)[group.places]]
    assert places == list(range(8)), f"the 8 tokens belong to groups one after another, and each to one: {places}"
    for group in groups:
        assert len(range(9)[group.places]) == group.rows * group.queries, "a group has `queries` tokens of each of its rows"
    assert [group.queries for group in groups] == [1, 3, 2, 1], (
        "two neighbours with one token each are a group, then come 3 tokens, 2 tokens, and one more with one token"
    )


def test_task_3_all_decodes_are_one_group() -> None:
    batch = make([row(length, length + 1, [length, length + 20]) for length in range(4, 8)])
    assert [(group.rows, group.queries) for group in batch.groups] == [(4, 1)], (
        "sequences with one new token each share one call of attention, however long they are"
    )


def test_task_3_prompts_of_the_same_length_are_groups_of_their_own() -> None:
    batch = make([row(0, 3, [0]), row(0, 3, [1])])
    assert [(group.rows, group.queries) for group in batch.groups] == [(1, 3), (1, 3)], "only decodes share a group"


def test_task_3_lengths_count_the_tokens_of_this_step() -> None:
    groups = make([row(7, 8, [3, 1]), row(0, 1, [5]), row(2, 5, [0, 2])]).groups
    assert [group.lengths.tolist() for group in groups] == [[8, 1], [5]], "lengths: what each sequence holds afterwards"


def test_task_3_shapes_and_types_of_a_group() -> None:
    (group,) = make([row(11, 12, [3, 1, 2]), row(0, 1, [5])]).groups
    assert group.table.shape == (2, 3), "table: (rows, blocks), as wide as the longest sequence needs"
    assert group.mask.shape == (2, 1, 1, 12), "mask: (rows, 1, queries, blocks · block_size)"
    dtypes = (group.table.dtype, group.lengths.dtype, group.mask.dtype)
    assert dtypes == (mx.int32, mx.int32, mx.float32), (
        f"table and lengths are int32, which kernels read, the mask float32: {dtypes}"
    )


def test_task_3_tables_are_as_wide_as_what_is_read() -> None:
    (group,) = make([row(3, 4, [3, 1, 2]), row(4, 5, [5, 6, 7])]).groups
    assert group.table.shape == (2, 2), "of tables with 3 blocks, 4 and 5 tokens need 1 and 2: the others are not read"


@pytest.mark.parametrize("kernel", [False, True], ids=["masks", "lengths"])
@pytest.mark.parametrize("block_size", [1, 4, 5])
def test_task_3_each_sequence_attends_to_itself_alone(block_size: int, kernel: bool) -> None:
    sequences = Sequences({"a": 20, "b": 9, "c": 13, "d": 1}, block_size, kernel)
    sequences.step({"a": 12, "b": 3})
    sequences.step({"a": 1, "b": 1, "c": 7})
    sequences.step({"a": 1, "b": 1, "d": 1, "c": 4})
    sequences.step({"b": 4, "a": 1, "c": 2})


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("done", [0, 1, 3, 4, 5, 8])
def test_task_3_steps_that_end_at_the_edge_of_a_block(done: int, count: int) -> None:
    sequences = Sequences({"a": done + count, "b": 30}, 4)
    sequences.step({"b": 6, "a": done} if done else {"b": 6})
    sequences.step({"b": 1, "a": count})


def test_task_3_a_token_after_another_through_several_blocks() -> None:
    sequences = Sequences({"a": 14, "b": 14}, 4)
    sequences.step({"a": 2, "b": 5})
    for _ in range(9):
        sequences.step({"a": 1, "b": 1})


def test_task_3_a_prompt_in_crumbs_keeps_what_was_written_before() -> None:
    sequences = Sequences({"a": 30}, 8)
    for count in (1, 2, 3, 1, 1, 5, 8, 9):
        sequences.step({"a": count})


def test_task_3_only_the_end_of_a_block_that_is_begun_is_set_to_zero() -> None:
    for rows, expected, look_at in (
        ([row(0, 2, [3])], {14, 15}, "2 tokens begin block 3: its other two places may hold NaN"),
        ([row(2, 3, [3])], set(), "the block was begun earlier, and its end has been zero since then"),
        ([row(2, 6, [3, 0])], {2, 3}, "positions 4 and 5 begin block 0"),
        ([row(0, 4, [3])], set(), "the block is full"),
        ([row(4, 5, [3, 1]), row(0, 1, [2])], {5, 6, 7, 9, 10, 11}, "two sequences begin a block each"),
    ):
        fresh = make(rows).fresh
        missing, others = expected - set(fresh.tolist()), set(fresh.tolist()) - expected
        written = {slot for one in rows for slot in (one.table[at // 4] * 4 + at % 4 for at in range(one.start, one.end))}
        assert not missing, f"{look_at}: slots {missing} are missing in `fresh`"
        assert others <= written, f"{look_at}: slots {others - written} must be left alone"
        assert mx.issubdtype(fresh.dtype, mx.integer), "`fresh` holds slots, which are whole numbers, also when there are none"


def test_task_3_a_row_reads_nothing_but_its_own_blocks() -> None:
    rows = [row(16, 17, [9, 3, 1, 4, 8]), row(2, 3, [5, 6]), row(7, 8, [7, 2, 0])]
    (group,) = make(rows).groups
    for one, blocks in zip(rows, group.table.tolist(), strict=True):
        used = one.table[: -(-one.end // 4)]
        assert blocks[: len(used)] == used, f"the row of {one.end} tokens in {one.table} begins with its blocks, not {blocks}"
        assert set(blocks) == set(used), (
            f"the row is filled up with its own last block that holds tokens, not with others: what they hold may be NaN, which"
            f" a mask can't hide. {blocks}"
        )


@pytest.mark.parametrize("seed", range(6))
def test_task_3_random_steps(seed: int) -> None:
    generator = random.Random(seed)
    block_size = generator.choice([1, 2, 3, 4, 8])
    lengths = {name: generator.randint(1, 25) for name in "abcde"}
    sequences = Sequences(lengths, block_size, kernel=seed % 2 == 0, seed=seed)
    while left := {name: rest for name in lengths if (rest := lengths[name] - sequences.done(name))}:
        chosen = generator.sample(sorted(left), generator.randint(1, len(left)))
        sequences.step({name: generator.choice([1, generator.randint(1, left[name])]) for name in chosen})


def test_task_3_the_model_gives_each_row_the_logits_that_it_has_alone() -> None:
    config = tiny_config("llama")
    model = answer.Model(config, random_weights(config))
    caches = [answer.PagedKvCache(8, 4) for _ in range(config.num_layers)]
    tokens = {"a": [5, 80, 31, 7, 99, 12], "b": [40, 2, 77], "c": [64, 64, 9, 1, 3]}
    tables = {"a": [6, 2], "b": [0], "c": [7, 4]}
    logits: dict[str, mx.array] = {}
    for step in ({"a": (0, 5), "b": (0, 2)}, {"a": (5, 6), "b": (2, 3), "c": (0, 5)}):
        rows = [row(start, end, tables[name]) for name, (start, end) in step.items()]
        flat = [token for name, (start, end) in step.items() for token in tokens[name][start:end]]
        batch = answer.make_ragged_batch(rows, mx.array(flat), 4)
        for cache in caches:
            cache.batch = batch
        out = model(batch.tokens, batch.positions, caches, None, logits_to_keep=batch.keep)[0]
        logits |= dict(zip(step, out, strict=True))
    for name, alone in tokens.items():
        want = model(mx.array([alone]), logits_to_keep=1)[0, -1]
        assert_close(logits[name], to_numpy(want), f"the logits after {name}, next to two others", LOGITS)
