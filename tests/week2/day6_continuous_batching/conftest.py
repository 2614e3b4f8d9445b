"""The models that the tests of this day share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from support import RealModel, ToyModel

# On CUDA, MLX rounds the factors of float32 products to 10 bits unless told otherwise, and how it does depends on the number
# of rows: a row's tokens would depend on its company for a reason that is not the engine's. MLX looks at its first product.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

WORKING_ORDER = ("1", "5", "6", "2", "8", "7", "4_plan", "4_runner", "4", "4_ahead", "3", "9")
"""The tasks as the chapter does them, "4" being what is neither of its other parts. The numbers are names."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests run in the working order, so that `-x` stops at the next thing to do; `--first` comes after this, and over it."""
    places = [place for place, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    in_order = sorted((items[place] for place in places), key=_turn)
    for place, item in zip(places, in_order, strict=True):
        items[place] = item


def _turn(item: pytest.Item) -> int:
    task = max((task for task in WORKING_ORDER if item.name.startswith(f"test_task_{task}_")), key=len)
    return WORKING_ORDER.index(task)


COMPUTING_SECONDS = 60


@pytest.fixture(autouse=True)
def no_endless_loop() -> Iterator[None]:
    """An engine that never ends fails its test. What is counted is computing, not waiting: a busy machine fails nobody."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        pytest.fail(f"after {COMPUTING_SECONDS} s of computing there is still no end: which request never finishes?")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, COMPUTING_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.fixture(scope="session")
def toy() -> ToyModel:
    return ToyModel()


@pytest.fixture(scope="session")
def real() -> RealModel:
    return RealModel()


LONGEST_RUN = 3000


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The `BatchState` of every iteration, as `BatchingMetrics.update` hears of it. A run that never ends is stopped."""
    from answer import answer

    heard: list[Any] = []
    update = answer.BatchingMetrics.update

    def watched(metrics: Any, state: Any) -> None:
        heard.append(state)
        if len(heard) > LONGEST_RUN:
            pytest.fail(
                f"the run has not ended after {LONGEST_RUN} iterations. In the last, {state.active_requests} requests were"
                f" active, {state.queue_size} waited, and {state.new_tokens} tokens came back: which request never finishes?"
            )
        update(metrics, state)

    monkeypatch.setattr(answer.BatchingMetrics, "update", watched)
    return heard
