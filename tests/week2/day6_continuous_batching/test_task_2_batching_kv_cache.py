"""Task 2: the batching KV cache. Its rows are judged by what attention over them gives, not by how they are stored."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer

KV, D = 2, 4

# A sum of D products, and a mean of at most 20 values, all of size 1, in float32: some 1e-7 each.
TOLERANCE = 1e-5

Sequence = tuple[np.ndarray, np.ndarray]
"""Keys and values of one request, (KV, length, D)."""


def random_sequence(length: int, seed: int) -> Sequence:
    random = np.random.default_rng([length, seed])
    return random.standard_normal((KV, length, D), dtype=np.float32), random.standard_normal((KV, length, D), dtype=np.float32)


def prefilled(sequence: Sequence, room: int = 0) -> Any:
    """The cache of a request that was prefilled alone, with `room` unused positions behind its tokens."""
    cache = answer.KvCache()
    padding = np.full((1, KV, room, D), 100, dtype=np.float32)
    cache.keys, cache.values = (mx.array(np.concatenate([part[None], padding], axis=2)) for part in sequence)
    cache.offset = sequence[0].shape[1]
    return cache


class Batch:
    """A BatchingKvCache, and beside it the history that each of its slots should have."""

    def __init__(self, slots: int, max_seq_len: int = 32) -> None:
        self.cache = answer.BatchingKvCache(slots, max_seq_len)
        self.history: dict[int, Sequence] = {}
        self.added = 0

    def add(self, slot: int, length: int, room: int = 0) -> None:
        self.added += 1
        sequence = random_sequence(length, seed=self.added)
        self.cache.add_request(prefilled(sequence, room), slot)
        self.history[slot] = sequence

    def remove(self, slot: int) -> None:
        self.cache.remove_request(slot)
        del self.history[slot]

    def move(self, source: int, target: int) -> None:
        self.cache.move_request(source, target)
        self.history[target] = self.history.pop(source)

    def append_and_check(self, length: int = 1) -> None:
        """Append to every slot, and compare each row's attention with that over the row's own history."""
        slots = sorted(self.history)
        self.added += 1
        new = [random_sequence(length, seed=100 * self.added + slot) for slot in slots]
        for slot, (keys, values) in zip(slots, new, strict=True):
            old_keys, old_values = self.history[slot]
            self.history[slot] = np.concatenate([old_keys, keys], axis=1), np.concatenate([old_values, values], axis=1)
        queries = np.stack([random_sequence(length, seed=-self.added % 997)[0] for _ in slots])

        mask = np.stack([causal(length, slot, self) for slot in slots])[:, None]
        keys, values, total, mask = self.cache.update_and_fetch(
            mx.array(np.stack([keys for keys, _ in new])),
            mx.array(np.stack([values for _, values in new])),
            mask_length=length,
            mask=mx.array(mask, dtype=mx.float32),
        )
        longest = max(keys.shape[1] for keys, _ in self.history.values())
        assert total == longest, f"the longest row holds {longest} tokens: more columns are computed for nothing"
        assert keys.shape == values.shape == (len(slots), KV, total, D), "a row for each taken slot, and no idle ones"
        out = np.array(attend(queries, np.array(keys), np.array(values), np.array(mask)))
        for row, slot in enumerate(slots):
            own = causal(length, slot, self)[:, : self.history[slot][0].shape[1]]
            expected = attend(queries[row : row + 1], *(part[None] for part in self.history[slot]), own)
            np.testing.assert_allclose(
                out[row],
                expected[0],
                atol=TOLERANCE,
                err_msg=f"row {row} (slot {slot}) does not attend over exactly its own tokens: look at where its new keys"
                " and values were written, and at the order of the rows",
            )


def causal(length: int, slot: int, batch: Batch) -> np.ndarray:
    """The mask `(length, S)` of a slot's last tokens, S being the longest slot's length."""
    own, longest = batch.history[slot][0].shape[1], max(keys.shape[1] for keys, _ in batch.history.values())
    return np.where(np.arange(longest) <= np.arange(own - length, own)[:, None], 0, -np.inf)


def attend(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Softmax attention in float64; the mask is added to scores (B, KV, L, S)."""
    scores = np.einsum("bhld,bhsd->bhls", queries, keys, dtype=np.float64) / np.sqrt(D) + mask
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("bhls,bhsd->bhld", weights / weights.sum(axis=-1, keepdims=True), values)


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
    batch.append_and_check(length=3)
    batch.append_and_check(length=1)


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
        batch.append_and_check()  # the columns behind its 2 tokens still hold what the long one left


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


def test_task_2_moves_need_a_request_and_a_free_slot() -> None:
    batch = Batch(slots=3)
    batch.add(0, length=3)
    batch.add(1, length=4)
    with pytest.raises(ValueError):
        batch.cache.move_request(0, 1)
    with pytest.raises(ValueError):
        batch.cache.move_request(2, 1)
    batch.append_and_check()


