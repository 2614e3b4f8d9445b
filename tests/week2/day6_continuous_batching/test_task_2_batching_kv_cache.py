"""Task 2: the batching KV cache. Its rows are judged by what attention over them gives, not by how they are stored.

The tokens of a row may be at the left of what is fetched, or at the right: as the masks of task 6 say (see `alignment.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from copying import bytes_allocated, bytes_copied
from oracles import assert_close, attention64
from support import refuses
from week2.day6_continuous_batching.alignment import mask64, requests_at, rows_stand_right

KV, D = 2, 4

History = tuple[np.ndarray, np.ndarray]
"""Keys and values of one request, (KV, length, D)."""


def random_history(length: int, seed: int) -> History:
    random = np.random.default_rng([length, seed])
    return random.standard_normal((KV, length, D), dtype=np.float32), random.standard_normal((KV, length, D), dtype=np.float32)


def prefilled(history: History, room: int = 0) -> Any:
    """The cache of a request that was prefilled alone, with `room` unused positions after its tokens."""
    cache = answer.KvCache()
    padding = np.full((1, KV, room, D), 100, dtype=np.float32)
    cache.keys, cache.values = (mx.array(np.concatenate([part[None], padding], axis=2)) for part in history)
    cache.offset = history[0].shape[1]
    return cache


@contextmanager
def accepts(what: str) -> Iterator[None]:
    """The block must not refuse."""
    __tracebackhide__ = True
    try:
        yield
    except ValueError as error:
        raise AssertionError(f"{what}: it should not be refused, but there was {error!r}") from error


class Batch:
    """A BatchingKvCache, and next to it the history that each of its slots should have."""

    def __init__(self, slots: int, max_seq_len: int = 32, shared: Any = None) -> None:
        self.cache = answer.BatchingKvCache(slots, max_seq_len, shared)
        self.history: dict[int, History] = {}
        self.added = 0

    @property
    def slots(self) -> list[int]:
        """The taken ones, in rising order."""
        return sorted(self.history)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each taken slot."""
        return [self.history[slot][0].shape[1] for slot in self.slots]

    def add(self, slot: int, length: int, room: int = 0) -> Any:
        """Prefill a request and let it join; returns the cache that it was prefilled in."""
        self.added += 1
        history = random_history(length, seed=self.added)
        own = prefilled(history, room)
        with accepts(f"a prompt of {length} tokens, with room for {room} more, fits into slot {slot}"):
            self.cache.add_request(own, slot)
        self.history[slot] = history
        return own

    def remove(self, slot: int) -> None:
        self.cache.remove_request(slot)
        del self.history[slot]

    def move(self, source: int, target: int) -> None:
        self.cache.move_request(source, target)
        self.history[target] = self.history.pop(source)

    def check_lengths(self) -> None:
        want = dict(zip(self.slots, self.lengths, strict=True))
        got = dict(self.cache.lengths)
        assert got == want, f"the taken slots hold {want} tokens, but `lengths` says {got}"

    def next_tokens(self, count: int) -> list[History]:
        """Keys and values of `count` more tokens for every slot, which are taken to have been appended."""
        self.added += 1
        new = [random_history(count, seed=100 * self.added + slot) for slot in self.slots]
        for slot, parts in zip(self.slots, new, strict=True):
            old = self.history[slot]
            self.history[slot] = tuple(np.concatenate(pair, axis=1) for pair in zip(old, parts, strict=True))
        return new

    def append_and_check(self, count: int = 1) -> None:
        """Append to every slot, and compare each row's attention with that over the row's own history."""
        right = rows_stand_right()
        self.check_lengths()
        new_keys, new_values = (mx.array(np.stack(part)) for part in zip(*self.next_tokens(count), strict=True))
        mask = mx.array(mask64(self.lengths, count, max(self.lengths), right), dtype=mx.float32)
        with accepts(f"{count} more tokens fit, which makes the slots {self.slots} hold {self.lengths}"):
            keys, values, total, mask = self.cache.update_and_fetch(new_keys, new_values, mask_length=count, mask=mask)
        assert total == max(self.lengths), (
            f"rows of {self.lengths} tokens were fetched with S = {total}: it should be the length of the longest, so that no"
            " column is computed for nothing"
        )
        want = (len(self.slots), KV, total, D)
        assert keys.shape == values.shape == want, (
            f"slots {self.slots} hold {self.lengths} tokens, so keys and values are {want}: a row for each taken slot, and no"
            f" idle ones; got {keys.shape} and {values.shape}"
        )
        self.check_attention(keys, values, mask, count, "at the right, as your masks say" if right else "from column 0 on")
        self.check_lengths()

    def check_attention(self, keys: mx.array, values: mx.array, mask: mx.array, count: int, side: str) -> None:
        queries = random_history(count, seed=997 - self.added)[0][None]
        for row, slot in enumerate(self.slots):
            length = self.lengths[row]
            want = attention64(
                queries, *(part[None] for part in self.history[slot]), mask=mask64([length], count, length, False)
            )
            got = attention64(queries, keys[row : row + 1], values[row : row + 1], mask=mask[row : row + 1])
            hint = (
                f"slots {self.slots} hold {self.lengths} tokens, the last {count} new: row {row} (slot {slot}) does not attend"
                f" over exactly its own tokens, which should be {side}. Look at where its new keys and values were written,"
                " at what a join or move has copied, and at the order of the rows"
            )
            assert_close(mx.array(got), want, hint)


