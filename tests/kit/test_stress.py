"""The stress of an engine: what must hold does hold on the reference, and is missed where it does not."""

import copy
import functools
from typing import Any

import pytest

import tiny_llm_ref
from tiny_llm_kit.bench.stress import Broken, Stress
from tiny_llm_kit.bench.stress_schedule import Counts


@functools.cache
def _begun(engine: str) -> Stress:
    """What each request gets alone takes longer to find out than twenty schedules."""
    return Stress(tiny_llm_ref, engine)


def begin(engine: str) -> Stress:
    stress = copy.copy(_begun(engine))
    stress.counts = Counts()
    return stress


def run(schedules: int, engine: str = "slots") -> Stress:
    stress = begin(engine)
    for number in range(schedules):
        stress.run(number)
    return stress


def test_the_reference_holds() -> None:
    counts = run(150).counts
    assert counts.schedules == 150
    assert min(counts.cancelled, counts.errors, counts.interruptions) > 20, f"too few accidents to mean anything: {counts}"
    assert counts.requests > counts.cancelled + counts.errors + 100, "most requests should reach their end"


def test_a_slot_that_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_llm_ref.ContinuousBatchScheduler, "release", lambda engine, request: None)
    with pytest.raises(Broken, match=r"^schedule \d+: check_integrity"):
        run(20)


def test_a_wrong_token(monkeypatch: pytest.MonkeyPatch) -> None:
    take = tiny_llm_ref.RequestBook.take

    def wrong(book: Any, request: Any, token: int) -> int:
        return take(book, request, (token + (len(request.generated_tokens) == 5)) % 256)

    monkeypatch.setattr(tiny_llm_ref.RequestBook, "take", wrong)
    with pytest.raises(Broken, match="alone it is told"):
        run(20)


def test_an_engine_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_llm_ref.ContinuousBatchScheduler, "has_work", property(lambda engine: True))
    with pytest.raises(Broken, match="no end after"):
        run(1)


def test_a_request_that_is_returned_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    step = tiny_llm_ref.ContinuousBatchScheduler.step
    monkeypatch.setattr(tiny_llm_ref.ContinuousBatchScheduler, "step", lambda engine: step(engine) * 2)
    with pytest.raises(Broken, match="or one twice"):
        run(5)


def test_nan_that_is_reported_by_another_kind_of_error(monkeypatch: pytest.MonkeyPatch) -> None:
    end = tiny_llm_ref.RequestBook.end
    reported: list[Exception] = []

    def end_otherwise(book: Any, request: Any, reason: str, error: BaseException | None = None) -> None:
        if isinstance(error, FloatingPointError):
            error = ArithmeticError(*error.args)
            reported.append(error)
        end(book, request, reason, error)

    monkeypatch.setattr(tiny_llm_ref.RequestBook, "end", end_otherwise)
    stress = begin("slots")
    for number in range(25, 75):
        stress.run(number)
        if reported:  # when an accident comes depends on time, too, so it is not always the same schedule
            return
    pytest.fail("none of these schedules has NaN in it any more, so nothing was tried: which others have?")


def test_an_error_that_no_accident_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("a mistake in the runner")

    monkeypatch.setattr(tiny_llm_ref.ModelRunner, "move", fail)
    with pytest.raises(Broken, match="a mistake in the runner"):
        run(20)


# The paged engine.


def test_the_paged_reference_holds() -> None:
    counts = run(70, "paged").counts
    assert min(counts.cancelled, counts.errors, counts.interruptions) > 10, f"too few accidents to mean anything: {counts}"
    assert counts.requests > counts.cancelled + counts.errors + 100, "most requests should reach their end"
    assert min(counts.preemptions, counts.shared_tokens) > 100, f"too little happens to blocks: {counts}"


def test_a_block_that_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_llm_ref.Engine, "release", lambda engine, request: request.let_go())
    with pytest.raises(Broken, match=r"^schedule \d+: check_integrity"):
        run(20, "paged")


def test_a_token_lost_by_preemption(monkeypatch: pytest.MonkeyPatch) -> None:
    preempt = tiny_llm_ref.Engine.preempt

    def forgetful(engine: Any, request: Any) -> None:
        preempt(engine, request)
        request.generated_tokens = request.generated_tokens[:-1]

    monkeypatch.setattr(tiny_llm_ref.Engine, "preempt", forgetful)
    with pytest.raises(Broken, match="alone it is told"):
        run(40, "paged")


def test_a_step_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_llm_ref.Scheduler.plan
    calls = iter(range(10_000))

    def lazy(scheduler: Any, *args: Any) -> Any:
        return plan(scheduler, *args) if next(calls) % 3 else tiny_llm_ref.MixedPlan([], [], [])

    monkeypatch.setattr(tiny_llm_ref.Scheduler, "plan", lazy)
    with pytest.raises(Broken, match="did nothing"):
        run(5, "paged")


def test_a_step_over_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_llm_ref.Scheduler.plan

    def greedy(scheduler: Any, *args: Any) -> Any:
        budget, scheduler.max_num_batched_tokens = scheduler.max_num_batched_tokens, 1000
        try:
            return plan(scheduler, *args)
        finally:
            scheduler.max_num_batched_tokens = budget

    monkeypatch.setattr(tiny_llm_ref.Scheduler, "plan", greedy)
    with pytest.raises(Broken, match="a step of at most"):
        run(40, "paged")


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_keys_and_values_hold(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # For each prompt, many others are tried that are not clear enough.
    monkeypatch.setattr("tiny_llm_kit.bench.stress.PACKED_PROMPTS", 3)
    stress = Stress(tiny_llm_ref, "paged", bits)
    for number in range(12):
        stress.run(number)
    assert stress.counts.preemptions > 10