@pytest.mark.parametrize("kind", ["array", "causal", "none"])
def test_task_2_the_mask_is_handed_back_as_it_came(kind: str) -> None:
    batch = Batch(slots=2)
    batch.add(0, length=2)
    batch.add(1, length=3)
    new = mx.zeros((2, KV, 1, D))
    given = {"array": mx.zeros((2, 1, 1, 4)) - 1.0, "causal": "causal", "none": None}[kind]
    mask = batch.cache.update_and_fetch(new, new, mask_length=1, mask=given)[3]
    same = mx.array_equal(mask, given) if kind == "array" else mask is given or mask == given
    assert same, "who may see whom is the caller's to say (task 6): the cache hands its mask through"


def test_task_2_a_taken_slot_is_refused() -> None:
    batch = Batch(slots=2)
    batch.add(0, length=3)
    with pytest.raises(ValueError):
        batch.cache.add_request(prefilled(random_sequence(5, seed=1)), 0)
    batch.append_and_check()  # and its owner is as it was


@pytest.mark.parametrize("slot", [-1, 2, 7])
def test_task_2_a_slot_that_does_not_exist_is_refused(slot: int) -> None:
    cache = answer.BatchingKvCache(2, 16)
    with pytest.raises(ValueError):
        cache.add_request(prefilled(random_sequence(3, seed=1)), slot)


def test_task_2_what_does_not_fit_is_refused() -> None:
    batch = Batch(slots=2, max_seq_len=6)
    with pytest.raises(ValueError):
        batch.cache.add_request(prefilled(random_sequence(7, seed=1)), 0)
    with pytest.raises(ValueError):
        batch.cache.add_request(answer.KvCache(), 0)
    batch.add(0, length=6 - 1, room=20)  # room to spare does not count
    batch.append_and_check()


def test_task_2_a_prompt_may_fill_its_slot() -> None:
    batch = Batch(slots=2, max_seq_len=6)
    batch.add(0, length=6)
    batch.add(1, length=2)
    with pytest.raises(ValueError):
        batch.cache.update_and_fetch(mx.zeros((2, KV, 1, D)), mx.zeros((2, KV, 1, D)))
    batch.remove(0)
    batch.add(0, length=5)
    batch.append_and_check()  # the sixth of 6


def test_task_2_long_rows_in_many_slots() -> None:
    batch = Batch(slots=9, max_seq_len=400)
    for slot, length in enumerate((3, 63, 64, 65, 130, 1, 200, 398, 70)):
        batch.add(slot, length)
    batch.append_and_check()
    batch.append_and_check()  # one of them is full now
    batch.remove(7)
    for _ in range(3):
        batch.append_and_check()


def test_task_2_nothing_that_was_fetched_changes_later() -> None:
    batch = Batch(slots=2)
    batch.add(0, length=3)
    batch.add(1, length=5)
    new = mx.ones((2, KV, 1, D))
    keys = batch.cache.update_and_fetch(new, new)[0]
    before = np.array(keys)
    batch.cache.update_and_fetch(2 * new, 2 * new)
    batch.cache.remove_request(0)
    batch.cache.add_request(prefilled(random_sequence(4, seed=9)), 0)
    mx.eval(batch.cache.update_and_fetch(3 * new, 3 * new)[:2])
    assert (np.array(keys) == before).all(), "what a step has fetched may still be on its way: later writes must not reach it"


def test_task_2_a_full_row_takes_no_more_and_nothing_is_half_done() -> None:
    batch = Batch(slots=2, max_seq_len=6)
    batch.add(0, length=2)
    batch.add(1, length=5)
    two = mx.zeros((2, KV, 2, D))
    with pytest.raises(ValueError):
        batch.cache.update_and_fetch(two, two)
    batch.append_and_check()  # one token fits, and slot 0 has not advanced by the refused ones
    batch.remove(1)
    batch.append_and_check()


@pytest.mark.parametrize("rows", [1, 3])
def test_task_2_a_row_for_each_taken_slot(rows: int) -> None:
    batch = Batch(slots=4)
    batch.add(0, length=2)
    batch.add(2, length=3)
    new = mx.zeros((rows, KV, 1, D))
    with pytest.raises(ValueError):
        batch.cache.update_and_fetch(new, new)
    batch.append_and_check()


def test_task_2_a_free_slot_cannot_be_freed() -> None:
    batch = Batch(slots=2)
    batch.add(0, length=2)
    batch.remove(0)
    for slot in (0, 1):
        with pytest.raises(ValueError):
            batch.cache.remove_request(slot)


def test_task_2_half_precision_stays_half_precision() -> None:
    cache = answer.BatchingKvCache(1, 8)
    prompt = prefilled(random_sequence(3, seed=1))
    prompt.keys, prompt.values = prompt.keys.astype(mx.float16), prompt.values.astype(mx.float16)
    cache.add_request(prompt, 0)
    new = mx.zeros((1, KV, 1, D), dtype=mx.float16)
    keys, values, _, _ = cache.update_and_fetch(new, new)
    assert keys.dtype == values.dtype == mx.float16, "the cache has the dtype of what is put into it"
