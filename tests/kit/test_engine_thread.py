"""Limits of the engine's thread that make no sense are refused."""

import pytest

from tiny_llm_ref import EngineLoop, EngineThread


@pytest.mark.parametrize("name", ["max_queue", "step_limit", "max_failed_steps"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        EngineThread(object, **{name: 0})  # type: ignore[arg-type]


def test_start_does_not_wait_for_a_thread_that_has_ended() -> None:
    class Silent(EngineLoop):
        def _run(self) -> None:
            """Ends without a word, as a learner's may."""

    with pytest.raises(RuntimeError, match="look at `_run`"):
        Silent(object).start()
