"""Task 4: what the engine tells its metrics. The figures themselves are task 7's; here each is compared with what can be seen
from outside while a clock ticks once per step, so that any right schedule passes."""

import random
from collections.abc import Callable
from math import floor
from typing import Any

import numpy as np
import pytest

from answer import answer
from support import POISON, FragileModel, ToyModel, alone, finish_all, is_poisoned, make_prompt, step_until


class ObservedRun:
    """An engine whose clock ticks once per step. Notes, from outside, when what happened to which request, and compares."""

    def __init__(self, model: Any, slots: int, **options: Any) -> None:
        self.now = 0.0
        self.slots = slots
        self.engine = answer.ContinuousBatchScheduler(model, slots, max_seq_len=96, clock=lambda: self.now, **options)
        self.requests: list[Any] = []
        self.arrived: dict[int, float] = {}
        self.admitted: dict[int, float] = {}
        self.first_token: dict[int, float] = {}
        self.finished: dict[int, float] = {}
        self.active: list[int] = []
        self.queue: list[int] = []

    @property
    def has_work(self) -> bool:
        return bool(self.engine.has_work)

    def submit(
        self,
        prompt: list[int],
        max_tokens: int,
        act: Callable[[Any], None] = lambda request: None,
        **options: Any,
    ) -> Any:
        """`act` is what its client does in every update."""

        def on_update(request: Any, new_text: str) -> None:
            if request.generated_tokens:
                self.first_token.setdefault(request.request_id, self.now)
            act(request)

        request = self.engine.submit(answer.Request(prompt, max_tokens, on_update=on_update, **options))
        self.requests.append(request)
        self.arrived[request.request_id] = self.now
        return request

    def cancel(self, request: Any) -> None:
        """A quarter of a tick after the last step or cancel."""
        self.now += 0.25
        self.engine.cancel(request)
        self._note_ends()

    def step(self) -> list[Any]:
        self.now = floor(self.now) + 1.0
        offsets = {request.request_id: request.offset for request in self.requests}
        waiting = [r for r in self.requests if r.state == "waiting"]
        ended: list[Any] = self.engine.step()
        for request in waiting:
            if request.offset > 0:
                self.admitted[request.request_id] = self.now
        self._note_ends()
        self.active.append(sum(r.offset > offsets.get(r.request_id, r.offset) for r in self.requests))
        self.queue.append(sum(r.request_id not in self.admitted for r in waiting))
        self._compare_this_step()
        return ended

    def _note_ends(self) -> None:
        for request in self.requests:
            if request.finish_reason is not None:
                self.finished.setdefault(request.request_id, self.now)

    def _compare_this_step(self) -> None:
        metrics, step = self.engine.metrics, len(self.active)
        assert metrics.steps == step, f"after {step} steps: close_iteration is called once in every step"
        assert metrics.active_requests == self.active[-1], (
            f"step {step}: active are those that the plan gave a chunk or a token (whose offset has moved), here"
            f" {self.active[-1]}, and not those whose last token is merely on its way"
        )
        assert metrics.queue_size == self.queue[-1], (
            f"step {step}: queued are the {self.queue[-1]} that the plan left waiting, before any client was told anything"
        )
        assert metrics.total_requests == len(self.requests), f"step {step}: all that were submitted have arrived"
        assert metrics.finished_requests == len(self.finished), (
            f"step {step}: a request that has ended, for any reason, has finished"
        )
        tokens = sum(len(request.generated_tokens) for request in self.requests)
        assert metrics.total_tokens == tokens, (
            f"step {step}: tokens are those that came back and were kept: no EOS, none that came too late, but the one at which"
            " an on_update raised"
        )

    def expected(self, name: str) -> list[float]:
        """A figure of every request that has it, as seen from outside."""
        spans = {
            "queue_time": (self.arrived, self.admitted),
            "ttft": (self.arrived, self.first_token),
            "tpot": (self.first_token, self.finished),
            "latency": (self.arrived, self.finished),
        }
        begins, ends = spans[name]
        found = []
        for request in self.requests:
            i, gaps = request.request_id, len(request.generated_tokens) - 1 if name == "tpot" else 1
            if i in begins and i in ends and gaps > 0:
                found.append((ends[i] - begins[i]) / gaps)
        return sorted(found)

    def compare(self) -> None:
        """All figures of the whole run."""
        metrics, shares = self.engine.metrics, [active / self.slots for active in self.active]
        meanings = {
            "queue_time": "from submit to the step that launches the first chunk of its prompt",
            "ttft": "from submit to the step in which its first token is read, one after it was launched",
            "tpot": "from the first token to the end, for each token after the first",
            "latency": "from submit to the step, or the cancel, that ended it",
        }
        for name, meaning in meanings.items():
            expected = self.expected(name)
            assert expected, f"no request of this run has a {name}"
            assert sorted(metrics.values(name)) == pytest.approx(expected), f"{name} goes {meaning}, on the scheduler's clock"
            percentiles = {f"p{p}": float(np.percentile(expected, p)) for p in (50, 95, 99)}
            assert metrics.percentiles(name) == pytest.approx(percentiles), f"percentiles of {name}, which goes {meaning}"
        assert metrics.average_latency == pytest.approx(np.mean(self.expected("latency"))), "the mean from arrival to end"
        seconds = floor(self.now) - min(self.arrived.values())
        assert metrics.throughput_tokens_per_sec == pytest.approx(metrics.total_tokens / seconds), (
            "tokens per second from the first arrival to the last iteration, on the scheduler's clock"
        )
        assert metrics.slot_utilization == pytest.approx(np.mean(shares)), f"active were {self.active} of {self.slots}"
        crowded = [share for share, waiting in zip(shares, self.queue, strict=True) if waiting]
        assert metrics.slot_utilization_while_waiting == pytest.approx(np.mean(crowded) if crowded else 1), (
            f"active were {self.active} of {self.slots}, and queued {self.queue}"
        )


