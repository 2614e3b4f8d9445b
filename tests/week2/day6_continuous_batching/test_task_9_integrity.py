"""Task 9: `check_integrity` of the engine sees each kind of damage that it promises to see, and raises no false alarm.

The damage is done behind the engine's back, by way of what everyone can see: `slots`, `running`, and `runner.caches`.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from support import POISON, FragileModel, ToyModel, expect_no_error, finish_all, is_poisoned, make_prompt, refuses, step_until

SLOTS = 3


class Engine:
    """An engine in full swing: two requests decode, one is in the middle of its prompt, and one waits."""

    def __init__(self, toy: ToyModel) -> None:
        self.toy = toy
        self.scheduler = answer.ContinuousBatchScheduler(toy, SLOTS, max_seq_len=60, prefill_step=8)
        self.scheduler.check_integrity()
        self.first, self.second, self.reading, self.waiting = (
            self.scheduler.submit(answer.Request(make_prompt(length), 12)) for length in (4, 3, 40, 5)
        )
        step_until(self.scheduler, lambda: len(self.second.generated_tokens) > 1)
        states = [request.state for request in (self.first, self.second, self.reading, self.waiting)]
        assert states == ["decoding", "decoding", "prefilling", "waiting"], f"the test means to damage another engine: {states}"
        self.scheduler.check_integrity()

    @property
    def slots(self) -> Any:
        return self.scheduler.slots

    @property
    def layers(self) -> list[Any]:
        return list(self.scheduler.runner.caches)

    def slot(self, request: Any) -> int:
        return int(self.slots.slot_of[request.request_id])

    def prefilled(self, tokens: int) -> list[Any]:
        """A prompt's own cache, a layer each."""
        caches = [answer.KvCache() for _ in self.layers]
        self.toy(mx.array([make_prompt(tokens)]), 0, caches)
        return caches

    def resize(self, layer: int, slot: int, tokens: int) -> None:
        """Let one layer hold this many tokens in a slot; 0: the slot is free there."""
        if slot in self.layers[layer].lengths:
            self.layers[layer].remove_request(slot)
        if tokens:
            self.layers[layer].add_request(self.prefilled(tokens)[layer], slot)

    def assert_noticed(self, look_at: str) -> None:
        with refuses(RuntimeError, f"check_integrity has to see {look_at}"):
            self.scheduler.check_integrity()


# Slots.


def test_task_9_integrity_sees_a_slot_with_two_owners(toy: ToyModel) -> None:
    engine = Engine(toy)
    engine.slots.slot_of[engine.reading.request_id] = engine.slot(engine.first)
    engine.assert_noticed("that two running requests own the same slot")


def test_task_9_integrity_sees_a_slot_that_is_owned_and_free(toy: ToyModel) -> None:
    engine = Engine(toy)
    engine.slots.free.append(engine.slot(engine.second))
    engine.assert_noticed("that an owned slot is among the free ones, too")


def test_task_9_integrity_sees_a_lost_slot(toy: ToyModel) -> None:
    engine = Engine(toy)
    engine.slots.free.clear()
    engine.assert_noticed("that a slot is neither owned nor free: it would never be used again")


# Owners.


def test_task_9_integrity_sees_an_owner_whom_nobody_knows(toy: ToyModel) -> None:
    engine = Engine(toy)
    engine.slots.allocate_slot(-1)
    engine.assert_noticed("that a slot is owned by a request that the engine does not run")


def test_task_9_integrity_sees_an_owner_that_runs_no_more(toy: ToyModel) -> None:
    """Slots and caches agree with each other, and both are wrong: as when a way out forgets to release."""
    engine = Engine(toy)
    del engine.scheduler.running[engine.second.request_id]
    engine.assert_noticed("that an owner of a slot is not among the running requests")


def test_task_9_integrity_sees_an_owner_that_only_waits(toy: ToyModel) -> None:
    engine = Engine(toy)
    slot = engine.slots.allocate_slot(engine.waiting.request_id)
    for layer in range(len(engine.layers)):
        engine.resize(layer, slot, 5)
    engine.assert_noticed("that a request owns a slot while it is waiting")


# Lengths.


@pytest.mark.parametrize("change", [-1, 1], ids=["too short", "too long"])
@pytest.mark.parametrize("whose", ["first", "second"])
@pytest.mark.parametrize("layer", [0, -1], ids=["first layer", "last layer"])
def test_task_9_integrity_sees_a_wrong_length_in_any_layer(toy: ToyModel, layer: int, whose: str, change: int) -> None:
    engine = Engine(toy)
    request = getattr(engine, whose)
    engine.resize(layer, engine.slot(request), request.offset + change)
    engine.assert_noticed(f"that a layer holds {request.offset + change} tokens for a request whose offset is {request.offset}")


@pytest.mark.parametrize("layer", [0, -1], ids=["first layer", "last layer"])
def test_task_9_integrity_sees_an_owner_without_a_row(toy: ToyModel, layer: int) -> None:
    engine = Engine(toy)
    engine.resize(layer, engine.slot(engine.first), 0)
    engine.assert_noticed("that a layer holds nothing for the owner of a slot")