def test_task_2_one_request() -> None:
    batch = Batch(slots=1)
    batch.add(0, length=5)
    for _ in range(3):
        batch.append_and_check()


def test_task_2_rows_of_different_lengths() -> None:
    batch = Batch(slots=3)
    for slot, length in enumerate((5, 1, 9)):
        batch.add(slot, length)
    for _ in range(4):
        batch.append_and_check()


def test_task_2_several_tokens_at_once_are_causal() -> None:
    batch = Batch(slots=2)
    batch.add(0, length=2)
    batch.add(1, length=6)
    batch.append_and_check(count=3)
    batch.append_and_check(count=1)


def test_task_2_rows_are_in_rising_order_of_slots() -> None:
    batch = Batch(slots=3)
    for slot, length in ((2, 4), (0, 7), (1, 3)):
        batch.add(slot, length)
    batch.append_and_check()


def test_task_2_a_prefilled_cache_may_have_room_to_spare() -> None:
    batch = Batch(slots=2)
    batch.add(0, length=3, room=8)
    batch.add(1, length=6, room=1)
    batch.append_and_check()
    batch.append_and_check()


def test_task_2_a_request_joins_while_others_run() -> None:
    batch = Batch(slots=3)
    batch.add(0, length=4)
    batch.append_and_check()
    batch.add(1, length=2)
    batch.append_and_check()
    batch.add(2, length=8)
    batch.append_and_check()


def test_task_2_a_request_that_leaves_takes_its_row_along() -> None:
    batch = Batch(slots=3)
    for slot, length in enumerate((5, 9, 3)):
        batch.add(slot, length)
    batch.append_and_check()
    batch.remove(2)
    batch.append_and_check()
    batch.remove(0)  # now there is a gap before slot 1
    batch.append_and_check()


def test_task_2_a_gap_in_the_middle() -> None:
    batch = Batch(slots=4)
    for slot, length in enumerate((3, 5, 2, 7)):
        batch.add(slot, length)
    batch.remove(1)
    batch.append_and_check()
    batch.append_and_check()


def test_task_2_a_short_request_in_the_slot_of_a_long_one() -> None:
    batch = Batch(slots=2)
    batch.add(0, length=20)
    batch.add(1, length=15)
    batch.append_and_check()
    batch.remove(0)
    batch.add(0, length=2)
    for _ in range(3):
        batch.append_and_check()  # the columns after its 2 tokens still hold what the long one left


def test_task_2_everybody_leaves_and_others_come() -> None:
    batch = Batch(slots=2)
    for length in (9, 3):
        batch.add(0, length)
        batch.add(1, length + 2)
        batch.append_and_check()
        batch.remove(0)
        batch.remove(1)


def test_task_2_moving_a_request_changes_its_row_only() -> None:
    batch = Batch(slots=4)
    for slot, length in ((0, 3), (1, 12), (3, 6)):
        batch.add(slot, length)
    batch.append_and_check()
    batch.move(3, 2)
    batch.append_and_check()
    batch.remove(1)
    batch.move(2, 1)
    batch.append_and_check()


def test_task_2_a_move_may_go_up_to_a_slot_that_nobody_had() -> None:
    batch = Batch(slots=8)
    batch.add(0, length=3)
    batch.add(1, length=9)
    batch.move(0, 6)
    batch.append_and_check()
    batch.move(1, 7)
    batch.move(6, 0)
    batch.append_and_check()