def test_task_4_engine_metrics_of_a_scripted_run(toy: ToyModel) -> None:
    """An EOS, a cancel, a callback that raises, half a prompt: on a clock that ticks once per step, every figure is exact."""
    run = ObservedRun(toy, 3, prefill_step=16)
    end = alone(toy, make_prompt(5), 9)[4]

    def raise_at_the_second(request: Any) -> None:
        if len(request.generated_tokens) == 2:
            raise OSError("the client's connection is gone")

    def ask_again(request: Any) -> None:
        if request.state == "finished":
            run.submit(make_prompt(7, seed=2), 3)

    stops = run.submit(make_prompt(5), 9, eos_token_ids=[end])
    long = run.submit(make_prompt(40), 6)
    hangs_up = run.submit(make_prompt(5, seed=3), 40)
    breaks = run.submit(make_prompt(6), 9, raise_at_the_second)
    one_token = run.submit(make_prompt(4), 1, ask_again)
    half_read = run.submit(make_prompt(50), 5)
    impatient = run.submit(make_prompt(5, seed=4), 4)
    run.step()
    run.step()
    run.cancel(impatient)
    step_until(run, lambda: len(hangs_up.generated_tokens) == 3)
    run.cancel(hangs_up)
    step_until(run, lambda: half_read.offset > 0)
    assert half_read.state == "prefilling", "50 prompt tokens take several steps of 16"
    run.cancel(half_read)
    run.submit(make_prompt(20), 2)
    finish_all(run)

    reasons = {"stop": stops, "length": long, "cancelled": hangs_up, "error": breaks}
    for reason, request in reasons.items():
        assert request.finish_reason == reason, f"expected {reason!r}, got {request.finish_reason!r} ({request.error!r})"
    for request in (impatient, half_read):
        assert (request.finish_reason, request.generated_tokens) == ("cancelled", []), "cancelled before it spoke"
    assert (len(stops.generated_tokens), len(one_token.generated_tokens)) == (4, 1), "an EOS is not among the tokens"
    assert len(run.requests) == 9, "the one that submits at its end has submitted once"
    run.compare()


def test_task_4_ahead_metrics_of_the_first_token(toy: ToyModel) -> None:
    """Nobody competes for a slot here, so what the page says of an iteration fixes every step."""
    run = ObservedRun(toy, 4, prefill_step=16)
    for length, ttft in ((5, 2), (16, 2), (17, 3), (40, 4)):
        before = run.now
        request = run.submit(make_prompt(length), 3)
        finish_all(run)
        chunks = ttft - 1
        assert run.admitted[request.request_id] - before == 1, "the next step admits it"
        assert run.first_token[request.request_id] - before == ttft, (
            f"a prompt of {length} takes {chunks} steps of 16 tokens; what the last of them launches is read in the next"
        )
    assert sorted(run.engine.metrics.values("queue_time")) == [1, 1, 1, 1], "the next step admits it"
    assert sorted(run.engine.metrics.values("ttft")) == [2, 2, 3, 4], "time to the step in which the first token is read"
    run.compare()


