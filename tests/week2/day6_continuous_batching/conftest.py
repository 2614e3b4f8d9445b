"""The models that the tests of this day share."""

from typing import Any

import pytest

from support import RealModel
from toy_fixtures import begin_test as begin_test
from toy_fixtures import toy as toy


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
