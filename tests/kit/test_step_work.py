"""`StepWork`: the calls that the log tells of are those the model was given, and times go to the calls that took them."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import pytest

import tiny_llm_ref as ref
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import plain_prompt
from tiny_llm_ref.event_log import BatchState, Event, EventKind
from tiny_llm_ref.measure.step_work import StepWork

BLOCK = 4
CONFIG = tiny_config(num_layers=1)
PROMPTS, ANSWERS = (3, 30, 12, 1, 17, 9), (5, 1, 9, 4, 2, 7)


class Spy:
    """A model that notes each call as a `Call`, from what it is given."""

    def __init__(self) -> None:
        self.model = ref.Model(CONFIG, random_weights(CONFIG))
        self.config = CONFIG
        self.calls: list[ref.Call] = []

    def __call__(self, tokens: mx.array, offset: Any, cache: Any, mask: Any = "causal", logits_to_keep: Any = None) -> mx.array:
        logits = self.model(tokens, offset, cache, mask, logits_to_keep)
        rows, length = tokens.shape
        if isinstance(cache[0], ref.PagedKvCache):
            groups = cache[0].batch.groups
            keys = [group.rows * group.table.shape[1] * BLOCK for group in groups]
            pairs = sum(group.queries * read for group, read in zip(groups, keys, strict=True))
        else:
            keys = [rows * (cache[0].offset if isinstance(cache[0], ref.KvCache) else cache[0].slots.longest)]
            pairs = length * keys[0]
        self.calls.append(ref.Call(rows * length, logits.shape[0] * logits.shape[1], sum(keys), pairs))
        return logits


def slots(spy: Spy) -> tuple[Any, type[ref.Request], StepWork]:
    return ref.ContinuousBatchScheduler(spy, 3, max_seq_len=64, prefill_step=8), ref.Request, StepWork(launch_waits=True)


def paged(spy: Spy) -> tuple[Any, type[ref.Request], StepWork]:
    # 9 blocks are too few for all who are admitted, so that some are preempted.
    engine = ref.Engine(spy, num_blocks=9, block_size=BLOCK, max_num_seqs=4, max_num_batched_tokens=10, prefix_caching=False)
    return engine, ref.PagedRequest, StepWork(BLOCK, launch_waits=True)


Make = Callable[[Spy], tuple[Any, type[ref.Request], StepWork]]


def serve(make: Make, eos: Sequence[int] = (), cancelled: int | None = None) -> tuple[list[ref.Call], list[ref.Call], Any]:
    """The calls that the model was given, those that the log tells of, and the engine."""
    spy = Spy()
    engine, kind, work = make(spy)
    engine.event_log.readers.append(work.read)
    requests = [
        engine.submit(kind(plain_prompt(prompt, first=prompt), answer, eos_token_ids=eos))
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]
    step = 0
    while engine.has_work:
        engine.step()
        step += 1
        if step == cancelled:
            engine.cancel(requests[2])
    assert all(request.error is None for request in requests)
    return spy.calls, [call for calls, _ in work.iterations for call in calls], engine


@pytest.mark.parametrize("make", [slots, paged])
def test_calls_are_what_the_model_was_given(make: Make) -> None:
    given, told, engine = serve(make)
    assert told == given
    if make is paged:
        assert engine.metrics.num_preemptions > 0, "this case is about requests that begin again, and nobody had to"


@pytest.mark.parametrize("make", [slots, paged])
@pytest.mark.parametrize("eos", range(256, 260))
def test_rows_that_an_eos_was_too_late_for_count(make: Make, eos: int) -> None:
    """The toy writes any token at any time; each of these ends some of the answers early."""
    given, told, _ = serve(make, [token for token in range(260) if token % 4 == eos % 4])
    assert told == given


@pytest.mark.parametrize("make", [slots, paged])
@pytest.mark.parametrize("step", range(1, 9))
def test_whoever_was_cancelled_takes_no_part(make: Make, step: int) -> None:
    given, told, _ = serve(make, cancelled=step)
    assert told == given


class Asked:
    """A cost model that notes what it is asked; a token takes a second."""

    def __init__(self, launch_waits: bool) -> None:
        self.launch_waits = launch_waits
        self.iterations: list[tuple[list[ref.Call], float]] = []

    def seconds(self, calls: Sequence[ref.Call]) -> float:
        seconds = float(sum(call.tokens for call in calls))
        if calls:
            self.iterations.append((list(calls), seconds))
        return seconds


@pytest.mark.parametrize("launch_waits", [True, False])
@pytest.mark.parametrize("paged", [False, True])
def test_simulated_runs_are_read_like_real_ones(paged: bool, launch_waits: bool) -> None:
    """The simulators make up the same calls as the engines do, and their log gives them the seconds that they took."""
    cost, work = Asked(launch_waits), StepWork(BLOCK if paged else None, launch_waits)
    items = [WorkItem(tuple(plain_prompt(prompt)), answer) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    if paged:
        sizes = {"num_blocks": 9, "block_size": BLOCK, "max_num_seqs": 4, "max_num_batched_tokens": 10, "prefix_caching": False}
        ref.simulate_paged(items, cost, readers=[work.read], **sizes)
    else:
        ref.simulate_slots(items, cost, 3, prefill_step=8, readers=[work.read])
    asked = [call for calls, _ in cost.iterations for call in calls]
    read = [call for calls, _ in work.iterations for call in calls]
    assert read == asked
    for calls, seconds in work.iterations:
        assert seconds == sum(call.tokens for call in calls), f"{calls} took as many seconds as they have tokens"


def state(time: float, active: int, *events: Event) -> BatchState:
    return BatchState(time, active, 8, 0, 0, events)


def event(kind: EventKind, tokens: int = 0, position: int = 0, time: float = 0.0) -> Event:
    return Event(time, kind, 1, tokens, position)


def a_request_alone() -> list[BatchState]:
    """A prompt of 5 tokens in chunks of 3 and an answer of 3; it is there at 10 s, and another one comes at 20 s."""
    return [
        state(10.5, 1, event(EventKind.ARRIVED, 5), event(EventKind.ADMITTED, time=10), event(EventKind.PREFILL_CHUNK, 3, 3)),
        state(11.5, 1, event(EventKind.PREFILL_CHUNK, 2, 5)),
        state(13, 1, event(EventKind.FIRST_TOKEN)),
        state(15, 1, event(EventKind.TOKEN)),
        state(16, 0, event(EventKind.TOKEN), event(EventKind.FINISHED, 3)),
        state(20.25, 1, event(EventKind.ARRIVED, 2), event(EventKind.ADMITTED, time=20), event(EventKind.PREFILL_CHUNK, 2, 2)),
        state(20.75, 0, event(EventKind.FIRST_TOKEN), event(EventKind.FINISHED, 1)),
    ]


CHUNKS = [ref.chunk_call(0, 3, False), ref.chunk_call(3, 5, True)]
DECODES = [ref.decode_call(1, 6), ref.decode_call(1, 7)]
LAST = ref.chunk_call(0, 2, True)


def read(work: StepWork) -> list[tuple[list[ref.Call], float]]:
    for one in a_request_alone():
        work.read(one)
    return work.iterations


def test_where_launching_waits_an_iteration_is_computed_by_its_own_end() -> None:
    assert read(StepWork(launch_waits=True)) == [
        ([CHUNKS[0]], 0.5),
        ([CHUNKS[1]], 1),
        ([DECODES[0]], 1.5),
        ([DECODES[1]], 2),
        ([LAST], 0.25),
    ]


def test_elsewhere_it_is_computed_by_the_end_of_the_next_and_nobody_waits_for_calls_without_a_token() -> None:
    assert read(StepWork()) == [(CHUNKS, 2.5), ([DECODES[0]], 2), ([DECODES[1]], 1), ([LAST], 0.5)]


def test_calls_by_hand() -> None:
    assert ref.decode_call(3, 10) == ref.Call(tokens=3, outputs=3, context=30, pairs=30)
    assert ref.decode_call(3, 10, block_size=4) == ref.Call(3, 3, 36, 36), "whole blocks are read"
    assert ref.chunk_call(4, 10, False) == ref.Call(tokens=6, outputs=0, context=10, pairs=60)
    assert ref.chunk_call(4, 10, True, block_size=4) == ref.Call(6, 1, 12, 72)
    assert ref.mixed_call([ref.Call(1, 2, 3, 4), ref.Call(10, 20, 30, 40)]) == ref.Call(11, 22, 33, 44)
