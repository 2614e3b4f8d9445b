"""Task 1: a recorder among the readers of an engine's log, on a clock that ticks once per step."""

import random
from typing import Any

import pytest

from answer import answer
from day6_engines import ask, ask_with_eos
from support import ToyModel, finish_all, make_prompt
from week2.day7_measuring.logs import FIGURES, MEANINGS


class WatchedRun:
    """Notes, from outside, when each token came to its client, and when each request ended."""

    def __init__(self, model: Any, slots: int = 3) -> None:
        self.now = 0.0
        self.engine = answer.ContinuousBatchScheduler(model, slots, max_seq_len=96, prefill_step=8, clock=lambda: self.now)
        self.recorder = answer.RunRecorder()
        self.engine.event_log.readers.append(self.recorder.read)
        self.requests: list[Any] = []
        self.arrived: dict[int, float] = {}
        self.came: dict[int, list[float]] = {}
        self.ended: dict[int, float] = {}

    @property
    def has_work(self) -> bool:
        return bool(self.engine.has_work)

    def submit(self, request: Any) -> Any:
        def note(updated: Any, new_text: str) -> None:
            came = self.came[updated.request_id]
            came += [self.now] * (len(updated.generated_tokens) - len(came))

        request.on_update = note
        self.came[request.request_id], self.arrived[request.request_id] = [], self.now
        self.requests.append(self.engine.submit(request))
        return request

    def step(self) -> list[Any]:
        self.now += 1
        gone: list[Any] = self.engine.step()
        for request in gone:
            self.ended.setdefault(request.request_id, self.now)
        return gone

    def compare(self) -> None:
        """What the recorder says of every request, with what was seen."""
        assert set(self.recorder.requests) == set(self.came), "the recorder knows all that were submitted"
        for request in self.requests:
            times, number = self.recorder.requests[request.request_id], request.request_id
            came = self.came[number]
            assert times.arrived == self.arrived[number], f"request {number} arrived when it was submitted"
            assert times.prompt_tokens == len(request.prompt), f"request {number} came with a prompt of {len(request.prompt)}"
            assert times.tokens[: len(came)] == came, f"request {number}: its client was given its tokens at {came}"
            assert len(times.tokens) - len(came) in (0, 1), f"request {number}: one more may come back, an EOS"
            assert times.ended == self.ended[number], f"request {number} ended in the step that returned it"
            assert times.generated == len(request.generated_tokens), f"request {number}: tokens of its answer"
            kind = {"cancelled": "cancelled", "error": "failed"}.get(request.finish_reason, "finished")
            assert times.end.value == kind, f"request {number} ended with {request.finish_reason!r}"

    def compare_with_metrics(self) -> None:
        """The recorder and the engine's own metrics read the same log."""
        metrics = self.engine.metrics
        for name in FIGURES:
            theirs = sorted(metrics.values(name))
            known = {number: getattr(times, name) for number, times in self.recorder.requests.items()}
            mine = sorted((figure, number) for number, figure in known.items() if figure is not None)
            for (figure, number), expected in zip(mine, theirs, strict=False):
                assert figure == pytest.approx(expected), (
                    f"{name} of request {number} is {figure}, and Day 6's metrics of the same run say {expected} at this place,"
                    f" in order of size: it goes {MEANINGS[name]}"
                )
            assert len(mine) == len(theirs), (
                f"{len(mine)} requests have a {name}, and in Day 6's metrics {len(theirs)}: those that reached both moments"
            )
        assert (self.recorder.steps, self.recorder.tokens) == (metrics.steps, metrics.total_tokens), "so are steps and tokens"
        used = self.recorder.used_slots / self.recorder.offered_slots
        assert used == pytest.approx(metrics.slot_utilization), "and the utilization of the slots"


def test_task_1_engine_a_recorder_sees_what_clients_see(toy: ToyModel) -> None:
    run = WatchedRun(toy)
    run.submit(ask(5, 6))
    run.submit(ask(20, 4, seed=1))
    run.submit(ask_with_eos(toy, 5, 3, 12, seed=2))
    run.submit(ask_with_eos(toy, 6, 0, 12, seed=3))
    late = run.submit(ask(4, 9, seed=4))
    for _ in range(3):
        run.step()
    run.submit(ask(9, 1, seed=5))
    finish_all(run)
    run.compare()
    run.compare_with_metrics()
    queue_times = {number: times.queue_time for number, times in run.recorder.requests.items()}
    assert queue_times[late.request_id] == max(queue_times.values()) > 1, (
        f"there were three slots, so the fifth request waited longest: queue times were {list(queue_times.values())}"
    )


def test_task_1_engine_whoever_is_cancelled_or_fails(toy: ToyModel) -> None:
    run = WatchedRun(toy, slots=2)
    speaks, fails, waits = run.submit(ask(5, 30)), run.submit(ask(6, 30, seed=1)), run.submit(ask(4, 3, seed=2))
    stays = run.submit(ask(4, 3, seed=3))
    while len(speaks.generated_tokens) < 3:
        run.step()
    run.now += 1
    run.engine.cancel(waits)
    run.engine.cancel(speaks)
    run.engine.end(fails, "error", OSError("the client's connection is gone"))
    ends = {request.request_id: run.now for request in (speaks, fails, waits)}
    finish_all(run)
    run.ended |= ends
    run.compare()
    run.compare_with_metrics()
    figures = [(run.recorder.requests[r.request_id].ttft is None) for r in (speaks, fails, waits, stays)]
    assert figures == [False, False, True, False], "a request cancelled as it waited never had a token, so it has no TTFT"
    assert run.recorder.requests[waits.request_id].queue_time is None, "nor was it ever admitted"


@pytest.mark.parametrize("seed", range(3))
def test_task_1_engine_random_traffic(toy: ToyModel, seed: int) -> None:
    chance, run = random.Random(seed), WatchedRun(toy)
    for number in range(30):
        if chance.random() < 0.5:
            run.submit(answer.Request(make_prompt(chance.randint(1, 25), number), chance.randint(1, 8)))
        run.step()
    finish_all(run)
    run.compare()
    run.compare_with_metrics()