def test_task_2_moves_one_after_the_other() -> None:
    batch = Batch(slots=5)
    for slot, length in enumerate((4, 7, 2, 5, 9)):
        batch.add(slot, length)
    batch.append_and_check()
    for slot in (0, 1):
        batch.remove(slot)
    batch.move(4, 0)
    batch.move(3, 1)
    batch.append_and_check()
    batch.add(3, length=6)  # where one has just moved away from
    batch.append_and_check()


@pytest.mark.parametrize(
    ("source", "target"), [(0, 1), (1, 1), (2, 2), (2, 1), (2, 3), (5, 2), (0, 4), (0, -1)], ids=lambda slot: str(slot)
)
def test_task_2_a_move_needs_a_request_and_a_free_slot(source: int, target: int) -> None:
    batch = Batch(slots=4)
    batch.add(0, length=3)
    batch.add(1, length=4)
    batch.append_and_check()
    with refuses(ValueError, f"of slots 0 … 3 the first two are taken: a move from {source} to {target} makes no sense"):
        batch.cache.move_request(source, target)
    batch.append_and_check()  # and nothing has changed


@pytest.mark.parametrize("kind", ["array", "causal", "none"])
def test_task_2_the_mask_is_handed_back_as_it_came(kind: str) -> None:
    batch = Batch(slots=2)
    batch.add(0, length=2)
    batch.add(1, length=3)
    new = mx.zeros((2, KV, 1, D))
    given = {"array": mx.zeros((2, 1, 1, 4)) - 1.0, "causal": "causal", "none": None}[kind]
    got = batch.cache.update_and_fetch(new, new, mask_length=1, mask=given)
    assert len(got) == 4, f"keys, values, S, mask: four things are returned, not {len(got)}"
    mask = got[3]
    is_array = isinstance(mask, mx.array)
    assert (is_array and mx.array_equal(mask, given)) if kind == "array" else (not is_array and mask == given), (
        "what each row may see is the caller's to say (task 6): the cache hands its mask through and makes none of its own"
    )


def test_task_2_with_your_masks_each_row_sees_its_own_tokens() -> None:
    batch = Batch(slots=3)
    for slot, length in enumerate((2, 7, 4)):
        batch.add(slot, length)
    for _ in range(3):
        mask = answer.create_batch_mask(requests_at(*batch.lengths), max(batch.lengths) + 1)
        new_keys, new_values = (mx.array(np.stack(part)) for part in zip(*batch.next_tokens(1), strict=True))
        keys, values, _, mask = batch.cache.update_and_fetch(new_keys, new_values, mask_length=1, mask=mask)
        batch.check_attention(keys, values, mask, 1, "where create_batch_mask expects them")


def test_task_2_attention_with_lengths_is_attention_with_the_mask() -> None:
    batch, seen = Batch(slots=3), []

    def attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Any, lengths: Any = None) -> mx.array:
        seen.append((k, v, lengths))
        return q

    for slot, length in ((0, 2), (1, 7), (2, 4)):
        batch.add(slot, length)
    mask = answer.create_batch_mask(requests_at(*batch.lengths), max(batch.lengths) + 1)
    new_keys, new_values = (mx.array(np.stack(part)) for part in zip(*batch.next_tokens(1), strict=True))
    batch.cache.attend(mx.zeros((3, KV, 1, D)), new_keys, new_values, 0.5, mask, attention)
    keys, values, lengths = seen[0]
    if lengths is None:  # kernels that take lengths then go by the mask, wherever the rows are
        return
    got = np.array(lengths).tolist()
    assert got == batch.lengths, (
        f"row_lengths() is what kernels go by instead of the mask: {batch.lengths} tokens with the new ones, not {got}"
    )
    for row, length in enumerate(got):
        hint = f"row {row}: a kernel that is given lengths reads columns 0 … {length - 1}, so they must hold the row's tokens"
        queries = random_history(1, seed=5)[0][None]
        want = attention64(queries, *(part[None] for part in batch.history[batch.slots[row]]))
        first = (part[row : row + 1, :, :length] for part in (keys, values))
        assert_close(mx.array(attention64(queries, *first)), want, f"{hint}; if yours are at the right, row_lengths() is None")


def test_task_2_a_taken_slot_is_refused() -> None:
    batch = Batch(slots=2)
    batch.add(0, length=3)
    with refuses(ValueError, "slot 0 is taken: add_request must not overwrite its owner"):
        batch.cache.add_request(prefilled(random_history(5, seed=1)), 0)
    batch.append_and_check()  # and its owner is as it was


