"""What the tests of dynamic batching share: small batchers, and what their log says of each iteration."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from answer import answer
from fake_clock import FakeClock


class Batcher:
    """Makes a `DynamicBatcher` whose requests may have 64 tokens, on a clock of its own, and listens to its log."""

    def __init__(self, model: Any, batch_size: int = 3, max_wait: float = 0.0, **options: Any) -> None:
        self.clock = FakeClock()
        options = {"max_seq_len": 64, "prefill_step": 8, "clock": self.clock} | options
        self.engine = answer.DynamicBatcher(model, batch_size, max_wait, **options)
        self.states: list[Any] = []
        self.engine.event_log.readers.append(self.states.append)

    @property
    def seen(self) -> list[tuple[int, int, int]]:
        """Active requests, slots and queue of each iteration."""
        return [(state.active_requests, state.max_slots, state.queue_size) for state in self.states]

    def events(self, *kinds: str) -> list[tuple[int, str, Any]]:
        """Number of the iteration, kind and request of the events of these kinds, or of all."""
        return [
            (number, event.kind.name, event)
            for number, state in enumerate(self.states)
            for event in state.events
            if event.kind.name in kinds or not kinds
        ]

    def groups(self) -> list[list[int]]:
        """The ids of the requests that were admitted together, group by group."""
        by_iteration: dict[int, list[int]] = {}
        for number, _, event in self.events("ADMITTED"):
            by_iteration.setdefault(number, []).append(event.request_id)
        return list(by_iteration.values())


class SlowModel:
    """Each call takes its time on a clock: this many seconds for `(rows, length)` tokens."""

    def __init__(self, model: Any, clock: FakeClock, seconds: Callable[[int, int], float]) -> None:
        self.model, self.config, self.clock, self.seconds = model, model.config, clock, seconds

    def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        self.clock.pass_by(self.seconds(*tokens.shape))
        return self.model(tokens, *args, **kwargs)