@pytest.mark.parametrize("seed", range(3))
def test_task_4_failures_metrics_of_random_traffic(toy: ToyModel, seed: int) -> None:
    chance = random.Random(seed)
    run = ObservedRun(toy, 3, prefill_step=8)

    def act(request: Any) -> None:
        match chance.choice(["raise", "cancel", "cancel another"] + ["nothing"] * 15):
            case "raise":
                raise OSError("the client's connection is gone")
            case "cancel":
                run.engine.cancel(request)
            case "cancel another":
                run.engine.cancel(chance.choice(run.requests))

    for _ in range(40):
        if chance.random() < 0.5:
            run.submit(make_prompt(chance.randint(1, 25), seed), chance.randint(1, 8), act)
        if chance.random() < 0.15 and run.requests:
            run.cancel(chance.choice(run.requests))
        run.step()
    finish_all(run)
    run.compare()


def test_task_4_ahead_metrics_of_a_failing_model(toy: ToyModel) -> None:
    now = 0.0
    engine = answer.ContinuousBatchScheduler(FragileModel(toy, is_poisoned), 2, max_seq_len=64, clock=lambda: now)
    engine.submit(answer.Request([*make_prompt(5), POISON], 4))
    engine.submit(answer.Request(make_prompt(5), 1))
    ended = []
    while engine.has_work and now < 20:
        now += 1
        ended += [(now, request.finish_reason) for request in engine.step()]
    assert sorted(reason for _, reason in ended) == ["error", "length"], "the model fails on one of the prompts alone"
    metrics = engine.metrics
    assert metrics.finished_requests == metrics.total_requests == 2, "an end by error is an end, and the metrics hear of it"
    assert sorted(metrics.values("latency")) == sorted(time for time, _ in ended), "a latency for each, the failed one too"
    assert metrics.values("ttft") == [2], (
        "one TTFT: the model failed on the other prompt. This one's token is launched in the first step and read in the second"
    )
    assert metrics.total_tokens == 1, "and brought no token"


class CtrlC(BaseException):
    """Stands for KeyboardInterrupt, which would end the test run if it got out."""


def test_task_4_failures_metrics_after_an_interrupt(toy: ToyModel) -> None:
    def interrupt(request: Any, new_text: str) -> None:
        raise CtrlC

    now = 0.0
    engine = answer.ContinuousBatchScheduler(toy, 2, max_seq_len=64, clock=lambda: now)
    running = [engine.submit(answer.Request(make_prompt(5), 9, on_update=update)) for update in (None, interrupt)]
    waits = engine.submit(answer.Request(make_prompt(6), 1))
    ended, interrupts = [], 0
    while engine.has_work and now < 30:
        now += 1
        try:
            ended += engine.step()
        except CtrlC:
            interrupts += 1
    assert interrupts == 1, "the interrupt comes out of step"
    assert sorted(request.finish_reason for request in running) == ["error", "error"], "all that run end with it"
    assert (waits.finish_reason, len(ended)) == ("length", 3), "the waiting request is served, and all are returned"
    metrics = engine.metrics
    assert (metrics.total_requests, metrics.finished_requests) == (3, 3), "the metrics hear of every end, those by Ctrl-C too"
    assert len(metrics.values("latency")) == len(metrics.values("queue_time")) == 3, "the next step reports what came before"


def test_task_4_ahead_metrics_before_and_after_the_work(toy: ToyModel) -> None:
    engine = answer.ContinuousBatchScheduler(toy, 2)
    assert engine.metrics.average_latency == 0, "nothing has happened yet"
    engine.submit(answer.Request(make_prompt(4), 2))
    finish_all(engine)
    metrics = engine.metrics
    assert metrics.total_requests == metrics.finished_requests == len(metrics.values("latency")) == 1, "one came and went"
    assert (metrics.queue_size, metrics.active_requests) == (0, 0), (
        "the last step only reads: no request is active, and none waits"
    )
