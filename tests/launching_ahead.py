"""How the tests of both engines see from outside that step n + 1 is launched before the tokens of step n are read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from answer import answer
from day6_engines import UnreadableModel, only_reading_fails
from support import CountingModel

READ_LATER = "launch the next step first, then read the tokens of the one before it"

WISHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"sampling": answer.SamplingParams(temperature=2.0, seed=1)},
    "penalized": {"sampling": answer.SamplingParams(repetition_penalty=1.5)},
    "with an EOS": {"eos_token_ids": [0]},
    "with a stop string": {"stop": ["never said"]},
    "with an on_update": {"on_update": lambda request, new_text: None},
}
"""What a request may ask for, and still be launched ahead."""


class WatchingModel(CountingModel):
    """Notes, at each call, how many tokens `watched` has been given."""

    def __init__(self, model: Any, watched: Any) -> None:
        super().__init__(model)
        self.watched = watched
        self.known: list[int] = []

    def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        self.known.append(len(self.watched.generated_tokens))
        return super().__call__(tokens, *args, **kwargs)


@contextmanager
def waits_for_nothing(what: str) -> Iterator[None]:
    """In this block nothing is on the device that could be read."""
    __tracebackhide__ = True
    try:
        with only_reading_fails():
            yield
    except NotImplementedError:
        raise
    except Exception as error:
        raise AssertionError(
            f"{what} waits for the device ({error}): no .item(), .tolist(), mx.eval or comparison of an array here, tokens are"
            " handed on as arrays"
        ) from error


def note_what_is_started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All arrays that the device is set to work on, from now on."""
    started: list[Any] = []
    given = mx.async_eval

    def async_eval(*arrays: Any) -> None:
        started.extend(array for _, array in tree_flatten(arrays))
        given(*arrays)

    monkeypatch.setattr(mx, "async_eval", async_eval)
    return started


def assert_reads_the_step_before(served: Any, model: UnreadableModel, decoding: Sequence[Any], newcomer: Any) -> None:
    """A step in which nothing that it launches can be computed hands out the tokens of the step before all the same."""
    __tracebackhide__ = True
    before = [len(request.generated_tokens) for request in decoding]
    with only_reading_fails():
        model.broken = True
        served.step()
        model.broken = False
    for request in [*decoding, newcomer]:
        if request.error is not None:
            raise AssertionError(
                "what was launched in this step can't be computed, and the step has waited for it: only the tokens of the step"
                " before are read"
            ) from request.error
    after = [len(request.generated_tokens) for request in decoding]
    assert after == [count + 1 for count in before], "the tokens of the step before are read in this one"