@pytest.mark.parametrize("slot", [-2, -1, 2, 7])
def test_task_2_a_slot_that_does_not_exist_is_refused(slot: int) -> None:
    batch = Batch(slots=2)
    batch.add(0, length=4)
    with refuses(ValueError, f"slot {slot} of 2 does not exist (a negative index would count from the end)"):
        batch.cache.add_request(prefilled(random_history(3, seed=1)), slot)
    batch.append_and_check()


def test_task_2_what_does_not_fit_is_refused() -> None:
    batch = Batch(slots=2, max_seq_len=6)
    with refuses(ValueError, "7 tokens do not fit into a slot of 6"):
        batch.cache.add_request(prefilled(random_history(7, seed=1)), 0)
    with refuses(ValueError, "a cache that holds no token was not prefilled: it can't join"):
        batch.cache.add_request(answer.KvCache(), 0)
    rewound = prefilled(random_history(3, seed=1))
    rewound.offset = 0
    with refuses(ValueError, "offset 0 means that no token is stored, whatever room there is"):
        batch.cache.add_request(rewound, 0)
    batch.add(0, length=6 - 1, room=20)  # room to spare does not count
    batch.append_and_check()


# 63 to 129: around the sizes to which a slab that doubles grows.
@pytest.mark.parametrize("most", [1, 2, 6, 63, 64, 65, 100, 128, 129])
def test_task_2_a_slot_can_be_filled_to_its_last_token(most: int) -> None:
    batch = Batch(slots=2, max_seq_len=most)
    batch.add(0, length=most)  # as long as can be: it may be prefilled so, and its only token be read
    full = mx.zeros((1, KV, 1, D))
    with refuses(ValueError, f"slot 0 holds {most} of {most} tokens: there is no room for one more"):
        batch.cache.update_and_fetch(full, full)
    batch.check_lengths()
    batch.remove(0)
    for slot in range(2 if most > 1 else 0):
        batch.add(slot, length=max(1, most - 2 - slot))
    while batch.history and max(batch.lengths) < most:
        batch.append_and_check()


def test_task_2_after_a_refused_token_everything_is_as_it_was() -> None:
    batch = Batch(slots=3, max_seq_len=8)
    for slot, length in enumerate((3, 7, 5)):
        batch.add(slot, length)
    batch.append_and_check()  # slot 1 is full now
    loud = mx.full((3, KV, 1, D), 50.0)
    with refuses(ValueError, "one row is full: look at all lengths before you write"):
        batch.cache.update_and_fetch(loud, loud)
    batch.check_lengths()
    batch.remove(1)
    batch.append_and_check()
    batch.append_and_check()


def test_task_2_a_full_row_takes_no_more_and_nothing_is_half_done() -> None:
    batch = Batch(slots=2, max_seq_len=6)
    batch.add(0, length=2)
    batch.add(1, length=5)
    two = mx.zeros((2, KV, 2, D))
    with refuses(ValueError, "slot 1 has room for one token, not for two: look at how many are appended"):
        batch.cache.update_and_fetch(two, two)
    batch.append_and_check()  # one token fits, and slot 0 has not advanced by the refused ones
    batch.remove(1)
    batch.append_and_check()


def test_task_2_long_rows_in_many_slots() -> None:
    batch = Batch(slots=9, max_seq_len=400)
    for slot, length in enumerate((3, 63, 64, 65, 130, 1, 200, 398, 70)):
        batch.add(slot, length)
    batch.append_and_check()
    batch.append_and_check()  # one of them is full now
    batch.remove(7)
    for _ in range(3):
        batch.append_and_check()


def test_task_2_slabs_that_grow_keep_everything() -> None:
    batch = Batch(slots=7, max_seq_len=1000)
    batch.add(0, length=60)
    batch.append_and_check(count=10)  # more tokens than before
    batch.add(3, length=2)  # more slots than before, and gaps
    batch.append_and_check()
    batch.add(6, length=500)  # both
    batch.append_and_check(count=30)
    batch.add(1, length=900)
    batch.append_and_check()
    batch.remove(6)
    batch.remove(1)
    batch.append_and_check(count=200)


def test_task_2_the_request_s_own_cache_is_not_needed_any_more() -> None:
    batch = Batch(slots=2)
    for slot, length, room in ((0, 3, 0), (1, 5, 4)):
        own = batch.add(slot, length, room)
        own.keys[:], own.values[:] = 50.0, 50.0  # in place
        loud = mx.full((1, KV, 2, D), 50.0)
        own.update_and_fetch(loud, loud)
        own.offset = 1
        own.update_and_fetch(loud, loud)
        batch.append_and_check()
        own.keys, own.values, own.offset = None, None, 0
    batch.append_and_check()