@pytest.mark.parametrize("layers", [[0], [-1], [0, -1]], ids=["first layer", "last layer", "both"])
def test_task_9_integrity_sees_a_row_without_an_owner(toy: ToyModel, layers: list[int]) -> None:
    engine = Engine(toy)
    for layer in layers:
        engine.resize(layer, SLOTS - 1, 4)
    engine.assert_noticed("that a slot which no request owns is taken in the cache: its row would be computed along")


def test_task_9_integrity_sees_an_offset_that_no_layer_has(toy: ToyModel) -> None:
    engine = Engine(toy)
    engine.second.offset += 1
    engine.assert_noticed("that a request's offset is another than its length in the caches")


def test_task_9_integrity_sees_two_owners_that_have_changed_places(toy: ToyModel) -> None:
    """Each slot has one owner, and the sum of all lengths is right."""
    engine = Engine(toy)
    engine.resize(0, engine.slot(engine.first), engine.second.offset)
    engine.resize(0, engine.slot(engine.second), engine.first.offset)
    assert engine.first.offset != engine.second.offset, "the test means requests of different lengths"
    engine.assert_noticed("that a slot holds another request's tokens")


# Running requests.


@pytest.mark.parametrize("whose", ["first", "reading"])
def test_task_9_integrity_sees_a_finished_request_that_still_runs(toy: ToyModel, whose: str) -> None:
    engine = Engine(toy)
    getattr(engine, whose).finish("cancelled")
    engine.assert_noticed("that a request which has finished is still among the running ones")


def test_task_9_integrity_sees_a_finished_request_that_needs_no_slot(toy: ToyModel) -> None:
    """All its tokens have been launched, and the last is on its way."""
    scheduler = answer.ContinuousBatchScheduler(toy, 1, max_seq_len=60)
    scheduler.check_integrity()
    request = scheduler.submit(answer.Request(make_prompt(4), 1))
    scheduler.admit(request)
    request.offset = 4
    scheduler.check_integrity()
    request.finish("cancelled")
    with refuses(RuntimeError, "check_integrity has to see a finished request that still runs, also one without a slot"):
        scheduler.check_integrity()


def test_task_9_integrity_sees_more_claims_than_slots(toy: ToyModel) -> None:
    engine = Engine(toy)
    engine.scheduler.admit(engine.waiting)
    engine.assert_noticed("that four running requests have or still need a slot, and there are three")


# False alarms.


def test_task_9_integrity_is_silent_when_nothing_runs(toy: ToyModel) -> None:
    scheduler = answer.ContinuousBatchScheduler(toy, 2)
    scheduler.check_integrity()
    scheduler.submit(answer.Request(make_prompt(4), 2))
    scheduler.check_integrity()
    finish_all(scheduler)
    scheduler.check_integrity()


def test_task_9_integrity_is_silent_about_one_whose_last_token_is_on_its_way(toy: ToyModel) -> None:
    engine = Engine(toy)
    fourth = engine.scheduler.submit(answer.Request(make_prompt(4), 1))
    engine.scheduler.admit(fourth)
    fourth.offset = 4  # its only token has been launched
    engine.scheduler.check_integrity()  # four run, of which three have or need one of the three slots


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_task_9_integrity_is_silent_through_the_life_of_a_batch(toy: ToyModel, slots: int) -> None:
    """Long prompts, answers of one token, gaps that close, and a request that comes in while a last token is on its way."""
    scheduler = answer.ContinuousBatchScheduler(toy, slots, max_seq_len=60, prefill_step=8)
    scheduler.check_integrity()
    requests = [
        scheduler.submit(answer.Request(make_prompt(n), tokens)) for n, tokens in ((4, 6), (20, 9), (3, 1), (9, 2), (1, 5))
    ]
    scheduler.check_integrity()
    finish_all(scheduler, after_step=scheduler.check_integrity)
    expect_no_error(*requests)


def cancel_all(scheduler: Any, requests: list[Any]) -> None:
    for request in requests:
        scheduler.cancel(request)
        scheduler.check_integrity()


def interrupt(scheduler: Any, requests: list[Any]) -> None:
    scheduler.abandon(KeyboardInterrupt())


@pytest.mark.parametrize("end", [cancel_all, interrupt])
@pytest.mark.parametrize("steps", range(1, 6))
def test_task_9_integrity_is_silent_after_a_sudden_end(
    toy: ToyModel, steps: int, end: Callable[[Any, list[Any]], None]
) -> None:
    scheduler = answer.ContinuousBatchScheduler(FragileModel(toy, is_poisoned), 3, max_seq_len=60, prefill_step=8)
    scheduler.check_integrity()
    prompts = [make_prompt(4), [*make_prompt(2), POISON], make_prompt(20), make_prompt(6), make_prompt(5)]
    requests = [scheduler.submit(answer.Request(prompt, 8)) for prompt in prompts]
    for _ in range(steps):
        scheduler.step()
        scheduler.check_integrity()
    end(scheduler, requests)
    scheduler.check_integrity()
    finish_all(scheduler, after_step=scheduler.check_integrity)
