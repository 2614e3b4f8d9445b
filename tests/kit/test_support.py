"""What the batching tests say of an engine that never ends, one that raises, and one that keeps an error to itself."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

from endless import DidNotEnd
from support import MOST_CALLS, ToyModel, assert_alone, expect_no_error, finish_all, refuses, step_until
from tiny_llm_ref import ContinuousBatchScheduler, Request


def request(error: BaseException | None = None, **more: Any) -> Any:
    return SimpleNamespace(request_id=3, error=error, **more)


class Engine:
    """Ends `ends` in its first step, and never has nothing to do."""

    has_work = True

    def __init__(self, *ends: Any, running: tuple[Any, ...] = ()) -> None:
        self.ends = list(ends)
        self.waiting: dict[int, Any] = {}
        self.running = dict(enumerate(running))

    def step(self) -> list[Any]:
        ends, self.ends = self.ends, []
        return ends


def raised_in(place: Callable[[], None]) -> BaseException:
    with pytest.raises(Exception) as caught:
        place()
    return caught.value


def stub() -> None:
    raise NotImplementedError("Week 2 Day 6, task 4")


def bug() -> None:
    raise KeyError("slot 2")


def test_an_engine_that_never_ends_says_who_is_open() -> None:
    half = request(state="decoding", prompt=[1] * 7, offset=10, generated_tokens=[5] * 4, max_tokens=10)
    with pytest.raises(AssertionError) as caught:
        finish_all(Engine(running=(half,)), steps=20)
    assert str(caught.value) == "has_work is still true after 20 steps; still open: request 3 (decoding, 4 of 10 tokens)"
    with pytest.raises(AssertionError, match="after 20 steps; no request waits or runs"):
        finish_all(Engine(), steps=20)


def test_a_condition_that_never_comes_true_names_the_error_that_was_kept() -> None:
    error = raised_in(bug)
    with pytest.raises(
        AssertionError, match=r"two tokens: not after 9 steps; .*request 3 ended with KeyError\('slot 2'\)"
    ) as caught:
        step_until(Engine(request(error)), lambda: False, steps=9, what="two tokens")
    assert caught.value.__cause__ is error


def test_what_a_stub_raises_passes_through_an_engine_that_keeps_errors() -> None:
    error = raised_in(stub)
    for check in (
        lambda: finish_all(Engine(request(error)), steps=5),
        lambda: step_until(Engine(request(error)), lambda: False),
        lambda: expect_no_error(request(error)),
        lambda: assert_alone(ToyModel(), request(error)),
    ):
        with pytest.raises(NotImplementedError, match="task 4"):
            check()


def test_the_error_of_a_request_is_the_cause() -> None:
    error = raised_in(bug)
    with pytest.raises(AssertionError, match="request 3 ended with KeyError") as caught:
        expect_no_error(request(), request(error))
    assert caught.value.__cause__ is error


def test_an_engine_that_calls_the_model_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.MOST_CALLS", 30)
    monkeypatch.setattr(Request, "all_launched", property(lambda self: False))
    monkeypatch.setattr(Request, "accept", lambda self, token: True)
    scheduler = ContinuousBatchScheduler(ToyModel(), 2)
    scheduler.submit(Request([1, 2, 3], 4))
    with pytest.raises(DidNotEnd, match="the model was called 30 times in this test"):
        scheduler.run()
    assert MOST_CALLS > 10_000


def test_refuses_says_what_was_expected_and_lets_a_stub_pass() -> None:
    with refuses(KeyError, "look at the slots"):
        bug()
    with (
        pytest.raises(AssertionError, match="look at the slots: expected ValueError, but nothing was"),
        refuses(ValueError, "look at the slots"),
    ):
        pass
    with (
        pytest.raises(AssertionError, match="look at the slots: expected ValueError, got Key") as caught,
        refuses(ValueError, "look at the slots"),
    ):
        bug()
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(NotImplementedError), refuses(ValueError, "look at the slots"):
        stub()


def test_models_forget_the_calls_of_the_test_before() -> None:
    toy = ToyModel()
    toy(mx.array([[1]]), 0, [SimpleNamespace(update_and_fetch=lambda k, v, mask_length, mask: (k, v, None, mask))] * 2)
    assert len(toy.calls) == 1
    toy.begin_test()
    assert toy.calls == []
