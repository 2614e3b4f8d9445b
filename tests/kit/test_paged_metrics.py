"""The figures that `PagedMetrics` reads from the log, in runs in which something goes wrong.

Those of other runs are in the suite of week 3 day 4.
"""

from collections.abc import Callable
from typing import Any

import pytest

import tiny_llm_ref
from support import POISON, FragileModel, ToyModel, is_poisoned, make_prompt
from tiny_llm_ref.event_log import EventKind, EventLog
from tiny_llm_ref.in_flight import InFlight

ARRIVED, ADMITTED, CHUNK, FIRST_TOKEN = EventKind.ARRIVED, EventKind.ADMITTED, EventKind.PREFILL_CHUNK, EventKind.FIRST_TOKEN
PREEMPTED, FINISHED, CANCELLED, FAILED = EventKind.PREEMPTED, EventKind.FINISHED, EventKind.CANCELLED, EventKind.FAILED

Step = Callable[..., None]


@pytest.fixture
def metrics() -> tiny_llm_ref.PagedMetrics:
    return tiny_llm_ref.PagedMetrics()


@pytest.fixture
def step(metrics: tiny_llm_ref.PagedMetrics) -> Step:
    """An iteration: how many were active, and the events as `EventLog.record` takes them."""
    log = EventLog(lambda: 0.0)
    log.readers.append(metrics.update)

    def step(active: int, *events: tuple[Any, ...]) -> None:
        for event in events:
            log.record(*event)
        log.close_step(active, 8, 0, 0)

    return step


def test_decodes_that_the_model_failed_on_are_not_computed(metrics: tiny_llm_ref.PagedMetrics, step: Step) -> None:
    step(2, (ARRIVED, 1, 5), (ARRIVED, 2, 3), (ADMITTED, 1), (ADMITTED, 2), (CHUNK, 1, 5, 5), (CHUNK, 2, 3, 3))
    step(2, (FIRST_TOKEN, 1), (FIRST_TOKEN, 2))
    assert metrics.computed_tokens == 8 + 2
    step(2, (FAILED, 1), (FAILED, 2))
    assert metrics.computed_tokens == 8 + 2, "both failed in the step, so it computed nothing"


def test_chunks_that_the_device_failed_on_are_not_computed(metrics: tiny_llm_ref.PagedMetrics, step: Step) -> None:
    """Launched and logged, then interrupted by a Ctrl-C, which closes no iteration: all stands in the next one."""
    interrupted = [(ARRIVED, 1, 5), (ADMITTED, 1), (CHUNK, 1, 5, 5), (FAILED, 1, 0)]
    step(1, *interrupted, (ARRIVED, 2, 3), (ADMITTED, 2), (CHUNK, 2, 3, 3))
    assert metrics.computed_tokens == 3, "the chunk of 5 was lost, and that of 3 came after it"


@pytest.mark.parametrize("late", [1, 5])
def test_whoever_fails_while_waiting_took_no_part(metrics: tiny_llm_ref.PagedMetrics, step: Step, late: int) -> None:
    waiting = range(10, 10 + late)
    step(1, (ARRIVED, 1, 5), (ADMITTED, 1), (CHUNK, 1, 5, 5), *((ARRIVED, number, 9) for number in waiting))
    step(1, *((FAILED, number) for number in waiting), (FIRST_TOKEN, 1))
    assert metrics.computed_tokens == 5 + 1, "deadlines passed, and the one that runs has decoded all the same"
    assert metrics.prefix_cache_queries == 5, "those who never ran were never looked for"


def test_what_a_request_finds_again_is_no_hit(metrics: tiny_llm_ref.PagedMetrics, step: Step) -> None:
    step(1, (ARRIVED, 1, 20), (ADMITTED, 1), (CHUNK, 1, 6, 14))
    step(1, (CHUNK, 1, 6, 20))
    step(0, (PREEMPTED, 1))
    step(1, (CHUNK, 1, 4, 20))
    assert (metrics.prefix_cache_queries, metrics.prefix_cache_hits, metrics.num_preemptions) == (20, 8, 1)
    assert metrics.computed_tokens == 6 + 6 + 4, "what is computed again counts, too"


@pytest.mark.parametrize("end", [FINISHED, CANCELLED, FAILED])
def test_nothing_is_kept_of_whoever_has_ended(metrics: tiny_llm_ref.PagedMetrics, step: Step, end: EventKind) -> None:
    def kept() -> int:
        found = (value for value in vars(metrics).values() if isinstance(value, dict | set | list))
        return sum(len(value) for value in found)

    for number in range(0, 400, 4):
        ran, came_back, waited, preempted = range(number, number + 4)
        step(0, *((ARRIVED, one, 5) for one in (ran, came_back, waited, preempted)))
        step(3, *((CHUNK, one, 5, 5) for one in (ran, came_back, preempted)))
        step(1, (PREEMPTED, came_back), (PREEMPTED, preempted))
        step(2, (CHUNK, came_back, 5, 5))
        step(0, *((end, one) for one in (ran, came_back, waited, preempted)))
    assert not kept(), "400 requests came and went, and something is still kept of them"


@pytest.mark.parametrize("broken", ["the model", "start", "read"])
def test_an_engine_goes_on_counting_after_a_failure(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = ToyModel()
    toy.begin_test()
    engine = tiny_llm_ref.Engine(FragileModel(toy, is_poisoned), num_blocks=40, block_size=4)  # type: ignore[arg-type]

    def fail(_: InFlight) -> None:
        raise RuntimeError("the device is gone")

    poison = [POISON] if broken == "the model" else []
    engine.submit(tiny_llm_ref.PagedRequest([*make_prompt(5), *poison], 4))
    with monkeypatch.context() as patch:
        if broken != "the model":
            patch.setattr(InFlight, broken, fail)
        engine.run()
    assert engine.metrics.computed_tokens == 0, "it failed on the only step that there was"
    engine.submit(tiny_llm_ref.PagedRequest(make_prompt(6), 3))
    engine.run()
    assert engine.metrics.computed_tokens == 6 + 2, "a prompt of 6, and two tokens on which others follow"