def test_task_2_a_join_leaves_the_request_s_own_cache_alone() -> None:
    batch = Batch(slots=2)
    own = batch.add(0, length=3, room=2)
    stored = [np.array(part) for part in (own.keys, own.values)]
    for _ in range(3):
        batch.append_and_check()
    assert own.offset == 3, f"the slot has a copy: the prefilled cache still holds 3 tokens, not {own.offset}"
    for part, before in zip((own.keys, own.values), stored, strict=True):
        assert_close(part, before, "the slot has a copy: what is appended to the batch must not reach the prefilled cache", 0.0)


def test_task_2_layers_may_share_their_lengths() -> None:
    shared = import_module(f"{answer.__name__}.slot_lengths").SharedLengths()
    layers = [Batch(slots=3, shared=shared) for _ in range(3)]
    for i, layer in enumerate(layers):
        layer.added = 10 * i  # so that every layer has other keys and values

    def in_all_layers(act: Any) -> None:
        for layer in layers:
            act(layer)

    for slot, length in ((1, 5), (0, 2)):
        in_all_layers(lambda layer, slot=slot, length=length: layer.add(slot, length))
    in_all_layers(Batch.append_and_check)
    in_all_layers(Batch.append_and_check)
    in_all_layers(lambda layer: layer.add(2, 9))
    in_all_layers(Batch.append_and_check)
    in_all_layers(lambda layer: layer.remove(0))
    in_all_layers(lambda layer: layer.move(2, 0))
    in_all_layers(lambda layer: layer.append_and_check(count=2))


def test_task_2_nothing_that_was_fetched_changes_later() -> None:
    batch = Batch(slots=2)
    batch.add(0, length=3)
    batch.add(1, length=5)
    new = mx.ones((2, KV, 1, D))
    keys = batch.cache.update_and_fetch(new, new)[0]
    before = np.array(keys)
    batch.cache.update_and_fetch(2 * new, 2 * new)
    batch.cache.remove_request(0)
    batch.cache.add_request(prefilled(random_history(4, seed=9)), 0)
    mx.eval(batch.cache.update_and_fetch(3 * new, 3 * new)[:2])
    assert (np.array(keys) == before).all(), "what a step has fetched may still be on its way: later writes must not reach it"


def test_task_2_what_is_scrubbed_is_safe_for_the_next_owner() -> None:
    batch = Batch(slots=3)
    for slot, length in enumerate((4, 9, 6)):
        batch.add(slot, length)
    broken = mx.full((3, KV, 1, D), np.nan)
    broken[0], broken[2] = 0.0, 0.0
    for slot, new in zip((0, 2), batch.next_tokens(1)[::2], strict=True):  # the second row is the broken one
        for part in new:
            part[:] = 0
        batch.history[slot] = tuple(
            np.concatenate([old[:, :-1], part], axis=1) for old, part in zip(batch.history[slot], new, strict=True)
        )
    batch.cache.update_and_fetch(broken, broken)
    batch.remove(1)
    batch.cache.scrub()
    batch.append_and_check()  # the others are as they were
    batch.add(1, length=2)
    batch.append_and_check()  # a mask would not hide NaN: 0 times NaN is NaN


@pytest.mark.parametrize("rows", [1, 3])
def test_task_2_a_row_for_each_taken_slot(rows: int) -> None:
    batch = Batch(slots=4)
    batch.add(0, length=2)
    batch.add(2, length=3)
    new = mx.zeros((rows, KV, 1, D))
    with refuses(ValueError, f"{rows} rows of keys for 2 taken slots: which row belongs to which slot?"):
        batch.cache.update_and_fetch(new, new)
    batch.append_and_check()


@pytest.mark.parametrize("slot", [0, 1, 2, -1])
def test_task_2_a_free_slot_cannot_be_freed(slot: int) -> None:
    batch = Batch(slots=3)
    batch.add(0, length=2)
    batch.add(2, length=4)
    batch.remove(0)
    if slot == 2:
        batch.remove(2)
    with refuses(ValueError, f"slot {slot} is free, or there is none: nothing can leave it"):
        batch.cache.remove_request(slot)
    if slot != 2:
        batch.append_and_check()


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_task_2_half_precision_stays_half_precision(dtype: mx.Dtype) -> None:
    cache = answer.BatchingKvCache(2, 100)
    for slot in range(2):
        prompt = prefilled(random_history(3, seed=1))
        prompt.keys, prompt.values = prompt.keys.astype(dtype), prompt.values.astype(dtype)
        cache.add_request(prompt, slot)
    stored = 3
    for count in (1, 70):
        stored += count
        new = mx.zeros((2, KV, count, D), dtype=dtype)
        given = mx.zeros((2, 1, count, stored))
        keys, values, _, mask = cache.update_and_fetch(new, new, mask_length=count, mask=given)
        assert mask.dtype == mx.float32, f"a float32 mask is handed back as it came, not in {mask.dtype}"
        assert keys.dtype == values.dtype == dtype, (
            f"the cache has the dtype of what is put into it, {dtype}, not {keys.dtype} and {values.dtype}"
        )


# What it costs. A token here is its keys and values, in one row.

WIDE = 16
TOKEN_BYTES = 2 * KV * WIDE * 4


def wide_batch(lengths: Sequence[int], max_seq_len: int, slots: int) -> Any:
    """A cache with requests in slots 0, 1, …, all of it computed, and a short history in its slabs."""
    cache = answer.BatchingKvCache(slots, max_seq_len)
    for slot, length in enumerate(lengths):
        cache.add_request(wide_prompt(length), slot)
    fetch(cache, len(lengths))
    return cache


def wide_prompt(length: int) -> Any:
    own = answer.KvCache()
    own.keys = own.values = mx.zeros((1, KV, length, WIDE))
    own.offset = length
    mx.eval(own.keys, own.values)
    return own


def fetch(cache: Any, rows: int) -> Sequence[mx.array]:
    """Append a token to each row; what is fetched is let go if the caller does not keep it."""
    new = mx.zeros((rows, KV, 1, WIDE))
    fetched = cache.update_and_fetch(new, new, mask_length=1)[:2]
    mx.eval(fetched)
    return fetched


def test_task_2_a_token_costs_a_write_of_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, steps = 2, 1000
    cache = wide_batch([30, 3], max_seq_len=2048, slots=4)
    copied = bytes_copied(lambda i: fetch(cache, rows), steps, monkeypatch) / (rows * TOKEN_BYTES)
    # A slab that doubles takes room for some 4,000 tokens; one that grows by 16 at a time, for 32,000.
    assert copied < 50_000, (
        f"{steps:,} steps of {rows} rows copied {copied:,.0f} tokens per row: copying the history for each token comes to"
        f" {steps * (steps + 60) // 2:,}. Write into a slab with room to spare, grow it seldom, and fetch a slice of it"
        " (which copies nothing if the taken slots are 0 … B − 1)"
    )


def test_task_2_a_leave_copies_nothing_and_a_join_its_own_prompt() -> None:
    cache = wide_batch([500, 400, 300, 450], max_seq_len=512, slots=4)  # nothing has to grow from here on
    own, slabs = wide_prompt(10), 4 * 512

    def leave_and_join() -> Sequence[mx.array]:
        cache.remove_request(2)
        cache.add_request(own, 2)
        return fetch(cache, 4)

    copied = bytes_allocated(leave_and_join) / TOKEN_BYTES
    assert copied < slabs / 4, (
        f"one left a batch with room for {slabs:,} tokens, a prompt of 10 joined, and {copied:,.0f} were copied: a leave"
        " clears nothing, and one that joins writes its own tokens into a row, while the others stay where they are"
    )


def test_task_2_a_move_copies_one_row_only() -> None:
    cache = wide_batch([500, 400, 300, 10], max_seq_len=512, slots=4)
    cache.remove_request(2)
    slabs, large = 4 * 512, mx.ones((2000, 2000))

    def move() -> Sequence[mx.array]:
        cache.move_request(3, 2)
        return []

    def append() -> Sequence[mx.array]:
        mx.async_eval([large.sum() for _ in range(20)])  # so busy, the device can't begin what has not been asked for yet
        return fetch(cache, 3)

    mx.eval(large)
    copied = (bytes_allocated(move) + bytes_allocated(append)) / TOKEN_BYTES
    assert copied < slabs / 2, (
        f"a request of 10 tokens moved, in slabs with room for {slabs:,}, and {copied:,.0f} were copied: a move copies one row."
        " Was its copy still to be made when the slab was written? MLX then copies the whole slab to keep the old one"
    )
